"""Contact sheets: many small images as one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from data_adapters.base import Bytes

BACKGROUND = 208
"""A light grey, distinct from black, from white, and from the mid grey of unknown pixels."""

MIN_SIDE = 112
"""Pixels of the largest image's longest side, at least, where `scale` is not given."""


def contact_sheet(rows: Sequence[Sequence[Bytes]], scale: int | None = None, gap: int = 2) -> Image.Image:
    """Arrange images in rows and columns of one RGB image.

    rows: (H, W), (H, W, 1) or (H, W, 3) uint8 each; sizes and row lengths may differ. A column is as wide and a row as
    high as its largest image, and images are aligned to the upper left. scale: each pixel becomes scale x scale pixels;
    by default just enough to make small images visible. gap: pixels between and around images.
    Raises ValueError for no image at all, or one of another shape.
    """
    tiles = [[_as_rgb(pixels) for pixels in row] for row in rows]
    if not any(tiles):
        raise ValueError("a contact sheet needs at least one image")
    if scale is None:
        scale = max(1, -(-MIN_SIDE // max(max(tile.shape[:2]) for row in tiles for tile in row)))
    tiles = [[tile.repeat(scale, axis=0).repeat(scale, axis=1) for tile in row] for row in tiles]
    tops = _starts([max((tile.shape[0] for tile in row), default=0) for row in tiles], gap)
    columns = range(max(map(len, tiles)))
    lefts = _starts([max(row[column].shape[1] for row in tiles if column < len(row)) for column in columns], gap)
    sheet = np.full((tops[-1], lefts[-1], 3), BACKGROUND, np.uint8)
    for top, row in zip(tops, tiles, strict=False):
        for left, tile in zip(lefts, row, strict=False):
            sheet[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
    return Image.fromarray(sheet)


def _as_rgb(pixels: Bytes) -> Bytes:
    grid = pixels[..., None] if pixels.ndim == 2 else pixels
    if grid.ndim != 3 or grid.shape[2] not in (1, 3) or grid.dtype != np.uint8 or not grid.size:
        raise ValueError(f"an image must be (H, W), (H, W, 1) or (H, W, 3) uint8, not {pixels.shape} {pixels.dtype}")
    return np.broadcast_to(grid, (*grid.shape[:2], 3))


def _starts(sizes: Sequence[int], gap: int) -> list[int]:
    """Start of each piece, and last the end of all, with a gap around and between the pieces."""
    return [gap, *(gap + np.cumsum([size + gap for size in sizes])).tolist()]
