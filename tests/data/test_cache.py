import hashlib
import importlib
import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from data_adapters.base import ByteStream, MediaError
from data_adapters.file import FileAdapter
from data_adapters.text import TextAdapter
from megabyte_mm.data import digests
from megabyte_mm.data.files import Files, find_files
from megabyte_mm.data.storage import encoded_cache
from megabyte_mm.data.storage.base import LocalStorage
from megabyte_mm.data.storage.encoded_cache import cache_folder, load_or_encode
from megabyte_mm.data.storage.shards import ShardReader


class Counting(TextAdapter):
    """Counts what it reads, refuses files that hold "bad", and notes what it changes."""

    def __init__(self) -> None:
        self.reads = 0

    def read(self, path):
        self.reads += 1
        stream = super().read(path)
        if b"bad" in bytes(stream.data):
            raise MediaError(path, "is bad")
        notes = (f"resized from {len(stream.data)}x1", "clipped 3 samples") if b"long" in bytes(stream.data) else ()
        return ByteStream(stream.data, stream.format, notes)


def entries(home: Path) -> list[Path]:
    return sorted(path for path in home.iterdir() if path.name != "digests")


def folder_of(reader: ShardReader) -> Path:
    assert isinstance(reader.storage, LocalStorage)
    return reader.storage.folder


def test_files_are_encoded_once_and_again_only_when_they_change(tree, cache_folder):
    root, adapter = tree({"a.txt": b"one", "b.txt": b"two"}), Counting()
    first = load_or_encode(find_files(str(root), adapter))
    again = load_or_encode(find_files(str(root), adapter))
    assert (adapter.reads, folder_of(again)) == (2, folder_of(first))
    assert bytes(again.read(1)) == b"two"
    (root / "b.txt").write_bytes(b"new")
    changed = load_or_encode(find_files(str(root), adapter))
    assert bytes(changed.read(1)) == b"new"
    assert len(entries(cache_folder)) == 2


def test_the_key_holds_the_adapters_settings_and_not_the_place(tree, tmp_path):
    root = tree({"a.bin": 9})
    moved = tmp_path / "moved"
    keys = [folder_of(load_or_encode(find_files(str(root), FileAdapter(suffix)))) for suffix in (".a", ".b")]
    root.rename(moved)
    assert keys[0] != keys[1] == folder_of(load_or_encode(find_files(str(moved), FileAdapter(".b"))))


OWN = """
from data_adapters import ByteStream, TextAdapter

class Own(TextAdapter):
    def read(self, path):
        stream = super().read(path)
        return ByteStream(stream.data {change}, stream.format)
"""


def test_an_adapter_of_ones_own_is_asked_again_when_its_code_changes(tree, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    files = find_files(str(tree({"a.txt": b"abc"})), TextAdapter())
    seen = [bytes(load_or_encode(files).read(0))]
    for change in ("+ 1", "+ 2"):
        (tmp_path / "own_of_a_cache_test.py").write_text(OWN.format(change=change))
        importlib.invalidate_caches()
        sys.modules.pop("own_of_a_cache_test", None)
        own = importlib.import_module("own_of_a_cache_test").Own()
        seen.append(bytes(load_or_encode(replace(files, adapter=own)).read(0)))
    assert seen == [b"abc", b"bcd", b"cde"]


def test_the_cache_lies_where_asked(tmp_path, monkeypatch):
    assert cache_folder("/x") == Path("/x")
    monkeypatch.setenv("MEGABYTE_MM_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("MEGABYTE_MM_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "megabyte-mm"


@pytest.mark.parametrize("home", ["a file", "missing"])
def test_without_a_home_the_cache_is_temporary_and_says_what_to_set(tmp_path, monkeypatch, caplog, home):
    monkeypatch.delenv("MEGABYTE_MM_CACHE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    if home == "a file":
        (tmp_path / "home").touch()
    else:

        def unknown(path):
            raise RuntimeError("Could not determine home directory.")

        monkeypatch.setattr(Path, "expanduser", unknown)
    encoded_cache._temporary_folder.cache_clear()
    folder = cache_folder()
    assert folder == cache_folder()
    assert folder.is_dir()
    [record] = caplog.records
    assert record.message == (
        f"no home folder to keep encoded files in: they are in {folder} until this command ends; name a folder with "
        "--data.cache_dir or the variable MEGABYTE_MM_CACHE"
    )
    encoded_cache._temporary_folder.cache_clear()


def test_unreadable_files_are_listed_and_notes_counted(tree):
    root = tree({"a.txt": b"bad", "b.txt": b"long 1", "c.txt": b"long 22", "d.txt": b"fine"})
    reader = load_or_encode(find_files(str(root), Counting()))
    assert reader.names == ("b.txt", "c.txt", "d.txt")
    assert reader.metadata["skipped"] == [{"path": "a.txt", "reason": "is bad"}]
    assert reader.metadata["notes"] == {"resized from #x#": 2, "clipped # samples": 2}
    assert [entry["path"] for entry in reader.metadata["clipped"]] == ["b.txt", "c.txt"]


def test_a_vanished_file_is_skipped(tree):
    files = find_files(str(tree({"a.txt": 1, "b.txt": 1})))
    (files.root / "a.txt").unlink()
    assert [entry["path"] for entry in load_or_encode(files).metadata["skipped"]] == ["a.txt"]


class Meddling(TextAdapter):
    """Lets something happen to each file named "a.txt" just before it is read, as another program might."""

    def __init__(self, meddle: Callable[[Path], object]) -> None:
        self.meddle = meddle

    def read(self, path):
        if path.name == "a.txt":
            self.meddle(path)
        return super().read(path)


@pytest.mark.parametrize("meddle", [lambda path: path.write_bytes(b"new"), Path.unlink])
def test_a_file_changed_between_hashing_and_reading_is_not_kept_under_its_old_content(tree, meddle):
    root = tree({"a.txt": b"old", "b.txt": b"other"})
    reader = load_or_encode(find_files(str(root), Meddling(meddle)))
    assert reader.metadata["skipped"] == [{"path": "a.txt", "reason": "changed while it was read"}]
    assert reader.names == ("b.txt",)
    (root / "a.txt").write_bytes(b"old")
    again = load_or_encode(find_files(str(root), Meddling(Path.exists)))
    assert again.metadata["skipped"] == []
    assert [bytes(again.read(row)) for row in range(2)] == [b"old", b"other"]


def test_a_file_touched_between_hashing_and_reading_is_kept(tree):
    root = tree({"a.txt": b"old"})
    reader = load_or_encode(find_files(str(root), Meddling(lambda path: os.utime(path, (0, 0)))))
    assert (reader.names, reader.metadata["skipped"]) == (("a.txt",), [])


def test_nothing_readable_gives_the_first_reasons_and_leaves_nothing(tree, cache_folder):
    files = find_files(str(tree({f"{i}.txt": b"bad" for i in range(9)})), Counting())
    with pytest.raises(
        ValueError, match=r"none of the files can be read: 0.txt: is bad; 1.txt: is bad; 2.txt: is bad; \.\.\."
    ):
        load_or_encode(files)
    assert entries(cache_folder) == []


@pytest.mark.parametrize("damage", ["shard-00000.bin", "index.json"])
def test_a_damaged_entry_is_made_anew(tree, cache_folder, damage):
    files = find_files(str(tree({"a.txt": 100})))
    folder = folder_of(load_or_encode(files))
    (folder / damage).write_bytes(b"{")
    assert len(load_or_encode(files).read(0)) == 100
    assert entries(cache_folder) == [folder]


def test_digests_are_remembered_for_files_at_rest_and_survive_a_damaged_memo(tree, tmp_path, monkeypatch):
    path = tree({"a.txt": b"one"}) / "a.txt"
    memo = tmp_path / "memo.json"
    hashed = []
    real = digests._sha256

    def counted(path):
        hashed.append(path)
        return real(path)

    monkeypatch.setattr(digests, "_sha256", counted)
    monkeypatch.setattr(digests, "_SETTLED_NS", 0)
    first = digests.file_digests([path], memo)
    assert digests.file_digests([path], memo) == first
    assert len(hashed) == 1
    for damaged in ("", "[]", "null", '{"x": 3}', '{"x": [1]}'):
        memo.write_text(damaged)
        assert digests.file_digests([path], memo) == first
    path.write_bytes(b"two")
    assert digests.file_digests([path], memo) != first


def test_a_file_changed_just_now_is_not_remembered(tree, tmp_path):
    path = tree({"a.txt": b"one"}) / "a.txt"
    memo = tmp_path / "memo.json"
    digests.file_digests([path], memo)
    assert not memo.exists() or json.loads(memo.read_text()) == {}


class Slow(FileAdapter):
    """Takes its time over every file, and says on stdout that it began."""

    def read(self, path):
        print("reading", flush=True)
        time.sleep(0.05)
        return super().read(path)


def encode_slowly(root: str, home: str, answers) -> None:
    reader = load_or_encode(find_files(root, Slow()), home)
    answers.put((str(folder_of(reader)), [bytes(reader.read(row)) for row in range(len(reader))]))


def test_two_processes_at_once_share_one_entry(tree, cache_folder):
    root = tree({f"{i}.bin": 50 for i in range(8)})
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    workers = [context.Process(target=encode_slowly, args=(str(root), str(cache_folder), answers)) for _ in range(2)]
    for worker in workers:
        worker.start()
    first, second = answers.get(), answers.get()
    for worker in workers:
        worker.join()
    assert first == second
    assert first[1] == [(root / f"{i}.bin").read_bytes() for i in range(8)]
    assert [str(path) for path in entries(cache_folder)] == [first[0]]


KILLED = """
import sys, time
from data_adapters.file import FileAdapter
from megabyte_mm.data.storage.encoded_cache import load_or_encode
from megabyte_mm.data.files import find_files

class Slow(FileAdapter):
    def read(self, path):
        if path.name == "5.bin":
            print("half way", flush=True)
            time.sleep(60)
        return super().read(path)

load_or_encode(find_files(sys.argv[1], Slow()))
"""


def test_a_killed_process_leaves_nothing_behind_for_long(tree, cache_folder):
    root = tree({f"{i}.bin": 50 for i in range(8)})
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(root)], stdout=subprocess.PIPE, env=environment)
    assert process.stdout is not None
    assert process.stdout.readline() == b"half way\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (left,) = entries(cache_folder)
    assert left.name.startswith(".encoding")
    reader = load_or_encode(find_files(str(root), FileAdapter()))
    assert entries(cache_folder) == [folder_of(reader)]
    assert bytes(reader.read(5)) == (root / "5.bin").read_bytes()


def test_only_abandoned_folders_are_swept(tmp_path):
    host = socket.gethostname()
    mine, old, other = (
        tmp_path / f".encoding@{host}@{os.getpid()}@a",
        tmp_path / f".encoding@{host}@{os.getpid()}@b",
        tmp_path / ".encoding@elsewhere@1@c",
    )
    for folder in (mine, old, other):
        folder.mkdir()
    os.utime(old, (0, 0))
    encoded_cache._sweep(tmp_path)
    assert (mine.exists(), old.exists(), other.exists()) == (True, False, True)


def test_names_that_are_not_utf8_survive(tmp_path):
    name = os.fsdecode(b"caf\xe9.bin")
    (tmp_path / name).write_bytes(b"x")
    reader = load_or_encode(Files(tmp_path, (name,), FileAdapter()))
    assert load_or_encode(Files(tmp_path, (name,), FileAdapter())).names == reader.names == (name,)


def test_digests_that_cannot_be_remembered_are_given_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr("megabyte_mm.data.digests._SETTLED_NS", -1)
    (tmp_path / "a.txt").write_bytes(b"some text")
    (tmp_path / "memo.json").mkdir()  # in the way of the file
    [digest] = digests.file_digests([tmp_path / "a.txt"], tmp_path / "memo.json")
    assert digest.sha256 == hashlib.sha256(b"some text").hexdigest()
    assert {path.name for path in tmp_path.iterdir()} == {"a.txt", "memo.json"}
