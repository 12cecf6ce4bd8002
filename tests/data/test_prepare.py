"""Shards that are made once: complete or told to be unfinished, and the same bytes whoever makes them."""

import os
import sys
from pathlib import Path

import pytest

from data_adapters import AudioAdapter, FileAdapter, TextAdapter, load_class
from data_adapters.base import MediaError
from megabyte_mm.data.cache import encoded
from megabyte_mm.data.files import find_files
from megabyte_mm.data.module import ByteData
from megabyte_mm.data.places import LocalPlace
from megabyte_mm.data.prepare import prepare
from megabyte_mm.data.shards import DamagedShardsError, ShardReader

SHARD = 100


@pytest.fixture
def root(tree):
    return tree(
        {f"{split}/{i:02d}.bin": 30 + 7 * i for split in ("train", "val") for i in range(9)} | {"train/x.bin": b""}
    )


def made(root, out, home, adapter=None, workers=1) -> ShardReader:
    return prepare(find_files(str(root), adapter or FileAdapter()), LocalPlace(out), home, workers, SHARD)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_is_prepared_is_what_training_would_encode(root, tmp_path, cache_folder):
    files = find_files(str(root), FileAdapter())
    prepared = prepare(files, LocalPlace(tmp_path / "out"), cache_folder)
    fresh = encoded(files)
    assert prepared.key == fresh.key
    assert content(tmp_path / "out") == content(Path(str(fresh.place)))


@pytest.fixture
def own(tmp_path, monkeypatch):
    """An adapter of a user's own, which other processes can import; some of its files cannot be read, one is deadly."""
    (tmp_path / "own_of_a_prepare_test.py").write_text(
        """
import os, signal
from data_adapters import FileAdapter, MediaError

class Own(FileAdapter):
    name = "own"
    seen = []

    def read(self, path):
        self.seen.append(path.name)
        if path.stat().st_size == 37:
            raise MediaError(path, "is no good")
        if path.name == "deadly.bin":
            os.kill(os.getpid(), signal.SIGKILL)
        return super().read(path)
"""
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield load_class("own_of_a_prepare_test.Own")
    del sys.modules["own_of_a_prepare_test"]


def test_processes_make_the_same_bytes_as_one(root, tmp_path, cache_folder, own):
    alone = made(root, tmp_path / "alone", cache_folder, own())
    made(root, tmp_path / "many", cache_folder, own(), workers=2)
    assert content(tmp_path / "alone") == content(tmp_path / "many")
    assert [entry["path"] for entry in alone.about["skipped"]] == ["train/01.bin", "val/01.bin"]
    assert len(alone) == 17
    assert max(shard["bytes"] for shard in alone.about["shards"]) <= SHARD


def test_a_process_that_dies_is_told_and_nothing_counts_as_done(root, tmp_path, cache_folder, own):
    (root / "val/deadly.bin").write_bytes(b"x")
    with pytest.raises(OSError, match=r"the process that read it was killed.*run the same command again"):
        made(root, tmp_path / "out", cache_folder, own(), workers=2)
    with pytest.raises(ValueError, match="was not prepared to the end: run megabyte-mm prepare again"):
        ByteData(str(tmp_path / "out")).setup()


@pytest.mark.parametrize("stop", [0, 1, 4, 9])
def test_an_interrupted_run_goes_on_and_ends_with_the_same_bytes(root, tmp_path, cache_folder, own, monkeypatch, stop):
    made(root, tmp_path / "whole", cache_folder, own())
    expected = content(tmp_path / "whole")
    write, count = LocalPlace.write, 0

    def failing(place, name, written):
        nonlocal count
        if name.startswith("part-"):
            count += 1
            if count > stop:
                raise KeyboardInterrupt
        write(place, name, written)

    with monkeypatch.context() as patch:
        patch.setattr(LocalPlace, "write", failing)
        with pytest.raises(KeyboardInterrupt):
            made(root, tmp_path / "out", cache_folder, own())
    own.seen.clear()
    made(root, tmp_path / "out", cache_folder, own())
    assert content(tmp_path / "out") == expected
    assert len(own.seen) <= 19 - stop


def test_finished_work_is_not_done_again(root, tmp_path, cache_folder, own):
    made(root, tmp_path / "out", cache_folder, own())
    own.seen.clear()
    made(root, tmp_path / "out", cache_folder, own())
    assert own.seen == []


def test_a_shard_that_was_lost_on_the_way_is_made_anew(root, tmp_path, cache_folder, own, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("megabyte_mm.data.prepare.finished", lambda *_: (_ for _ in ()).throw(OSError("full")))
        with pytest.raises(OSError, match="full"):
            made(root, tmp_path / "out", cache_folder, own())
    (tmp_path / "out/shard-00002.bin").write_bytes(b"short")
    made(root, tmp_path / "out", cache_folder, own()).verify()


def test_other_work_is_never_mixed_with_or_written_over(root, tmp_path, cache_folder, own, monkeypatch):
    busy = tmp_path / "busy"
    busy.mkdir()
    (busy / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"busy: is not empty \(it holds notes\.txt\)"):
        made(root, busy, cache_folder)
    made(root, tmp_path / "out", cache_folder)
    with pytest.raises(ValueError, match="holds prepared data of other files or settings"):
        made(root, tmp_path / "out", cache_folder, own())
    with monkeypatch.context() as patch:
        patch.setattr("megabyte_mm.data.prepare.encode", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            made(root, tmp_path / "half", cache_folder)
    (root / "train/new.bin").write_bytes(b"new")
    with pytest.raises(ValueError, match=r"half: holds unfinished work on other files or settings"):
        made(root, tmp_path / "half", cache_folder)


def test_nothing_readable_is_refused(root, tmp_path, cache_folder):
    class Never(FileAdapter):
        def read(self, path):
            raise MediaError(path, "is no good")

    with pytest.raises(ValueError, match=r"not one file can be read: train/00\.bin: is no good"):
        made(root, tmp_path / "out", cache_folder, Never())


def test_training_takes_prepared_data_and_resumes_on_it_what_began_on_files(root, tmp_path, cache_folder):
    (root / "train/x.bin").unlink()
    prepare(find_files(str(root), FileAdapter()), LocalPlace(tmp_path / "out"), cache_folder)
    from_files, prepared = ByteData(str(root), FileAdapter(), window=16), ByteData(str(tmp_path / "out"), window=16)
    for data in (from_files, prepared):
        data.setup()
    assert prepared.adapter.name == "file"
    assert prepared.fingerprint == from_files.fingerprint
    ours, theirs = ([batch.ids.tolist() for batch in data.train_dataloader()] for data in (prepared, from_files))
    assert ours == theirs
    assert [name.split("/")[0] for name in prepared.train.reader.names][:1] == ["train"]


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda out: flip(out / "shard-00001.bin"), r"shard-00001\.bin: its content is not what was written"),
        (lambda out: flip(out / "index.json"), r"index\.json cannot be read"),
        (lambda out: (out / "index.json").unlink(), r"holds shards, but no sound index\.json"),
        (lambda out: (out / "index.json").write_bytes(b""), r"holds shards, but no sound index\.json"),
        (lambda out: (out / "shard-00000.bin").unlink(), r"shard-00000\.bin: is missing"),
        (lambda out: os.truncate(out / "shard-00000.bin", 50), r"shard-00000\.bin: 50 bytes, \d+ were written"),
    ],
)
def test_damage_is_told_before_training(root, tmp_path, cache_folder, damage, told):
    made(root, tmp_path / "out", cache_folder)
    damage(tmp_path / "out")
    with pytest.raises(DamagedShardsError, match=told):
        ByteData(str(tmp_path / "out")).setup()


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


def test_another_adapter_than_the_data_were_prepared_with_is_refused(root, tmp_path, cache_folder):
    made(root, tmp_path / "out", cache_folder)
    with pytest.raises(ValueError, match=r"prepared with the adapter file .*, and data\.adapter is audio"):
        ByteData(str(tmp_path / "out"), AudioAdapter()).setup()


def test_an_index_of_ones_own_is_text_like_any_other(tmp_path):
    (tmp_path / "books").mkdir()
    (tmp_path / "books/index.json").write_text('{"format": "mine"}' * 9)
    data = ByteData(str(tmp_path / "books"), TextAdapter(), window=8)
    data.setup()
    assert data.train.name(0) == "index.json"
