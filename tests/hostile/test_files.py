"""Files that are not regular, failing disks, and names that are not UTF-8, for every adapter."""

import os
import sys

import numpy as np
import pytest

from data_adapters import AudioAdapter, ByteStream, FileAdapter, ImageAdapter, MediaError, TextAdapter, UnavailableError

ADAPTERS = [ImageAdapter(size=(4, 4)), AudioAdapter(rate=8000, channels=1), TextAdapter(), FileAdapter()]
every_adapter = pytest.mark.parametrize("adapter", ADAPTERS, ids=lambda adapter: adapter.name)
posix = pytest.mark.skipif(os.name != "posix", reason="Windows has no pipes and no file names of arbitrary bytes")


@posix
@every_adapter
def test_a_pipe_is_refused_without_waiting_for_a_writer(adapter, tmp_path):
    path = tmp_path / f"a{adapter.output_suffix}"
    os.mkfifo(path)
    with pytest.raises(MediaError, match="is a pipe, not a file$"):
        adapter.read(path)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a file that nobody, not even root, can read")
def test_a_file_on_a_failing_disk_is_unavailable():
    with pytest.raises(UnavailableError, match="cannot be read: Input/output error$"):
        FileAdapter().read("/proc/self/mem")


@posix
@every_adapter
def test_a_name_of_any_bytes_is_read_written_and_printed_on_one_line(adapter, tmp_path):
    path = tmp_path / os.fsdecode(b"caf\xe9 \xff two\nlines\x1b[2J" + os.fsencode(adapter.output_suffix))
    try:
        path.touch()
    except OSError:
        pytest.skip("this file system does not support such names")
    path.unlink()
    with pytest.raises(MediaError) as caught:
        adapter.read(path)
    assert str(caught.value).encode().isascii()
    assert str(caught.value).isprintable()
    assert caught.value.path == path
    adapter.write(ByteStream(np.arange(48, dtype=np.uint8), adapter.default_format()), path)
    assert [os.fsencode(file.name) for file in tmp_path.iterdir()] == [os.fsencode(path.name)]
    assert adapter.read(path).data.tolist() == list(range(48))
