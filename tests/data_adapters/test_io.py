"""Files and folders are replaced in one step, and what a kill leaves half done is restored."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from data_adapters import MediaError, write_atomically
from data_adapters.io import recover, replace


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "last.ckpt"
    path.mkdir()
    (path / "inside").write_text("old")
    return path


def test_writing_replaces_a_file_in_one_step(tmp_path):
    (tmp_path / "a.txt").write_text("old")
    write_atomically(tmp_path / "a.txt", lambda temporary: temporary.write_text("new"))
    assert (tmp_path / "a.txt").read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("failure", [KeyboardInterrupt, ZeroDivisionError, OSError])
def test_a_failed_write_leaves_only_the_old_file(tmp_path, failure):
    def write(temporary):
        temporary.write_text("half")
        raise failure

    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(MediaError if failure is OSError else failure):
        write_atomically(tmp_path / "a.txt", write)
    assert (tmp_path / "a.txt").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_written_file_has_the_permissions_of_any_new_file(tmp_path):
    (tmp_path / "usual").write_text("")
    write_atomically(tmp_path / "ours", lambda temporary: temporary.write_text(""))
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "usual").stat().st_mode


@pytest.mark.parametrize("new", ["file", "folder"])
@pytest.mark.parametrize("old", ["file", "folder", "nothing"])
def test_files_and_folders_replace_each_other(tmp_path, old, new):
    target, temporary = tmp_path / "last.ckpt", tmp_path / ".last.ckpt.tmp"
    for kind, path in ((old, target), (new, temporary)):
        if kind == "file":
            path.write_text(path.name)
        elif kind == "folder":
            path.mkdir()
            (path / "inside").write_text(path.name)
    replace(temporary, target)
    assert (target if new == "file" else target / "inside").read_text() == ".last.ckpt.tmp"
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


def test_a_folder_set_aside_when_the_process_was_killed_is_restored(folder, monkeypatch):
    new = folder.with_name("new")
    new.mkdir()
    rename = Path.rename

    def killed(path: Path, target: Path) -> Path:
        if path == new:
            raise KeyboardInterrupt
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", killed)
    with pytest.raises(KeyboardInterrupt):
        replace(new, folder)
    monkeypatch.undo()
    assert not folder.exists()
    for _ in range(2):
        recover(folder)
        assert (folder / "inside").read_text() == "old"


def test_a_folder_that_another_process_restored_first_is_no_error(folder, monkeypatch):
    folder.rename(folder.with_name(".last.ckpt.old"))
    rename = Path.rename

    def overtaken(path: Path, target: Path) -> Path:
        rename(path, target)
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", overtaken)
    recover(folder)
    assert (folder / "inside").read_text() == "old"


@pytest.mark.parametrize("present", [True, False])
def test_through_a_link_its_target_is_written(tmp_path, present):
    target, link = tmp_path / "target.txt", tmp_path / "link.txt"
    link.symlink_to(target)
    if present:
        target.write_text("old")
    write_atomically(link, lambda temporary: temporary.write_text("new"))
    assert link.is_symlink()
    assert target.read_text() == "new"
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_receives_the_content(tmp_path):
    pipe = tmp_path / "pipe.json"
    os.mkfifo(pipe)
    received: list[str] = []
    reader = threading.Thread(target=lambda: received.append(pipe.read_text()))
    reader.start()
    write_atomically(pipe, lambda temporary: temporary.write_text("content"))
    reader.join()
    assert received == ["content"]
    assert pipe.is_fifo()


@pytest.mark.skipif(not os.path.exists("/dev/stdout"), reason="no such name of the output here")  # noqa: PTH110
@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1"])
def test_the_output_of_the_process_receives_the_content_in_its_turn(tmp_path, name):
    """Also where the shell has sent it into a file, which must not be replaced."""
    code = (
        f"from data_adapters import write_bytes; print('before'); write_bytes({name!r}, b'content\\n'); print('after')"
    )
    with (tmp_path / "out").open("wb") as out:
        out.write(b"first\n")
        out.flush()
        subprocess.run([sys.executable, "-c", code], stdout=out, check=True)
    assert (tmp_path / "out").read_text() == "first\nbefore\ncontent\nafter\n"
