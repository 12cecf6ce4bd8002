"""Bits of a picture: the picture, and beside it the cost of each pixel."""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from megabyte_mm.plots.heatmaps.layout import DARK, RAW_BITS, colour_bar, figure_of, heading, pixel_axes, pixel_scale
from megabyte_mm.plots.style import Bytes, Floats, show_pixels

ROOM = 420
"""Screen pixels that small pictures are enlarged to."""
LEFT, TOP, GAP, BAR, RIGHT, BOTTOM = 56, 96, 64, 18, 84, 44
"""Screen pixels around and between the two pictures."""
MIN_WIDTH = 640
"""Screen pixels that the title needs."""


def picture_heatmap(pixels_HWC: Bytes, bits_HW: Floats, name: str = "", end_bits: float = 0.0) -> Figure:
    """Draw a picture and its map of bits per pixel, side by side, or one below the other for wide pictures.

    pixels: (H, W, 1) grey or (H, W, 3) RGB. bits: (H, W), summed over the channels. end_bits: cost of END, for the
    title. Each pixel is a square of screen pixels, without blur; sides above 1680 pixels are reduced.
    """
    height, width, channels = pixels_HWC.shape
    scale = pixel_scale(max(height, width), ROOM)
    across, down, is_wide = width * scale, height * scale, width > 2 * height
    step = (0, down + GAP) if is_wide else (across + GAP, 0)
    total = max(LEFT + across + step[0] + RIGHT + 2 * BAR, MIN_WIDTH), TOP + down + step[1] + BOTTOM
    figure = figure_of(*total, heading(name, bits_HW, end_bits, pixels_HWC.size))
    picture = pixel_axes(figure, LEFT, TOP, across, down)
    show_pixels(picture, pixels_HWC)
    cost = pixel_axes(figure, LEFT + step[0], TOP + step[1], across, down)
    cost.imshow(bits_HW, DARK, vmin=0, vmax=RAW_BITS * channels, interpolation="nearest")
    picture.set_title(f"{width} x {height} pixels", fontsize=10)
    cost.set_title(f"bits per pixel, mean {bits_HW.mean():.2f}", fontsize=10)
    for axis in (picture.xaxis, picture.yaxis, cost.xaxis, cost.yaxis):
        axis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
    bar = pixel_axes(figure, LEFT + step[0] + across + BAR, TOP, BAR, down + step[1])
    colour_bar(figure, bar, "pixel", channels)
    return figure
