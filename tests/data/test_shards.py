import json
import pickle
import tracemalloc
from contextlib import closing

import numpy as np
import pytest

from data_adapters.base import ByteStream
from megabyte_mm.data.storage.shard_writer import ShardWriter, write_index
from megabyte_mm.data.storage.shards import DamagedShardsError, ShardReader, encode_index

LENGTHS = [3, 0, 7, 25, 1, 10, 9]


def stream(length: int, **format: int) -> ByteStream:
    return ByteStream(np.arange(length, dtype=np.uint8), format)


@pytest.fixture
def folder(tmp_path):
    writer = ShardWriter(tmp_path, shard_bytes=10)
    for i, length in enumerate(LENGTHS):
        writer.add(f"{i}.raw", stream(length, width=length % 2), "toy")
    write_index(tmp_path, writer.finish(skipped=[]))
    return tmp_path


def test_records_come_back_with_their_format(folder):
    reader = ShardReader(folder)
    assert reader.names == tuple(f"{i}.raw" for i in range(len(LENGTHS)))
    for row, length in enumerate(LENGTHS):
        np.testing.assert_array_equal(reader.read(row), np.arange(length))
        assert reader.stream(row).format == {"width": length % 2}
    reader.verify()


def test_no_record_is_split_and_a_large_one_has_its_own_shard(folder):
    sizes = [shard["bytes"] for shard in ShardReader(folder).metadata["shards"]]
    assert sizes == [10, 25, 1, 10, 9]


def test_a_range_is_clipped_to_its_record(folder):
    reader = ShardReader(folder)
    assert reader.read(2, 5, 100).tolist() == [5, 6]
    assert reader.read(2, 7, 9).tolist() == []
    with pytest.raises(ValueError, match="read-only"):
        reader.read(2)[0] = 1


def test_it_pickles_small_and_reads_after(folder):
    reader = ShardReader(folder)
    reader.read(3)
    data = pickle.dumps(reader)
    assert len(data) < 500
    assert pickle.loads(data).read(3, 20).tolist() == [20, 21, 22, 23, 24]


def test_only_empty_records_make_no_shard(tmp_path):
    writer = ShardWriter(tmp_path)
    writer.add("a", stream(0), "toy")
    write_index(tmp_path, writer.finish())
    assert ShardReader(tmp_path).read(0).tolist() == []


def truncate(folder):
    (folder / "shard-00001.bin").write_bytes(b"short")


def lose(folder):
    (folder / "shard-00001.bin").unlink()


def scribble(folder):
    (folder / "index.json").write_text('{"version": 2, "records": ')


def unindex(folder):
    (folder / "index.json").unlink()


def edit(key, value):
    """A sound index with another content."""

    def change(folder):
        index = json.loads((folder / "index.json").read_bytes())
        (index["records"] if key in index["records"] else index)[key] = value
        (folder / "index.json").write_bytes(encode_index({name: index[name] for name in index if name not in HEAD}))

    return change


HEAD = ("format", "version", "sha256")


def replace(old, new):
    def change(folder):
        content = (folder / "index.json").read_bytes()
        assert old in content
        (folder / "index.json").write_bytes(content.replace(old, new, 1))

    return change


@pytest.mark.parametrize(
    "damage",
    [
        truncate,
        lose,
        scribble,
        unindex,
        replace(b'"version":3', b'"version":99'),
        replace(b"0.raw", b"1.raw"),
        edit("offset", [0]),
        edit("records", []),
        edit("shards", 3),
        edit("length", [2**70] * 7),
    ],
)
def test_damage_is_seen_on_opening(folder, damage):
    damage(folder)
    with pytest.raises(DamagedShardsError, match=str(folder)):
        ShardReader(folder)


def test_a_changed_byte_is_seen_by_verify(folder):
    (folder / "shard-00001.bin").write_bytes(bytes(25))
    with pytest.raises(DamagedShardsError, match="shard-00001"):
        ShardReader(folder).verify()


def test_a_record_costs_its_name_and_its_place_in_columns(tmp_path):
    """Not an object of its own, which would make a hundred thousand of them slow to open."""
    with closing(ShardWriter(tmp_path)) as writer:
        for i in range(10_000):
            writer.add(f"train/class/{i:06d}.txt", stream(4), "text")
        write_index(tmp_path, writer.finish())
    tracemalloc.start()
    try:
        reader = ShardReader(tmp_path)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(reader) == 10_000
    assert held / len(reader) < 150  # a name of 23 letters 64 + 8, four numbers 32; a dict alone would take 200 more
