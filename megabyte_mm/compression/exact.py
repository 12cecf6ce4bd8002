"""Whole files as what a model reads, and the very same files again, bit for bit.

An adapter's stream holds a file's content: pixels, samples. A file is more than that: headers, and the choices of the
program that wrote it. `split_file` looks for a recipe by which the content becomes the file again, and checks that it
does. Where it finds none, the file's own bytes are what is read, as with any file that the adapter does not know.
"""

from __future__ import annotations

import io
import os
import tempfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import soundfile
from PIL import Image, features

from data_adapters.audio import AudioAdapter
from data_adapters.base import Adapter, Bytes, ByteStream, MediaError
from data_adapters.image import ImageAdapter
from data_adapters.image.decoding import open_image
from data_adapters.io import read_bytes
from megabyte_mm.compression.png import PngLayout, png_content, png_layout
from megabyte_mm.compression.tiles import Mask, all_fillings, cut_into_tiles, join_tiles

Recipe = Mapping[str, Any]
"""How content becomes a file: plain JSON values, `kind` among them."""

PILLOW_OPTIONS: dict[str, tuple[dict[str, Any], ...]] = {
    "PNG": ({}, {"optimize": True}, *({"compress_level": level} for level in range(10))),
    "BMP": ({},),
    "PPM": ({},),
    "TIFF": ({},),
    "TGA": ({},),
    "WEBP": tuple(
        {"lossless": True, "method": m, "exact": e, "quality": q}
        for m in (4, 6)
        for e in (False, True)
        for q in (80, 100)
    ),
}
"""How Pillow is asked to write a picture's format again; recipes hold the number, so only add at the end."""


@dataclass(frozen=True)
class SplitFile:
    """A file taken apart.

    pieces: what a model reads, one after the other, each (n,) uint8 of at most a window. known: of each piece which
    bytes are those `unit` places before, so that nobody need tell them, or None. extra: bytes beside. Together
    with the recipe they are `given`: the file's content, or what is in the pieces where the recipe keeps that alone.
    """

    recipe: Recipe
    pieces: list[Bytes]
    known: list[Mask | None]
    unit: int
    extra: bytes = b""
    given: bytes = b""

    @property
    def whole_file(self) -> bool:
        """Whether they give the file itself, and not only its content."""
        return is_whole_file(self.recipe)


def split_file(adapter: Adapter, path: str | os.PathLike[str], window: int, content_only: bool = False) -> SplitFile:
    """The file in pieces of at most `window` bytes, by the first recipe that gives it back.

    content_only: where none does, keep what the adapter reads untouched (pixels, samples), and not the file around it.
    Raises MediaError for what cannot be read.
    """
    content = read_bytes(path)
    parts = None
    if not adapter.suffixes or Path(path).suffix.lower() in adapter.suffixes:
        try:
            parts = _by_content(adapter, path, content, window, content_only)
        except MediaError:
            parts = None  # damaged, or of another kind than its name says: bytes like any others
    if parts and not parts.whole_file:
        return replace(parts, given=b"".join(piece.tobytes() for piece in parts.pieces))
    if parts and rebuild_file(adapter, parts.recipe, parts.pieces, parts.extra) == content:
        return replace(parts, given=content)
    return replace(_in_windows({"kind": "bytes"}, np.frombuffer(content, np.uint8), window, 1), given=content)


def writers() -> str:
    """The libraries that write files by recipes, with their versions: other ones may write other bytes."""
    libraries = {
        "pillow": PIL.__version__,
        "zlib": zlib.ZLIB_RUNTIME_VERSION,
        "webp": features.version("webp"),
        "libsndfile": soundfile.__libsndfile_version__,
    }
    return ", ".join(f"{name} {version}" for name, version in libraries.items())


def rebuild_file(adapter: Adapter, recipe: Recipe, pieces: Sequence[Bytes], extra: bytes) -> bytes:
    """The file that `split_file` was given, as its content. Raises ValueError where recipe and pieces disagree."""
    kind = recipe["kind"]
    if kind == "tiles":
        return _made_of_pixels(adapter, recipe, pieces, extra)
    data = np.concatenate(pieces) if pieces else np.empty(0, np.uint8)
    if kind == "bytes":
        return data.tobytes()
    if kind == "around":
        head = int(recipe["head"])
        return extra[:head] + data.tobytes() + extra[head:]
    if kind == "written":
        return _written(_container(adapter, recipe), ByteStream(data, recipe["format"]))
    raise ValueError(f"a recipe of an unknown kind, {kind!r}: a newer megabyte-mm made it")


def known_bytes(adapter: Adapter, recipe: Recipe, pieces: int) -> tuple[list[Mask | None], int]:
    """`known` and `unit` of a file's parts, from its recipe. Raises ValueError where it has other pieces."""
    if recipe["kind"] != "tiles":
        return [None] * pieces, 1
    image = _image(adapter)
    height, width = map(int, recipe["shape"])
    assert image.size is not None
    if -(-width // image.size[0]) * -(-height // image.size[1]) != pieces:
        raise ValueError(f"{pieces} tiles of a picture of {width}x{height}")
    return all_fillings((height, width), image.size, image.unit, image.scan_pixels), image.unit


def is_whole_file(recipe: Recipe) -> bool:
    """Whether the recipe gives the file itself, and not only its content."""
    return not recipe.get("content_only", False)


def _by_content(
    adapter: Adapter, path: str | os.PathLike[str], content: bytes, window: int, content_only: bool
) -> SplitFile | None:
    if isinstance(adapter, ImageAdapter) and adapter.size is not None:
        return _by_pixels(adapter, path, content, content_only)
    stream = adapter.read(path)
    unit = adapter.unit_in(stream.format)
    if len(stream.data) and (at := content.find(stream.data.tobytes())) >= 0:
        head, tail = content[:at], content[at + len(stream.data) :]
        around = _in_windows({"kind": "around", "head": at}, stream.data, window, unit, head + tail)
        written = _as_written(adapter, stream, content, window, unit) if head + tail else None
        return written or around
    exact = _as_written(adapter, stream, content, window, unit)
    if exact is None and content_only and not stream.notes:
        recipe = {"kind": "written", "format": dict(stream.format), "content_only": True}
        return _in_windows(recipe, stream.data, window, unit)
    return exact


def _as_written(adapter: Adapter, stream: ByteStream, content: bytes, window: int, unit: int) -> SplitFile | None:
    """By the adapter's own writing, in either container for sound."""
    recipe: dict[str, Any] = {"kind": "written", "format": dict(stream.format)}
    containers: tuple[dict[str, str], ...] = ({},)
    if isinstance(adapter, AudioAdapter):
        containers = ({"container": "wav"}, {"container": "flac"})
    for container in containers:
        try:
            made = _written(_container(adapter, recipe | container), stream)
        except MediaError:
            continue
        if made == content:
            return _in_windows(recipe | container, stream.data, window, unit)
    return None


def _container(adapter: Adapter, recipe: Recipe) -> Adapter:
    if "container" not in recipe:
        return adapter
    return type(adapter)(**(adapter.settings() | {"container": recipe["container"]}))


def _written(adapter: Adapter, stream: ByteStream) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "file"
        adapter.write(stream, file)
        return file.read_bytes()


def _in_windows(recipe: Recipe, data: Bytes, window: int, unit: int, extra: bytes = b"") -> SplitFile:
    """Pieces of a window each, or of as many whole units as it takes."""
    step = window - window % unit or window
    pieces = [data[start : start + step] for start in range(0, len(data), step)]
    return SplitFile(recipe, pieces, [None] * len(pieces), 1, extra)


def _by_pixels(
    adapter: ImageAdapter, path: str | os.PathLike[str], content: bytes, content_only: bool
) -> SplitFile | None:
    image, notes = open_image(path)
    if image.mode != adapter.mode or notes:
        return None
    pixels_HWC = np.asarray(image).reshape(image.height, image.width, -1)
    found = _as_png(content, pixels_HWC) or _as_pillow_writes(content, image)
    if found is None and content_only:
        found = {"by": "pillow", "format": "PNG", "options": 0, "content_only": True}, b""
    if found is None:
        return None
    made, extra = found
    assert adapter.size is not None
    shape = (image.height, image.width)
    recipe = {"kind": "tiles", "shape": shape, **made}
    pieces = cut_into_tiles(pixels_HWC, adapter.size, adapter.scan_pixels)
    known = all_fillings(shape, adapter.size, adapter.unit, adapter.scan_pixels)
    return SplitFile(recipe, pieces, known, adapter.unit, extra)


def _as_png(content: bytes, pixels_HWC: Bytes) -> tuple[dict[str, Any], bytes] | None:
    layout = png_layout(content, pixels_HWC)
    if layout is None:
        return None
    return {"by": "zlib", **layout.plain()}, layout.before + layout.filters + layout.after


def _as_pillow_writes(content: bytes, image: Image.Image) -> tuple[dict[str, Any], bytes] | None:
    for number in range(len(PILLOW_OPTIONS.get(str(image.format), ()))):
        if _saved(np.asarray(image), str(image.format), number) == content:
            return {"by": "pillow", "format": image.format, "options": number}, b""
    return None


def _saved(pixels: Bytes, format: str, options: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format, **PILLOW_OPTIONS[format][options])
    return file.getvalue()


def _made_of_pixels(adapter: Adapter, recipe: Recipe, pieces: Sequence[Bytes], extra: bytes) -> bytes:
    image = _image(adapter)
    height, width = recipe["shape"]
    assert image.size is not None
    tile = image.default_format()
    shape = (height, width, image.unit)
    pixels_HWC = join_tiles(pieces, shape, image.size, lambda data: image.unscan(data, tile))
    if recipe["by"] == "pillow":
        pixels = pixels_HWC[..., 0] if image.unit == 1 else pixels_HWC
        return _saved(pixels, recipe["format"], recipe["options"])
    before, filters = int(recipe["before"]), int(recipe["filters"])
    level, window_bits, memory, strategy = recipe["zlib"]
    layout = PngLayout(
        before=extra[:before],
        filters=extra[before : before + filters],
        after=extra[before + filters :],
        cuts=tuple(recipe["cuts"]),
        parameters=(level, window_bits, memory, strategy),
    )
    return png_content(pixels_HWC, layout)


def _image(adapter: Adapter) -> ImageAdapter:
    if not isinstance(adapter, ImageAdapter) or adapter.size is None:
        raise ValueError(f"tiles of pixels, which the {adapter.name} adapter does not read")
    return adapter
