"""Array types, colours and small helpers. Short, since it holds only what several figures share."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Samples = NDArray[np.int16]
Floats = NDArray[np.float64]

FULL_SCALE = 32768
"""Full scale of 16-bit samples."""

INK, RULE = "#5d6772", "#dfe3e8"
"""Colours of text and of lines behind curves."""
TRAIN, VAL = "#8a97a8", "#c2410c"
SOURCES = ("#2563eb", "#0f8a5f", "#b8860b", "#9333ea")
"""Colours of the sources of a mix, in turn."""


def show_pixels(axes: Axes, pixels_HWC: Bytes, **options: Any) -> None:
    """Draw a grey or RGB picture in its true values, without blur."""
    pixels = pixels_HWC[..., 0] if pixels_HWC.shape[2] == 1 else pixels_HWC
    axes.imshow(pixels, cmap="gray", vmin=0, vmax=255, interpolation="nearest", **options)


def hide_ticks(axes: Axes) -> None:
    """Remove the ticks and numbers of both axes."""
    axes.set_xticks(())
    axes.set_yticks(())
