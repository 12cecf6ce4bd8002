"""A reversible transform of colour: red and blue as their differences to green, which vary less than they do.

WebP calls it subtract green. Shapes: H height, W width.
"""

from __future__ import annotations

import numpy as np

from data_adapters.base import Bytes

GREY = 128
"""The difference of equal channels."""


def subtract_green(pixels_HWC: Bytes) -> Bytes:
    """(H, W, 3) red, green, blue -> (H, W, 3) green, red - green + 128, blue - green + 128, modulo 256."""
    red, green, blue = np.moveaxis(pixels_HWC, -1, 0)
    return np.stack([green, red - green + np.uint8(GREY), blue - green + np.uint8(GREY)], axis=-1)


def add_green(coded_HWC: Bytes) -> Bytes:
    """The inverse of `subtract_green`: (H, W, 3) -> (H, W, 3)."""
    green, red, blue = np.moveaxis(coded_HWC, -1, 0)
    return np.stack([red + green - np.uint8(GREY), green, blue + green - np.uint8(GREY)], axis=-1)
