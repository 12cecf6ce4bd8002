"""Two orders of the bytes of a pixel grid, and their exact inverses.

Shapes: H height, W width, C channels, p patch side, n = H * W * C bytes.

A raster scan goes row by row. A patch scan goes patch by patch (patches in raster order, pixels in raster order inside
each), so that p * p * C consecutive bytes are one square of the image. Where p does not divide a side, the patches at
the right and lower edges are smaller: nothing is padded or lost, but patches after the first smaller one no longer
start at multiples of p * p * C. The bytes of a pixel stay together in both orders.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from data_adapters.base import Bytes

Value = TypeVar("Value", bound=np.generic)


def raster_scan(pixels_HWC: Bytes) -> Bytes:
    """(H, W, C) uint8 -> (n,) uint8, row by row."""
    return pixels_HWC.reshape(-1)


def raster_unscan(data: NDArray[Value], height: int, width: int, channels: int) -> NDArray[Value]:
    """(n,) bytes, or one value of any type per byte -> (H, W, C): the inverse of `raster_scan`.

    Raises ValueError unless n = H * W * C.
    """
    return data.reshape(height, width, channels)


def patch_scan(pixels_HWC: Bytes, patch: int) -> Bytes:
    """(H, W, C) uint8 -> (n,) uint8, patch by patch."""
    height, width, channels = pixels_HWC.shape
    rows = height // patch
    full = _scan_bands(pixels_HWC[: rows * patch].reshape(rows, patch, width, channels), patch)
    rest = _scan_bands(pixels_HWC[None, rows * patch :], patch)
    return np.concatenate([full, rest])


def patch_unscan(data: NDArray[Value], height: int, width: int, channels: int, patch: int) -> NDArray[Value]:
    """(n,) bytes, or one value of any type per byte -> (H, W, C): the inverse of `patch_scan`.

    Raises ValueError unless n = H * W * C.
    """
    rows = height // patch
    split = rows * patch * width * channels
    full = _unscan_bands(data[:split], (rows, patch, width, channels), patch)
    rest = _unscan_bands(data[split:], (1, height - rows * patch, width, channels), patch)
    return np.concatenate([full, rest])


def _scan_bands(bands_BIWC: Bytes, patch: int) -> Bytes:
    """Scan B bands, each one row of patches I pixels high, into flat bytes."""
    bands, high, width, channels = bands_BIWC.shape
    columns = width // patch
    full = bands_BIWC[:, :, : columns * patch].reshape(bands, high, columns, patch, channels).swapaxes(1, 2)
    rest = bands_BIWC[:, :, columns * patch :]
    each = (bands, high * columns * patch * channels), (bands, high * (width % patch) * channels)
    return np.concatenate([full.reshape(each[0]), rest.reshape(each[1])], axis=1).reshape(-1)


def _unscan_bands(data: NDArray[Value], shape_BIWC: tuple[int, int, int, int], patch: int) -> NDArray[Value]:
    """Inverse of `_scan_bands`, with the bands one below the other: (B * I, W, C)."""
    bands, high, width, channels = shape_BIWC
    columns = width // patch
    lines = data.reshape(bands, high * width * channels)
    split = high * columns * patch * channels
    full = lines[:, :split].reshape(bands, columns, high, patch, channels).swapaxes(1, 2)
    rest = lines[:, split:].reshape(bands, high, width % patch, channels)
    pixels = np.concatenate([full.reshape(bands, high, columns * patch, channels), rest], axis=2)
    return pixels.reshape(bands * high, width, channels)
