"""Checks of the promises that readers and loaders make for any bytes; the fuzzer and the tests call them."""

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

MAX_WRITTEN_BYTES = 2**22
"""Longer streams are not written and read again, which would take most of a fuzzer's time."""
_CODE_EVENTS = ("os.system", "os.exec", "os.fork", "os.posix_spawn", "os.remove", "subprocess.Popen", "socket.connect")


class BrokenContract(AssertionError):
    """A finding: neither a proper result nor the documented error."""


def check_reader(adapter: Adapter, path: Path) -> ByteStream | None:
    """Read the file, and write the stream and a prefix of it beside the file. Returns the stream, None if refused.

    Raises BrokenContract, and any exception of the adapter other than MediaError.
    """
    try:
        stream = adapter.read(path)
    except MediaError as error:
        check_refusal(error, path)
        return None
    _check_length(adapter, stream)
    if len(stream.data) <= MAX_WRITTEN_BYTES:
        _check_writing(adapter, stream, path.parent)
    return stream


def check_refusal(error: Exception, path: Path) -> None:
    """Check that an error is one line with the file's name and a reason, and was not caused by lack of memory."""
    line = str(error)
    require(line.startswith(f"{path}: ") and len(line) > len(f"{path}: ") + 3, f"names no file or reason: {line!r}")
    require("\n" not in line and line.isprintable(), f"more than one line: {line!r}")
    require(not isinstance(error.__cause__, MemoryError), f"asked for too much memory: {line!r}")


def require(condition: bool, message: str) -> None:
    """Raise BrokenContract unless the condition holds."""
    if not condition:
        raise BrokenContract(message)


def _check_length(adapter: Adapter, stream: ByteStream) -> None:
    length, unit = adapter.length_in(stream.format), adapter.unit_in(stream.format)
    require(length in (None, len(stream.data)), f"{len(stream.data)} bytes, but {length} by {dict(stream.format)}")
    require(len(stream.data) % unit == 0, f"{len(stream.data)} bytes are not whole units of {unit}")
    require(all(note.isprintable() for note in stream.notes), f"a note of more than one line: {stream.notes}")


def _check_writing(adapter: Adapter, stream: ByteStream, folder: Path) -> None:
    unit = adapter.unit_in(stream.format)
    prefix = len(stream.data) * 2 // 3
    for data in (stream.data, stream.data[: prefix - prefix % unit]):
        again = _write_and_read(adapter, ByteStream(data, stream.format), folder)
        if again is None:
            return
        require(again.format == stream.format, f"written as {dict(stream.format)}, read as {dict(again.format)}")
        # A prefix of an image is written as a whole image, black after the prefix.
        same = again.data[: len(data)] if isinstance(adapter, ImageAdapter) else again.data
        require(np.array_equal(same, data), f"{len(data)} bytes were written, and others were read")


def _write_and_read(adapter: Adapter, stream: ByteStream, folder: Path) -> ByteStream | None:
    """The stream after a round trip; None where the container cannot hold it (a WAV file cannot hold every rate)."""
    path = folder / f"written{stream.format.get('suffix', adapter.output_suffix)}"
    try:
        adapter.write(stream, path)
    except MediaError as error:
        check_refusal(error, path)
        require("cannot be written" in error.reason, error.reason)
        return None
    return adapter.read(path)


def check_scans(data: Bytes, height: int, width: int, channels: int, patch: int) -> None:
    """Check that both scans and their inverses undo each other. data: (height * width * channels,) uint8."""
    pixels = raster_unscan(data, height, width, channels)
    require(np.array_equal(raster_scan(pixels), data), "raster_scan does not invert raster_unscan")
    scan = patch_scan(pixels, patch)
    again = patch_unscan(scan, height, width, channels, patch)
    require(np.array_equal(again, pixels), "patch_unscan does not invert patch_scan")
    pixels = patch_unscan(data, height, width, channels, patch)
    require(np.array_equal(patch_scan(pixels, patch), data), "patch_scan does not invert patch_unscan")


def check_checkpoint(path: Path) -> bool:
    """Load the checkpoint and generate a symbol with it. Returns False if it was refused. Raises BrokenContract."""
    import torch

    from megabyte_mm import generate, load_model

    try:
        bundle = load_model(path)
    except ValueError as error:
        files = (path / name for name in ("config.json", "model.safetensors"))
        check_refusal(error, next((file for file in files if str(error).startswith(str(file))), path))
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
    """Open the shard folder and read all of it. Returns False if it was refused. Raises BrokenContract."""
    from megabyte_mm.data.storage.shards import DamagedShardsError, ShardReader

    try:
        reader = ShardReader(folder)
    except DamagedShardsError as error:
        require("\n" not in str(error) and str(folder) in str(error), f"not one line, or without the folder: {error}")
        return False
    require(len(reader) == len(reader.lengths) == len(reader.names), "columns of different lengths")
    require(all(isinstance(name, str) for name in reader.names), "a name that is not a string")
    reader.formats()
    for row in range(len(reader)):
        stream = reader.stream(row)
        require(len(stream.data) == reader.lengths[row], f"record {row}: {len(stream.data)} bytes")
        require(isinstance(stream.format, dict), f"record {row}: a format of {stream.format!r}")
    with suppress(DamagedShardsError):
        reader.verify()
    return True


def check_container(folder: Path, cache: Path) -> bool:
    """Collect the files of a folder with an archive, a table or a list, and read their texts. Returns if it can be.

    Raises BrokenContract for a refusal of more than one line, for what is kept of a refused archive, and for a file
    outside of the cache; and any exception but FieldError.
    """
    from megabyte_mm.data.collect import collect_files
    from megabyte_mm.errors import FieldError

    try:
        files = collect_files(str(folder), None, cache)
        for name in files.names:
            if files.texts is not None:
                require(isinstance(files.texts[name], str), f"{name} is no text")
            else:
                inside = files.path(name).resolve()
                require(any(place.resolve() in inside.parents for place in (folder, cache)), f"{name} lies outside")
    except FieldError as error:
        line = str(error)
        require("\n" not in line and line.isprintable(), f"more than one line: {line!r}")
        kept = [path.name for path in (cache / "unpacked").glob(".*")] if (cache / "unpacked").is_dir() else []
        require(not kept, f"keeps {kept} of what it refused")
        return False
    return True


@contextmanager
def no_code_runs() -> Iterator[None]:
    """Raise BrokenContract if a program is started, a file removed or a connection made inside the block."""
    events: list[str] = []
    active = [True]

    def hook(event: str, _: Any) -> None:
        if active[0] and event in _CODE_EVENTS:
            events.append(event)

    sys.addaudithook(hook)
    try:
        yield
    finally:
        active[0] = False  # audit hooks cannot be removed
    require(not events, f"code was run: {events}")
