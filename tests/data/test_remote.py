"""Shards on an S3 server of our own: real requests over a real connection."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest

from data_adapters import FileAdapter
from megabyte_mm.cli.main import main
from megabyte_mm.data.files import find_files
from megabyte_mm.data.module import ByteData
from megabyte_mm.data.sources import Source
from megabyte_mm.data.storage.prepare import prepare
from megabyte_mm.data.storage.remote import RemoteStorage
from megabyte_mm.data.storage.shard_cache import ShardCache
from megabyte_mm.data.storage.shards import OPEN_SHARDS, DamagedShardsError, ShardReader

SHARD = 2**10
FILES = 24


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of an S3 server that keeps what it is given in memory."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture
def bucket(server, monkeypatch) -> str:
    for name, value in {
        "AWS_ENDPOINT_URL": server,
        "AWS_ACCESS_KEY_ID": "someone",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    system = fsspec.filesystem("s3")
    name = f"bucket-{os.urandom(4).hex()}"
    system.mkdir(name)
    return f"s3://{name}"


@pytest.fixture
def root(tree) -> Path:
    return tree({f"train/{i:02d}.bin": 700 for i in range(FILES)} | {"val/a.bin": 300, "val/b.bin": 900})


@pytest.fixture
def prepared(root, bucket, cache_folder) -> str:
    url = f"{bucket}/deep/data"
    place = RemoteStorage(url, ShardCache(cache_folder / "shards", 2**30))
    prepare(find_files(str(root), FileAdapter()), place, cache_folder, shard_bytes=SHARD)
    return url


def batches(data: ByteData, epochs: int = 2) -> list:
    data.setup()
    loader = data.train_dataloader()
    return [batch.ids.tolist() for _ in range(epochs) for batch in loader]


def kept(cache: Path) -> list[Path]:
    return list((cache / "shards").glob("*.bin"))


GIB = 2**30
ROOM = (OPEN_SHARDS + 2) * SHARD


@pytest.mark.parametrize("workers", [0, 2])
def test_training_from_afar_sees_what_training_at_hand_sees_within_the_bound(
    root, prepared, tmp_path, cache_folder, workers
):
    near = prepare_near(root, tmp_path / "near", cache_folder)
    far = ByteData(prepared, window=64, shard_cache=ROOM / GIB, num_workers=workers)
    assert batches(far) == batches(ByteData(near, window=64))
    sizes = [file.stat().st_size for file in kept(cache_folder)]
    assert OPEN_SHARDS <= len(sizes) < len(far.train.reader.metadata["shards"])
    assert sum(sizes) <= ROOM
    assert [batch.ids.shape[1] for batch in far.val_dataloader()] == [64, 64]
    assert not list((cache_folder / "shards").glob("*.fetching"))


def prepare_near(root: Path, out: Path, cache: Path) -> str:
    from megabyte_mm.data.storage.base import LocalStorage

    prepare(find_files(str(root), FileAdapter()), LocalStorage(out), cache, shard_bytes=SHARD)
    return str(out)


def test_shards_are_fetched_before_their_turn_where_there_is_room(prepared, cache_folder):
    data = ByteData(prepared, window=64, batch_size=2, shard_cache=1.0)
    data.setup()
    batches = iter(data.train_dataloader())
    next(batches)
    deadline = time.monotonic() + 30
    while len(kept(cache_folder)) < 2 * OPEN_SHARDS and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(kept(cache_folder)) >= 2 * OPEN_SHARDS


def test_a_cache_that_cannot_hold_what_is_read_at_a_time_is_refused(prepared):
    with pytest.raises(ValueError, match=r"data\.shard_cache .* GiB is too small for s3://"):
        ByteData(prepared, window=64, shard_cache=3 * SHARD / GIB).setup()


def test_the_sources_of_a_mix_share_one_bound(root, bucket, cache_folder, monkeypatch):
    cache, fetched, get = ShardCache(cache_folder / "shards", 2**30), [], ShardCache._fetch

    def counted(self, path, *rest):
        fetched.append(path.name)
        get(self, path, *rest)

    monkeypatch.setattr(ShardCache, "_fetch", counted)
    for name in ("one", "two"):
        (root / "train/00.bin").write_bytes(name.encode() * 9)
        prepare(find_files(str(root), FileAdapter()), RemoteStorage(f"{bucket}/mix/{name}", cache), cache_folder)
    sources = {name: Source(adapter=FileAdapter()) for name in ("one", "two")}
    size = sum((root / f"train/{i:02d}.bin").stat().st_size for i in range(FILES)) + 1200
    batches(ByteData(f"{bucket}/mix", window=64, sources=sources, shard_cache=2.1 * size / GIB))
    assert len(fetched) == len(set(fetched)) == 2
    with pytest.raises(ValueError, match=r"data\.shard_cache .* GiB is too small for s3://.*/one, s3://.*/two"):
        ByteData(f"{bucket}/mix", window=64, sources=sources, shard_cache=1.9 * size / GIB).setup()


def test_what_was_fetched_is_not_fetched_again(prepared, cache_folder):
    batches(ByteData(prepared, window=64))
    for file in kept(cache_folder):
        os.utime(file, (1, 1))
    system = fsspec.filesystem("s3")
    for name in system.ls(prepared, detail=False):
        if name.endswith(".bin"):
            system.pipe_file(name, bytes(system.size(name)))
    batches(ByteData(prepared, window=64))


def test_a_changed_shard_is_reported_and_not_kept(prepared, cache_folder):
    system = fsspec.filesystem("s3")
    name = f"{prepared}/shard-00000.bin"
    system.pipe_file(name, bytes(system.size(name)))
    reader = ShardReader(RemoteStorage(prepared, ShardCache(cache_folder / "shards", 2**30)))
    with pytest.raises(DamagedShardsError, match=r"s3://.*/shard-00000\.bin: its content is not what was written"):
        reader.read(0)
    assert list((cache_folder / "shards").iterdir()) == list((cache_folder / "shards").glob("*.lock"))
    assert len(reader.read(len(reader) - 1)) == 900


def test_a_loading_process_reports_a_changed_shard_in_a_line(prepared):
    system = fsspec.filesystem("s3")
    for name in system.ls(prepared, detail=False):
        if name.endswith(".bin"):
            system.pipe_file(name, bytes(system.size(name)))
    with pytest.raises(DamagedShardsError, match=r"^s3://\S*/shard-\d+\.bin: its content is not what was written$"):
        batches(ByteData(prepared, window=64, num_workers=1))


def test_an_upload_that_was_interrupted_goes_on(root, bucket, cache_folder, monkeypatch):
    place, put = RemoteStorage(f"{bucket}/half", ShardCache(cache_folder, 1)), RemoteStorage.put
    sent: list[str] = []
    losses = ["connection lost"]

    def failing(self, file, name):
        if len(sent) == 3 and losses:
            raise OSError(losses.pop())
        sent.append(name)
        put(self, file, name)

    monkeypatch.setattr(RemoteStorage, "put", failing)
    files = find_files(str(root), FileAdapter())
    with pytest.raises(OSError, match="connection lost"):
        prepare(files, place, cache_folder, shard_bytes=SHARD)
    with pytest.raises(ValueError, match="was not prepared to the end"):
        ByteData(place.url).setup()
    reader = prepare(files, place, cache_folder, shard_bytes=SHARD)
    assert len(sent) == len(set(sent)) == len(reader.metadata["shards"])
    assert sorted(place.sizes()) == ["index.json", *(f"shard-{i:05d}.bin" for i in range(len(sent)))]
    for row in range(len(reader)):
        np.testing.assert_array_equal(
            reader.read(row), np.frombuffer((root / reader.names[row]).read_bytes(), np.uint8)
        )
    assert not list(cache_folder.glob(".sending-*"))


def test_mistakes_are_reported_in_a_line(bucket, root, capfd, monkeypatch):
    new = ("prepare", str(root), "--adapter", "data_adapters.FileAdapter", "--out", "s3://no-such-bucket/x")
    assert main(list(new)) == 2
    message = "error: s3://no-such-bucket/x/prepare.json: no such file, folder or bucket\n"
    assert capfd.readouterr().err.endswith(message)
    with pytest.raises(
        FileNotFoundError, match=r"nowhere: no data there, neither prepared \(no index.json\) nor files"
    ):
        ByteData(f"{bucket}/nowhere").setup()
    with pytest.raises(OSError, match="Protocol not known: ftpx"):
        ByteData("ftpx://host/data").setup()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    with pytest.raises(OSError, match="s3://.*: Could not connect to the endpoint"):
        ByteData(f"{bucket}/data").setup()
