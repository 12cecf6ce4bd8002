"""What a reader or loader promises of any bytes whatever, as checks: the fuzzer and the tests both call them."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from data_adapters import Adapter, Bytes, ByteStream, ImageAdapter, MediaError
from data_adapters.image.scan import patch_scan, patch_unscan, raster_scan, raster_unscan

WRITTEN_BYTES = 2**22
"""Longer streams are not written and read again: that would take most of a fuzzer's time."""
_CODE_EVENTS = ("os.system", "os.exec", "os.fork", "os.posix_spawn", "os.remove", "subprocess.Popen", "socket.connect")


class BrokenContract(AssertionError):
    """A finding: neither a proper result nor the documented error."""


def check_reader(adapter: Adapter, path: Path) -> ByteStream | None:
    """Read the file, and write what was read, whole and cut, beside it. Gives the stream, or None if it was refused.

    Raises BrokenContract, and passes on whatever else the adapter raises.
    """
    try:
        stream = adapter.read(path)
    except MediaError as error:
        check_refusal(error, path)
        return None
    _check_length(adapter, stream)
    if len(stream.data) <= WRITTEN_BYTES:
        _check_writing(adapter, stream, path.parent)
    return stream


def check_refusal(error: Exception, path: Path) -> None:
    """An error that a user can use: one line that names the file and gives a reason, not for want of memory."""
    line = str(error)
    require(line.startswith(f"{path}: ") and len(line) > len(f"{path}: ") + 3, f"names no file or reason: {line!r}")
    require("\n" not in line and line.isprintable(), f"more than a line: {line!r}")
    require(not isinstance(error.__cause__, MemoryError), f"asked for too much memory: {line!r}")


def require(holds: bool, what: str) -> None:
    """Raise BrokenContract where it does not hold."""
    if not holds:
        raise BrokenContract(what)


def _check_length(adapter: Adapter, stream: ByteStream) -> None:
    length, unit = adapter.length_in(stream.format), adapter.unit_in(stream.format)
    require(length in (None, len(stream.data)), f"{len(stream.data)} bytes, and {length} by {dict(stream.format)}")
    require(len(stream.data) % unit == 0, f"{len(stream.data)} bytes cut units of {unit}")
    require(all(note.isprintable() for note in stream.notes), f"a note of more than a line: {stream.notes}")


def _check_writing(adapter: Adapter, stream: ByteStream, folder: Path) -> None:
    unit = adapter.unit_in(stream.format)
    kept = len(stream.data) * 2 // 3
    for data in (stream.data, stream.data[: kept - kept % unit]):
        again = _written_and_read(adapter, ByteStream(data, stream.format), folder)
        if again is None:
            return
        require(again.format == stream.format, f"written as {dict(stream.format)}, read as {dict(again.format)}")
        # A picture cut short is written whole, with black where nothing is known.
        same = again.data[: len(data)] if isinstance(adapter, ImageAdapter) else again.data
        require(np.array_equal(same, data), f"{len(data)} bytes were written, others read")


def _written_and_read(adapter: Adapter, stream: ByteStream, folder: Path) -> ByteStream | None:
    """None where the container cannot hold it, as a WAV cannot hold any rate."""
    path = folder / f"written{stream.format.get('suffix', adapter.output_suffix)}"
    try:
        adapter.write(stream, path)
    except MediaError as error:
        check_refusal(error, path)
        require("cannot be written" in error.reason, error.reason)
        return None
    return adapter.read(path)


def check_scans(data: Bytes, height: int, width: int, channels: int, patch: int) -> None:
    """Both scans and their inverses undo each other. data: (height * width * channels,) uint8."""
    pixels = raster_unscan(data, height, width, channels)
    require(np.array_equal(raster_scan(pixels), data), "the raster scan is no inverse")
    scanned = patch_scan(pixels, patch)
    require(np.array_equal(patch_unscan(scanned, height, width, channels, patch), pixels), "patch_unscan is no inverse")
    unscanned = patch_unscan(data, height, width, channels, patch)
    require(np.array_equal(patch_scan(unscanned, patch), data), "patch_scan is no inverse")


def check_checkpoint(path: Path) -> bool:
    """Load the checkpoint and draw two symbols with it; whether it was loaded. Raises BrokenContract."""
    import torch

    from megabyte_mm import generate, load_model

    try:
        bundle = load_model(path)
    except ValueError as error:
        inside = (path / name for name in ("config.json", "model.safetensors"))
        check_refusal(error, next((file for file in inside if str(error).startswith(str(file))), path))
        return False
    require(isinstance(bundle.window, int) and bundle.window >= 1, f"a window of {bundle.window!r}")
    require(isinstance(bundle.fixed_length, bool), f"fixed_length is {bundle.fixed_length!r}")
    require(all(isinstance(name, str) for name in bundle.conditions), f"conditions are {bundle.conditions!r}")
    require(bundle.model.check_length(1) == 1, "a model of no length")
    require(bundle.config.conditions == len(bundle.conditions), "the model has other conditions")
    if all(bool(weight.isfinite().all()) for weight in bundle.model.parameters()):
        nats = bundle.model.nll(torch.zeros(1, 1, dtype=torch.int64))
        if math.isfinite(float(nats.detach().sum())):
            generate(bundle.model, torch.zeros(1, 0, dtype=torch.int64), 1)
    return True


def check_shards(folder: Path) -> bool:
    """Open the shard folder and read all of it; whether it was opened. Raises BrokenContract."""
    from megabyte_mm.data.storage.shards import DamagedShardsError, ShardReader

    try:
        reader = ShardReader(folder)
    except DamagedShardsError as error:
        require("\n" not in str(error) and str(folder) in str(error), f"not a line, or no folder: {error}")
        return False
    require(len(reader) == len(reader.lengths) == len(reader.names), "columns of different lengths")
    require(all(isinstance(name, str) for name in reader.names), "a name that is no text")
    reader.formats()
    for row in range(len(reader)):
        stream = reader.stream(row)
        require(len(stream.data) == reader.lengths[row], f"record {row}: {len(stream.data)} bytes")
        require(isinstance(stream.format, dict), f"record {row}: a format of {stream.format!r}")
    with suppress(DamagedShardsError):
        reader.verify()
    return True


@contextmanager
def no_code_runs() -> Iterator[None]:
    """Raise BrokenContract where a program is started, a file removed or a connection made meanwhile."""
    seen: list[str] = []
    watched = [True]

    def hook(event: str, _: Any) -> None:
        if watched[0] and event in _CODE_EVENTS:
            seen.append(event)

    sys.addaudithook(hook)
    try:
        yield
    finally:
        watched[0] = False  # a hook cannot be taken away again
    require(not seen, f"code was run: {seen}")
