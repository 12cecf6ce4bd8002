"""Pictures as tiles of pixels, and the picture's file again: by zlib from a PNG's layout, or as Pillow writes it."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from data_adapters.base import Adapter, Bytes
from data_adapters.image import ImageAdapter
from data_adapters.image.decoding import open_image
from megabyte_mm.compression.recipes.png import PngLayout, png_content, png_layout
from megabyte_mm.compression.recipes.tiles import Tiling

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
"""Options of Pillow to try for a picture's format. Recipes hold their index, so only append."""


def find_picture_recipe(
    adapter: ImageAdapter, path: str | os.PathLike[str], content: bytes, content_only: bool
) -> tuple[dict[str, Any], list[Bytes], bytes] | None:
    """The recipe of a picture, its tiles and its extra bytes.

    None if no recipe rebuilds the file, or the adapter does not read its pixels unchanged.
    """
    image, notes = open_image(path, adapter.max_pixels)
    if image.mode != adapter.mode or notes:
        return None
    pixels_HWC = np.asarray(image).reshape(image.height, image.width, -1)
    match = _by_zlib(content, pixels_HWC) or _by_pillow(content, image)
    if match is None and content_only:
        match = {"by": "pillow", "format": "PNG", "options": 0, "content_only": True}, b""
    if match is None:
        return None
    settings, extra = match
    recipe = {"kind": "tiles", "shape": (image.height, image.width), **settings}
    return recipe, tiling_of(adapter, recipe).cut(pixels_HWC), extra


def rebuild_picture(adapter: Adapter, recipe: Mapping[str, Any], tiles: Sequence[Bytes], extra: bytes) -> bytes:
    """Return the content of the picture's file. Raises ValueError if recipe and tiles disagree."""
    pixels_HWC = tiling_of(adapter, recipe).join(tiles)
    if recipe["by"] == "pillow":
        pixels = pixels_HWC[..., 0] if pixels_HWC.shape[2] == 1 else pixels_HWC
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


def tiling_of(adapter: Adapter, recipe: Mapping[str, Any]) -> Tiling:
    """The tiles of a recipe's picture. Raises ValueError for an adapter that reads no pixels."""
    if not isinstance(adapter, ImageAdapter) or adapter.size is None:
        raise ValueError(f"tiles of pixels, which the {adapter.name} adapter does not read")
    height, width = map(int, recipe["shape"])
    return Tiling(height, width, adapter)


def _by_zlib(content: bytes, pixels_HWC: Bytes) -> tuple[dict[str, Any], bytes] | None:
    layout = png_layout(content, pixels_HWC)
    if layout is None:
        return None
    return {"by": "zlib", **layout.plain()}, layout.before + layout.filters + layout.after


def _by_pillow(content: bytes, image: Image.Image) -> tuple[dict[str, Any], bytes] | None:
    for number in range(len(PILLOW_OPTIONS.get(str(image.format), ()))):
        if _saved(np.asarray(image), str(image.format), number) == content:
            return {"by": "pillow", "format": image.format, "options": number}, b""
    return None


def _saved(pixels: Bytes, format: str, options: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format, **PILLOW_OPTIONS[format][options])
    return file.getvalue()
