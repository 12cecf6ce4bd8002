"""How close a completed picture is to the original: pixels, and the outline of a shape on an even background."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_adapters import Bytes

Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]

PIXEL_TOLERANCE = 24
"""A pixel is right if no channel differs from the original's by so many levels of 255, or more."""
SHAPE_DISTANCE = 48
"""A pixel belongs to the shape if a channel differs from the background by so many levels, or more."""
EVEN_SHARE = 2 / 3
"""Share of the border that must be background; below it the picture counts as one without an even background."""
FIT_ROUNDS = 20


@dataclass(frozen=True)
class PictureFigures:
    """The generated part of a picture against the original.

    pixels_right: share of the pixels, nan without any. shape_iou: intersection over union of the shapes; nan where the
    original has no shape there that stands out from an even background.
    """

    pixels_right: float
    shape_iou: float


def picture_figures(original_HWC: Bytes, completed_HWC: Bytes, generated_HW: Mask) -> PictureFigures:
    """Compare a completed picture with the original, both (H, W, C) uint8, where `generated` (H, W) is true.

    The background is the original's, for both: what differs from it is shape, in any colour.
    """
    right = pixels_right(original_HWC, completed_HWC, generated_HW)
    background = fit_background(original_HWC)
    if not is_even(original_HWC, background):
        return PictureFigures(right, np.nan)
    original_shape, shape = (shape_mask(pixels, background) for pixels in (original_HWC, completed_HWC))
    return PictureFigures(right, shape_iou(original_shape, shape, generated_HW))


def pixels_right(original_HWC: Bytes, completed_HWC: Bytes, generated_HW: Mask) -> float:
    """Return the share of the generated pixels of which no channel is off by PIXEL_TOLERANCE; nan without any."""
    if not generated_HW.any():
        return np.nan
    return float((_largest_difference(original_HWC, completed_HWC) < PIXEL_TOLERANCE)[generated_HW].mean())


def shape_iou(original_HW: Mask, completed_HW: Mask, generated_HW: Mask) -> float:
    """Return the intersection over union of two shapes within the generated part.

    nan where the original has none there: a picture without a shape has no outline to meet.
    """
    original, completed = original_HW & generated_HW, completed_HW & generated_HW
    return float((original & completed).sum() / (original | completed).sum()) if original.any() else np.nan


def shape_mask(pixels_HWC: Bytes, background_HWC: Floats) -> Mask:
    """Return (H, W): where a channel differs from the background by SHAPE_DISTANCE."""
    return _largest_difference(pixels_HWC, background_HWC) >= SHAPE_DISTANCE


def fit_background(pixels_HWC: Bytes) -> Floats:
    """Return the even background that fits a picture's border best: (H, W, C), linear in the position.

    The fit minimises absolute differences, so that a shape may touch the border as long as it covers less than half
    of it.
    """
    height, width, channels = pixels_HWC.shape
    y, x = (axis.ravel() for axis in np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j])
    terms_NF = np.stack([np.ones_like(x), x, y], axis=1)
    border_N = _border(height, width).ravel()
    border_NF, border_NC = terms_NF[border_N], pixels_HWC.reshape(-1, channels)[border_N].astype(np.float64)
    factors_FC, weights_N = np.zeros((3, channels)), np.ones(len(border_NF))
    for _ in range(FIT_ROUNDS):  # least squares, each time with less weight on pixels that lie far off
        root_N = np.sqrt(weights_N)[:, None]
        factors_FC = np.linalg.lstsq(border_NF * root_N, border_NC * root_N, rcond=None)[0]
        weights_N = 1 / np.maximum(np.abs(border_NC - border_NF @ factors_FC).max(axis=1), 1.0)
    background: Floats = np.clip(terms_NF @ factors_FC, 0, 255).reshape(pixels_HWC.shape)
    return background


def is_even(pixels_HWC: Bytes, background_HWC: Floats) -> bool:
    """Return True if most of the picture's border is background."""
    border = _border(*pixels_HWC.shape[:2])
    return bool((~shape_mask(pixels_HWC, background_HWC))[border].mean() >= EVEN_SHARE)


def _border(height: int, width: int) -> Mask:
    border = np.ones((height, width), dtype=bool)
    border[1:-1, 1:-1] = False
    return border


def _largest_difference(one_HWC: Bytes, other_HWC: Bytes | Floats) -> Floats:
    """Return the difference of the channel that differs most, (H, W)."""
    difference: Floats = np.abs(one_HWC.astype(np.float64) - other_HWC).max(axis=2)
    return difference
