"""Shards that are made once: complete or reported as unfinished, and the same bytes whoever makes them."""

import errno
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from filelock import FileLock

from data_adapters import AudioAdapter, FileAdapter, TextAdapter, load_class
from data_adapters.base import MediaError
from data_adapters.io import UnavailableError
from megabyte_mm.data.files import find_files
from megabyte_mm.data.module import ByteData
from megabyte_mm.data.storage.base import LocalStorage
from megabyte_mm.data.storage.encoded_cache import load_or_encode
from megabyte_mm.data.storage.prepare import prepare
from megabyte_mm.data.storage.shards import DamagedShardsError, ShardReader, encode_index

SHARD = 100


@pytest.fixture
def root(tree):
    return tree(
        {f"{split}/{i:02d}.bin": 30 + 7 * i for split in ("train", "val") for i in range(9)} | {"train/x.bin": b""}
    )


def made(root, out, home, adapter=None, workers=1) -> ShardReader:
    return prepare(find_files(str(root), adapter or FileAdapter()), LocalStorage(out), home, workers, SHARD)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".lock"}


def test_what_is_prepared_is_what_training_would_encode(root, tmp_path, cache_folder):
    files = find_files(str(root), FileAdapter())
    prepared = prepare(files, LocalStorage(tmp_path / "out"), cache_folder)
    fresh = load_or_encode(files)
    assert prepared.key == fresh.key
    assert content(tmp_path / "out") == content(Path(str(fresh.storage)))


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
    assert [entry["path"] for entry in alone.metadata["skipped"]] == ["train/01.bin", "val/01.bin"]
    assert len(alone) == 17
    assert max(shard["bytes"] for shard in alone.metadata["shards"]) <= SHARD


def test_a_process_that_dies_is_reported_and_nothing_counts_as_done(root, tmp_path, cache_folder, own):
    (root / "val/deadly.bin").write_bytes(b"x")
    with pytest.raises(OSError, match=r"the process that read it was killed.*run the same command again"):
        made(root, tmp_path / "out", cache_folder, own(), workers=2)
    with pytest.raises(ValueError, match="was not prepared to the end: run megabyte-mm prepare again"):
        ByteData(str(tmp_path / "out")).setup()


@pytest.mark.parametrize("stop", [0, 1, 4, 9])
def test_an_interrupted_run_goes_on_and_ends_with_the_same_bytes(root, tmp_path, cache_folder, own, monkeypatch, stop):
    made(root, tmp_path / "whole", cache_folder, own())
    expected = content(tmp_path / "whole")
    write, count = LocalStorage.write, 0

    def failing(place, name, written):
        nonlocal count
        if name.startswith("part-"):
            count += 1
            if count > stop:
                raise KeyboardInterrupt
        write(place, name, written)

    with monkeypatch.context() as patch:
        patch.setattr(LocalStorage, "write", failing)
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
        patch.setattr(
            "megabyte_mm.data.storage.prepare.finish_index", lambda *_: (_ for _ in ()).throw(OSError("full"))
        )
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
        patch.setattr("megabyte_mm.data.storage.prepare.encode", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            made(root, tmp_path / "half", cache_folder)
    (root / "train/new.bin").write_bytes(b"new")
    with pytest.raises(ValueError, match=r"half: holds unfinished work on other files or settings"):
        made(root, tmp_path / "half", cache_folder)


def test_two_at_once_do_not_meet_in_one_folder(root, tmp_path, cache_folder):
    with FileLock(tmp_path / ".lock"):
        for same in (tmp_path, tmp_path / "x" / ".."):
            (tmp_path / "x").mkdir(exist_ok=True)
            with pytest.raises(ValueError, match="another process is preparing it"):
                made(root, same, cache_folder)


def test_processes_that_read_end_with_the_one_that_collects(root, tmp_path, cache_folder, own):
    code = (
        "import os, signal, sys; from pathlib import Path; from data_adapters import load_class;"
        "from megabyte_mm.data import encode; from megabyte_mm.data.files import find_files;"
        "files = find_files(sys.argv[1], load_class('own_of_a_prepare_test.Own')());"
        "made = encode._outcomes(files, files.names, [encode.Digest('', [])] * len(files.names), 2);"
        "next(made); import multiprocessing;"
        "print(*[child.pid for child in multiprocessing.active_children()], flush=True);"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, sys.path)])}
    done = subprocess.run(
        [sys.executable, "-c", code, str(root)], env=environment, capture_output=True, text=True, check=False
    )
    pids = [int(pid) for pid in done.stdout.split()]
    assert len(pids) == 2, done.stderr
    deadline = time.monotonic() + 20
    while any(map(alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(alive, pids))


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.mark.parametrize("prepared", [True, False])
def test_what_the_machine_cannot_read_just_now_is_not_left_out_for_good(root, tmp_path, cache_folder, prepared):
    class Failing(FileAdapter):
        name = "failing"
        full = True

        def read(self, path):
            if path.name == "03.bin" and self.full:
                raise OSError(errno.EMFILE, "Too many open files")
            return super().read(path)

    def work(adapter):
        return (
            made(root, tmp_path / "out", cache_folder, adapter)
            if prepared
            else load_or_encode(find_files(str(root), adapter))
        )

    adapter = Failing()
    with pytest.raises(UnavailableError, match=r"train/03\.bin: cannot be read: Too many open files"):
        work(adapter)
    adapter.full = False
    assert len(work(adapter)) == 19
    assert not work(adapter).metadata["skipped"]


def test_a_full_disk_is_reported_by_the_place_and_the_work_goes_on_later(root, tmp_path, cache_folder, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("megabyte_mm.data.storage.shard_writer.ShardWriter._close_shard", full)
        with pytest.raises(OSError, match=r"out: cannot be written: No space left on device; finished shards are kept"):
            made(root, tmp_path / "out", cache_folder)
    assert len(made(root, tmp_path / "out", cache_folder)) == 19


def test_nothing_readable_is_refused(root, tmp_path, cache_folder):
    class Never(FileAdapter):
        def read(self, path):
            raise MediaError(path, "is no good")

    with pytest.raises(ValueError, match=r"none of the files can be read: train/00\.bin: is no good"):
        made(root, tmp_path / "out", cache_folder, Never())
    assert content(tmp_path / "out") == {}


def test_training_takes_prepared_data_and_resumes_on_it_what_began_on_files(root, tmp_path, cache_folder):
    (root / "train/x.bin").unlink()
    prepare(find_files(str(root), FileAdapter()), LocalStorage(tmp_path / "out"), cache_folder)
    from_files, prepared = ByteData(str(root), FileAdapter(), window=16), ByteData(str(tmp_path / "out"), window=16)
    for data in (from_files, prepared):
        data.setup()
    assert prepared.adapter.name == "file"
    assert prepared.fingerprint == from_files.fingerprint
    ours, theirs = ([batch.ids.tolist() for batch in data.train_dataloader()] for data in (prepared, from_files))
    assert ours == theirs
    assert [name.split("/")[0] for name in prepared.train.reader.names][:1] == ["train"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda out: flip(out / "shard-00001.bin"), r"shard-00001\.bin: its content is not what was written"),
        (lambda out: flip(out / "index.json"), r"index\.json cannot be read"),
        (lambda out: (out / "index.json").unlink(), r"holds shards, but no sound index\.json"),
        (lambda out: (out / "index.json").write_bytes(b""), r"holds shards, but no sound index\.json"),
        (lambda out: (out / "shard-00000.bin").unlink(), r"shard-00000\.bin: is missing"),
        (lambda out: os.truncate(out / "shard-00000.bin", 50), r"shard-00000\.bin: 50 bytes, \d+ were written"),
    ],
)
def test_damage_is_reported_before_training(root, tmp_path, cache_folder, damage, message):
    made(root, tmp_path / "out", cache_folder)
    damage(tmp_path / "out")
    with pytest.raises(DamagedShardsError, match=message):
        ByteData(str(tmp_path / "out")).setup()


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


def test_another_adapter_than_the_data_were_prepared_with_is_refused(root, tmp_path, cache_folder):
    made(root, tmp_path / "out", cache_folder)
    with pytest.raises(ValueError, match=r"data\.adapter is audio .*, but .*out was prepared with the adapter file"):
        ByteData(str(tmp_path / "out"), AudioAdapter()).setup()


def test_a_pipe_in_the_indexs_place_is_not_waited_for(tmp_path):
    (tmp_path / "data").mkdir()
    os.mkfifo(tmp_path / "data/index.json")
    (tmp_path / "data/a.txt").write_bytes(b"text " * 99)
    data = ByteData(str(tmp_path / "data"), TextAdapter(), window=8)
    with pytest.warns(UserWarning, match=r"index\.json: is a pipe, not a file"):
        data.setup()


def test_a_folder_may_be_named_as_a_url(root, tmp_path, cache_folder):
    made(root, tmp_path / "out", cache_folder)
    for path in (root, tmp_path / "out"):
        data = ByteData(f"file://{path}", FileAdapter(), window=8)
        with pytest.warns(UserWarning, match="holds no bytes"):
            data.setup()
        assert len(data.train) == 9


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda index: index.pop("adapter"), "does not name the adapter"),
        (lambda index: index.update(adapter={"name": "audio", "settings": {}}), "that the audio adapter cannot read"),
        (lambda index: index.update(adapter={"name": "audio", "settings": {"rate": "x"}}), "whole number"),
        (lambda index: index.update(adapter={"name": "mine", "settings": {}}), "unknown adapter 'mine'"),
    ],
)
def test_an_index_whose_adapter_cannot_be_is_refused(root, tmp_path, cache_folder, change, message):
    made(root, tmp_path / "out", cache_folder)
    index = json.loads((tmp_path / "out/index.json").read_bytes())
    change(index)
    rest = {key: value for key, value in index.items() if key not in ("format", "version", "sha256")}
    (tmp_path / "out/index.json").write_bytes(encode_index(rest))
    with pytest.raises(ValueError, match=message):
        ByteData(str(tmp_path / "out")).setup()


def test_an_index_of_ones_own_is_text_like_any_other(tmp_path):
    (tmp_path / "books").mkdir()
    (tmp_path / "books/index.json").write_text('{"format": "mine"}' * 9)
    data = ByteData(str(tmp_path / "books"), TextAdapter(), window=8)
    data.setup()
    assert data.train.name(0) == "index.json"
