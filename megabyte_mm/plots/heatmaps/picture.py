"""Where the bits of a picture go: the picture, and beside it what each of its pixels costs."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from megabyte_mm.plots.heatmaps.scale import DARK, DPI, RAW, Floats, bits_bar, exact_axes, heading, put_title, scale_for

ROOM = 420
"""Screen pixels that a small picture is enlarged to."""
LEFT, TOP, GAP, BAR, RIGHT, BOTTOM = 56, 96, 64, 18, 84, 44
"""Screen pixels around the two pictures and between them."""
LEAST = 640
"""Screen pixels that the title needs."""


def picture_heatmap(pixels_HWC: NDArray[np.uint8], bits_HW: Floats, name: str = "", end_bits: float = 0.0) -> Figure:
    """The picture and its map of bits per pixel, side by side, or one below the other where it is wide.

    pixels: (H, W, 1) grey or (H, W, 3) uint8. bits: (H, W), all channels of a pixel together. end_bits: what END costs,
    told in the title. Every pixel is a square of screen pixels, without blur; a side of over 1680 loses some.
    """
    height, width, channels = pixels_HWC.shape
    scale = scale_for(max(height, width), ROOM)
    across, down, below = width * scale, height * scale, width > 2 * height
    step = (0, down + GAP) if below else (across + GAP, 0)
    total = max(LEFT + across + step[0] + RIGHT + 2 * BAR, LEAST), TOP + down + step[1] + BOTTOM
    figure = Figure(figsize=(total[0] / DPI, total[1] / DPI), dpi=DPI)
    put_title(figure, heading(name, bits_HW, end_bits, pixels_HWC.size), total[1])
    picture = exact_axes(figure, LEFT, TOP, across, down)
    picture.imshow(
        pixels_HWC if channels == 3 else pixels_HWC[..., 0], "gray", vmin=0, vmax=255, interpolation="nearest"
    )
    cost = exact_axes(figure, LEFT + step[0], TOP + step[1], across, down)
    cost.imshow(bits_HW, DARK, vmin=0, vmax=RAW * channels, interpolation="nearest")
    picture.set_title(f"{width} x {height} pixels", fontsize=10)
    cost.set_title(f"bits per pixel, {bits_HW.mean():.2f} in the mean", fontsize=10)
    for axis in (picture.xaxis, picture.yaxis, cost.xaxis, cost.yaxis):
        axis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
    bar = exact_axes(figure, LEFT + step[0] + across + BAR, TOP, BAR, down + step[1])
    bits_bar(figure, bar, "pixel", channels)
    return figure
