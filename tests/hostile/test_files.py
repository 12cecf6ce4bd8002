"""What lies in a folder under a media file's name and is none: pipes, devices, links to nowhere, files of raw names."""

import contextlib
import os
import socket
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from data_adapters import AudioAdapter, ByteStream, FileAdapter, ImageAdapter, MediaError, TextAdapter

ADAPTERS = [ImageAdapter(), AudioAdapter(rate=8000, channels=1), TextAdapter(), FileAdapter()]
every_adapter = pytest.mark.parametrize("adapter", ADAPTERS, ids=lambda adapter: adapter.name)
posix = pytest.mark.skipif(os.name != "posix", reason="Windows has no pipes, devices and raw names among its files")


def reason(adapter, path):
    with pytest.raises(MediaError) as caught:
        adapter.read(path)
    return caught.value.reason


def make_pipe(path):
    os.mkfifo(path)


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as listening, contextlib.chdir(path.parent):  # long paths do not fit
        listening.bind(path.name)


@posix
@every_adapter
@pytest.mark.parametrize(
    ("make", "what"),
    [
        (make_pipe, "is a pipe, not a file"),
        (make_socket, "is a socket, not a file"),
        (lambda path: path.symlink_to("/dev/zero"), "is a device, not a file"),
        (lambda path: path.symlink_to("missing"), "is a broken link"),
        (lambda path: path.symlink_to(path), "cannot be read: Too many levels of symbolic links"),
        (lambda path: path.mkdir(), "cannot be read: Is a directory"),
    ],
    ids=["pipe", "socket", "device", "broken", "loop", "folder"],
)
def test_what_is_no_file_is_named_and_neither_waits_nor_reads_on(adapter, tmp_path, make, what):
    path = tmp_path / f"a{adapter.output_suffix}"
    make(path)
    assert reason(adapter, path) == what


@posix
@every_adapter
def test_a_link_that_leads_out_of_its_folder_is_read(adapter, tmp_path):
    stream = ByteStream(np.zeros(0, np.uint8), adapter.default_format()) if adapter.name != "image" else None
    source = tmp_path / f"outside{adapter.output_suffix}"
    adapter.write(stream or ByteStream(np.zeros(12, np.uint8), ImageAdapter(size=(4, 4)).default_format()), source)
    link = tmp_path / "data" / f"a{adapter.output_suffix}"
    link.parent.mkdir()
    link.symlink_to(source)
    assert adapter.read(link).data.tobytes() == adapter.read(source).data.tobytes()


@contextlib.contextmanager
def without_privileges():
    """Root may read everything; nobody may not."""
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)


@posix
@every_adapter
def test_a_file_that_may_not_be_read_is_refused(adapter):
    with tempfile.TemporaryDirectory() as folder:  # not tmp_path, which lies in a folder that only its owner may enter
        Path(folder).chmod(0o755)
        path = Path(folder, f"a{adapter.output_suffix}")
        path.write_bytes(b"secret")
        path.chmod(0)
        with without_privileges():
            assert reason(adapter, path) == "cannot be read: Permission denied"


@pytest.mark.skipif(sys.platform != "linux", reason="a file on which reading fails, even for root, is Linux's")
@every_adapter
def test_a_file_on_a_failing_disk_is_refused(adapter):
    assert reason(adapter, "/proc/self/mem") == "cannot be read: Input/output error"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a file of any size may not be made, or not at once")
@every_adapter
def test_a_file_beyond_memory_is_refused(adapter, tmp_path):
    path = tmp_path / "a.bin"
    path.touch()
    try:
        os.truncate(path, 2**43)
    except OSError:
        pytest.skip("this file system holds no file of 8 TiB")
    assert reason(adapter, path) == "is too large for this machine's memory"


@posix
@every_adapter
@pytest.mark.parametrize("name", [b"caf\xe9", b"\xff\xfe", b"two\nlines\x1b[2J"], ids=["latin", "raw", "lines"])
def test_names_of_any_bytes_are_read_written_and_told_on_one_line(adapter, tmp_path, name):
    path = tmp_path / os.fsdecode(name + os.fsencode(adapter.output_suffix))
    try:
        path.touch()
    except OSError:
        pytest.skip("this file system holds no such name")
    path.unlink()
    with pytest.raises(MediaError) as caught:
        adapter.read(path)
    assert str(caught.value).encode().isascii()
    assert str(caught.value).isprintable()
    assert caught.value.path == path
    form = ImageAdapter(size=(4, 4)).default_format() if adapter.name == "image" else adapter.default_format()
    adapter.write(ByteStream(np.arange(48, dtype=np.uint8), form), path)
    assert [os.fsencode(file.name) for file in tmp_path.iterdir()] == [os.fsencode(path.name)]
    assert adapter.read(path).data.tolist() == list(range(48))


@pytest.mark.parametrize(
    "content",
    [b"", b"\xef\xbb\xbfmarked", b"a\0b\0\0", b"one\r\ntwo\rthree\n", b"\xff\xfe\xc3(", "käse 🧀".encode()[:-1]],
    ids=["empty", "mark", "nul", "lines", "invalid", "cut"],
)
def test_texts_of_any_bytes_are_read_and_written_as_they_are(tmp_path, content):
    (tmp_path / "a.txt").write_bytes(content)
    stream = TextAdapter().read(tmp_path / "a.txt")
    assert (stream.data.tobytes(), stream.notes) == (content, ())
    TextAdapter().write(stream, tmp_path / "b.txt")
    assert (tmp_path / "b.txt").read_bytes() == content
