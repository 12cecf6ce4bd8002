"""Prepared data that somebody damaged: opened and read properly, or refused with the folder's name."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz import contracts, seeds
from fuzz.mutators import mutate_shards
from megabyte_mm.data.storage.shards import DamagedShardsError, ShardReader, encode_index

PACKED = seeds.pack_shards(seeds.shard_folder())


def resealed(change):
    """The packed folder with an index that was changed and bears the right sha256."""
    index, _, shard = PACKED.partition(b"\n")
    content = {key: value for key, value in json.loads(index).items() if key not in ("format", "version", "sha256")}
    change(content)
    return encode_index(content) + b"\n" + shard


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("shards")


def test_a_sound_folder_is_opened(folder):
    seeds.unpack_shards(PACKED, folder)
    assert contracts.check_shards(folder)


@settings(max_examples=60)
@given(seed=st.integers(0, 2**32), at=st.integers(0, len(PACKED)), piece=st.binary(max_size=8))
def test_changed_shards_are_read_properly_or_refused(folder, seed, at, piece):
    changed = mutate_shards(PACKED, seed, lambda content: content[:at] + piece + content[at + len(piece) :])
    seeds.unpack_shards(changed, folder)
    contracts.check_shards(folder)


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("offset", [0, 5, -5]),
        ("offset", [2**62, 5, 5]),
        ("length", [2**63 - 1, 0, 9]),
        ("shard", [-1, 0, 0]),
        ("shard", [0, 0, 7]),
        ("kind", [0, 0, 9]),
        ("kind", [-1, 0, 0]),
        ("name", ["a.txt", "b.txt", 3]),
        ("name", ["a.txt", "b.txt", "b.txt"]),
    ],
)
def test_records_that_cannot_be_are_refused_when_the_folder_is_opened(folder, column, values):
    def change(content):
        content["records"][column] = values

    seeds.unpack_shards(resealed(change), folder)
    with pytest.raises(DamagedShardsError, match=str(folder)):
        ShardReader(folder)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("skipped", [{"path": 3, "reason": "x"}]),
        ("skipped", [{"path": "a"}]),
        ("skipped", 7),
        ("clipped", [{}]),
        ("notes", {"turned": "often"}),
        ("adapter", {"name": "text"}),
        ("adapter", {"name": 1, "settings": {}}),
        ("unused", "many"),
        ("kinds", [{"format": 1}] * 3),
    ],
)
def test_what_an_index_says_of_its_files_must_be_what_is_written_there(folder, field, value):
    seeds.unpack_shards(resealed(lambda content: content.update({field: value})), folder)
    with pytest.raises(DamagedShardsError, match=str(folder)):
        ShardReader(folder)


@pytest.mark.parametrize("name", ["../secret", "/dev/zero", "shard-00001.bin", 3])
def test_an_index_reads_no_file_but_its_own_shards(folder, name):
    def change(content):
        content["shards"][0]["name"] = name

    seeds.unpack_shards(resealed(change), folder)
    with pytest.raises(DamagedShardsError, match="names a shard"):
        ShardReader(folder)
