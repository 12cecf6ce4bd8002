"""A file as the windows that a model reads, and the same file again, bit for bit.

An adapter's stream holds a file's content: pixels, samples. A file also has headers, and shows the choices of the
program that wrote it. `split_file` searches a recipe that turns the content into the file again, and verifies it.
Without a recipe the windows hold the file's own bytes, as for any file that the adapter does not read.
"""

from __future__ import annotations

import os
import tempfile
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import soundfile
from PIL import features

from data_adapters.audio import AudioAdapter
from data_adapters.base import Adapter, Bytes, ByteStream, MediaError
from data_adapters.image import ImageAdapter
from data_adapters.io import read_bytes
from megabyte_mm.compression.recipes.pictures import find_picture_recipe, rebuild_picture, tiling_of
from megabyte_mm.compression.recipes.tiles import Mask

Recipe = Mapping[str, Any]
"""The way from content to a file: plain JSON values, `kind` among them."""


@dataclass(frozen=True)
class SplitFile:
    """A file as the windows that a model reads, each (n,) uint8, and what rebuilds the file from them.

    extra: bytes beside the windows. content: the file's content; of a recipe that keeps only the pixels or samples, the
    bytes of all windows.
    """

    recipe: Recipe
    windows: list[Bytes]
    extra: bytes = b""
    content: bytes = b""

    @property
    def stream(self) -> bytes:
        """The bytes that the model reads, of all windows."""
        return b"".join(window.tobytes() for window in self.windows)


def split_file(adapter: Adapter, path: str | os.PathLike[str], window: int, content_only: bool = False) -> SplitFile:
    """Split a file into windows of at most `window` bytes, by the first recipe that rebuilds it.

    content_only: where no recipe does, keep what the adapter reads unchanged (pixels, samples) instead of the file.
    Raises MediaError for a file that cannot be read.
    """
    content = read_bytes(path)
    split = None
    if not adapter.suffixes or Path(path).suffix.lower() in adapter.suffixes:
        with suppress(MediaError):  # a damaged file, or of another kind than its suffix: bytes like any others
            split = _split_content(adapter, path, content, window, content_only)
    if split and not is_whole_file(split.recipe):
        return replace(split, content=split.stream)
    if split and rebuild_file(adapter, split.recipe, split.windows, split.extra) == content:
        return replace(split, content=content)
    return replace(_in_windows({"kind": "bytes"}, np.frombuffer(content, np.uint8), window, 1), content=content)


def rebuild_file(adapter: Adapter, recipe: Recipe, windows: Sequence[Bytes], extra: bytes) -> bytes:
    """Return the content of the file that `split_file` read. Raises ValueError if recipe and windows disagree."""
    kind = recipe["kind"]
    if kind == "tiles":
        return rebuild_picture(adapter, recipe, windows, extra)
    data = np.concatenate(windows) if windows else np.empty(0, np.uint8)
    if kind == "bytes":
        return data.tobytes()
    if kind == "around":
        head = int(recipe["head"])
        return extra[:head] + data.tobytes() + extra[head:]
    if kind == "written":
        return _write(_with_container(adapter, recipe), ByteStream(data, recipe["format"]))
    raise ValueError(f"a recipe of an unknown kind, {kind!r}: a newer megabyte-mm made it")


def filler_masks(adapter: Adapter, recipe: Recipe, windows: int) -> tuple[list[Mask | None], int]:
    """Masks of the bytes in each window that repeat those `unit` bytes before, None for none; and that unit.

    Raises ValueError if the recipe has another number of windows.
    """
    if recipe["kind"] != "tiles":
        return [None] * windows, 1
    tiling = tiling_of(adapter, recipe)
    if tiling.count != windows:
        raise ValueError(f"{windows} tiles of a picture of {tiling.width}x{tiling.height}")
    return tiling.filler_masks, tiling.adapter.unit


def is_whole_file(recipe: Recipe) -> bool:
    """True if the recipe rebuilds the file itself, and not only its pixels or samples."""
    return not recipe.get("content_only", False)


def library_versions() -> str:
    """The libraries that write files by recipes, with their versions: others may write other bytes."""
    libraries = {
        "pillow": PIL.__version__,
        "zlib": zlib.ZLIB_RUNTIME_VERSION,
        "webp": features.version("webp"),
        "libsndfile": soundfile.__libsndfile_version__,
    }
    return ", ".join(f"{name} {version}" for name, version in libraries.items())


def _split_content(
    adapter: Adapter, path: str | os.PathLike[str], content: bytes, window: int, content_only: bool
) -> SplitFile | None:
    if isinstance(adapter, ImageAdapter) and adapter.size is not None:
        picture = find_picture_recipe(adapter, path, content, content_only)
        return None if picture is None else SplitFile(*picture)
    stream = adapter.read(path)
    unit = adapter.unit_in(stream.format)
    if len(stream.data) and (start := content.find(stream.data.tobytes())) >= 0:
        head, tail = content[:start], content[start + len(stream.data) :]
        around = _in_windows({"kind": "around", "head": start}, stream.data, window, unit, head + tail)
        written = _as_written(adapter, stream, content, window, unit) if head + tail else None
        return written or around
    written = _as_written(adapter, stream, content, window, unit)
    if written is None and content_only and not stream.notes:
        recipe = {"kind": "written", "format": dict(stream.format), "content_only": True}
        return _in_windows(recipe, stream.data, window, unit)
    return written


def _as_written(adapter: Adapter, stream: ByteStream, content: bytes, window: int, unit: int) -> SplitFile | None:
    """The recipe by which the adapter writes the same file, of sounds in one of two containers; None if it does not."""
    recipe: dict[str, Any] = {"kind": "written", "format": dict(stream.format)}
    containers: tuple[dict[str, str], ...] = ({},)
    if isinstance(adapter, AudioAdapter):
        containers = ({"container": "wav"}, {"container": "flac"})
    for container in containers:
        with suppress(MediaError):
            if _write(_with_container(adapter, recipe | container), stream) == content:
                return _in_windows(recipe | container, stream.data, window, unit)
    return None


def _with_container(adapter: Adapter, recipe: Recipe) -> Adapter:
    if "container" not in recipe:
        return adapter
    return type(adapter)(**(adapter.settings() | {"container": recipe["container"]}))


def _write(adapter: Adapter, stream: ByteStream) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "file"
        adapter.write(stream, file)
        return file.read_bytes()


def _in_windows(recipe: Recipe, data: Bytes, window: int, unit: int, extra: bytes = b"") -> SplitFile:
    """Cut the data into windows of as many whole units as fit."""
    step = window - window % unit or window
    return SplitFile(recipe, [data[start : start + step] for start in range(0, len(data), step)], extra)
