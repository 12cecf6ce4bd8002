"""A picture of any size in tiles of one size, and the picture again.

Shapes: H height, W width, C channels of the picture; h, w those of a tile; n bytes of a tile; P its pixels.

Tiles at the right and lower edges are filled. In the order of the scan the filler repeats the pixel before it, so that
a reader who knows the picture's size knows every byte of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from data_adapters.base import Bytes, ByteStream
from data_adapters.image import ImageAdapter

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Tiling:
    """The tiles of a picture of `height` x `width` pixels, row by row, in the size and scan of the adapter."""

    height: int
    width: int
    adapter: ImageAdapter

    @property
    def count(self) -> int:
        """The number of tiles."""
        width, height = self._tile_size
        return -(-self.width // width) * -(-self.height // height)

    def cut(self, pixels_HWC: Bytes) -> list[Bytes]:
        """The picture's tiles, each (n,) uint8 in the order of the scan."""
        width, height = self._tile_size
        tiles = []
        for (top, left), mask in zip(self._corners(), self.filler_masks, strict=True):
            tile_hwC = pixels_HWC[top : top + height, left : left + width]
            missing = ((0, height - tile_hwC.shape[0]), (0, width - tile_hwC.shape[1]), (0, 0))
            tiles.append(self._filled(self.adapter.pixel_bytes(np.pad(tile_hwC, missing)), mask))
        return tiles

    def join(self, tiles: Sequence[Bytes]) -> Bytes:
        """The picture, (H, W, C) uint8. Raises ValueError for another number of tiles."""
        width, height = self._tile_size
        format = self.adapter.default_format()
        pixels_HWC = np.empty((self.height, self.width, self.adapter.unit), np.uint8)
        for (top, left), tile in zip(self._corners(), tiles, strict=True):
            visible_hwC = pixels_HWC[top : top + height, left : left + width]
            pixels_hwC = self.adapter.pixels(ByteStream(tile, format))
            visible_hwC[:] = pixels_hwC[: visible_hwC.shape[0], : visible_hwC.shape[1]]
        return pixels_HWC

    @cached_property
    def filler_masks(self) -> list[Mask | None]:
        """Of each tile the mask of its filler, (n,) bool; None for a tile without filler."""
        width, height = self._tile_size
        visible = [(min(height, self.height - top), min(width, self.width - left)) for top, left in self._corners()]
        masks = {size: self._filler_mask(*size) for size in set(visible)}
        return [masks[size] for size in visible]

    def _filler_mask(self, height: int, width: int) -> Mask | None:
        """The mask of a tile with `height` x `width` pixels inside the picture."""
        tile_width, tile_height = self._tile_size
        if (height, width) == (tile_height, tile_width):
            return None
        outside_hwC = np.ones((tile_height, tile_width, self.adapter.unit), np.uint8)
        outside_hwC[:height, :width] = 0
        return self.adapter.scan_pixels(outside_hwC).astype(bool)

    def _filled(self, data: Bytes, mask: Mask | None) -> Bytes:
        """The tile with its filler: the pixel before, in the order of the scan."""
        if mask is None:
            return data
        pixels_PC = data.reshape(-1, self.adapter.unit)
        last_P = np.maximum.accumulate(np.where(mask[:: self.adapter.unit], 0, np.arange(len(pixels_PC))))
        return pixels_PC[last_P].reshape(-1)

    def _corners(self) -> Iterator[tuple[int, int]]:
        """The top and left of each tile."""
        width, height = self._tile_size
        for top in range(0, self.height, height):
            for left in range(0, self.width, width):
                yield top, left

    @property
    def _tile_size(self) -> tuple[int, int]:
        """Width and height of a tile."""
        assert self.adapter.size is not None
        return self.adapter.size
