"""Pictures of any size cut into tiles of one size, and put together again.

Shapes: H height, W width, C channels of the picture; n bytes of a tile.

Tiles at the right and lower edges are filled up. What fills them is known without being told: in the order of the scan
it repeats the pixel before, so that a reader who has the picture's size loses nothing and needs nothing more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from data_adapters.base import Bytes

Mask = NDArray[np.bool_]
Order = Callable[[Bytes], Bytes]


def cut_into_tiles(pixels_HWC: Bytes, size: tuple[int, int], scan: Order) -> list[Bytes]:
    """The picture's tiles row by row, each (n,) uint8 in the order of the scan. size: width and height of a tile."""
    channels = pixels_HWC.shape[2]
    tiles = []
    for top, left in corners(pixels_HWC.shape[:2], size):
        tile_hwC = pixels_HWC[top : top + size[1], left : left + size[0]]
        missing = ((0, size[1] - tile_hwC.shape[0]), (0, size[0] - tile_hwC.shape[1]), (0, 0))
        data = scan(np.pad(tile_hwC, missing))
        tiles.append(_filled(data, fillings(tile_hwC.shape[:2], size, channels, scan), channels))
    return tiles


def join_tiles(
    tiles: Sequence[Bytes], shape: tuple[int, int, int], size: tuple[int, int], unscan: Callable[[Bytes], Bytes]
) -> Bytes:
    """The picture, (H, W, C) uint8, of tiles as `cut_into_tiles` gives them. unscan: (n,) uint8 -> (h, w, C)."""
    pixels_HWC = np.empty(shape, np.uint8)
    for (top, left), tile in zip(corners(shape[:2], size), tiles, strict=True):
        place_hwC = pixels_HWC[top : top + size[1], left : left + size[0]]
        place_hwC[:] = unscan(tile)[: place_hwC.shape[0], : place_hwC.shape[1]]
    return pixels_HWC


def fillings(inside: tuple[int, int], size: tuple[int, int], channels: int, scan: Order) -> Mask | None:
    """Which bytes of a tile only fill it up: (n,) bool, or None where none does.

    inside: height and width of the rest.
    """
    if inside == (size[1], size[0]):
        return None
    outside_HWC = np.ones((size[1], size[0], channels), np.uint8)
    outside_HWC[: inside[0], : inside[1]] = 0
    return scan(outside_HWC).astype(bool)


def all_fillings(shape: tuple[int, int], size: tuple[int, int], channels: int, scan: Order) -> list[Mask | None]:
    """`fillings` of each tile of a picture of that height and width."""
    height, width = shape
    return [
        fillings((min(size[1], height - top), min(size[0], width - left)), size, channels, scan)
        for top, left in corners(shape, size)
    ]


def corners(shape: tuple[int, int], size: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """The top and left of each tile of a picture of that height and width, row by row."""
    for top in range(0, shape[0], size[1]):
        for left in range(0, shape[1], size[0]):
            yield top, left


def _filled(data: Bytes, filling: Mask | None, channels: int) -> Bytes:
    """The tile with the last pixel before them in the places that only fill it up."""
    if filling is None:
        return data
    pixels_PC = data.reshape(-1, channels)
    last_P = np.maximum.accumulate(np.where(filling[::channels], 0, np.arange(len(pixels_PC))))
    return pixels_PC[last_P].reshape(-1)
