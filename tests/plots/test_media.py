"""Figures of media as bytes."""

from typing import Any

import numpy as np
import pytest
from matplotlib.collections import LineCollection

from megabyte_mm.plots import byte_counts, byte_grid, scan_distances, scan_orders, text_bytes
from megabyte_mm.plots.media import channel_colours

PIXELS = np.arange(4 * 4 * 3, dtype=np.uint8).reshape(4, 4, 3)
RASTER = np.arange(16)
PATCH = np.array([0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15])


def test_each_scan_has_its_path_its_stream_and_its_marked_patch():
    figure: Any = scan_orders(PIXELS, {"raster": RASTER, "patch": PATCH}, patch=4, marked=1)
    assert len(figure.axes) == 4
    path, stream = figure.axes[2:]
    (line,) = [item for item in path.collections if isinstance(item, LineCollection)]
    walked = np.array([segment[0] for segment in line.get_segments()])
    np.testing.assert_array_equal(walked, np.stack([PATCH % 4, PATCH // 4], axis=1)[:-1])
    marked = {(mark.get_x() + 0.5, mark.get_y() + 0.5) for mark in path.patches}
    assert marked == {(2, 0), (3, 0), (2, 1), (3, 1)}  # the second square
    (frame,) = stream.patches
    assert frame.get_y() == 0.5


def test_the_stream_has_a_line_for_each_patch_and_a_tint_for_each_channel():
    shown = channel_colours(PIXELS, PATCH, 4)
    assert shown.shape == (4, 12, 3)
    bytes_in_order = PIXELS.reshape(-1, 3)[PATCH].reshape(4, 12)
    np.testing.assert_array_equal(shown.max(axis=2), bytes_in_order)
    assert (shown[1:].argmax(axis=2) == np.arange(12) % 3).all()
    grey = channel_colours(PIXELS[:, :, :1], RASTER, 5)  # 16 pixels in lines of 5: the last is filled with black
    assert grey.shape == (4, 5, 3)
    assert (grey[..., 0] == grey[..., 2]).all()
    assert not grey[3, 1:].any()


def test_in_a_raster_scan_a_row_back_is_one_pixel_away():
    figure: Any = scan_distances({"raster": RASTER, "patch": PATCH}, width=4, pixels_back=4)
    raster, patch = figure.axes[0].lines
    assert raster.get_ydata()[3] == 1
    assert patch.get_ydata()[3] > 1
    assert len(patch.get_ydata()) == 4


def test_every_byte_is_a_numbered_cell():
    figure: Any = byte_grid(np.array([0, 255, 7], np.uint8), columns=2, labels="RGB")
    texts = figure.axes[0].texts
    assert [text.get_text() for text in texts] == ["0\nR", "255\nG", "7\nB"]
    assert [text.get_position() for text in texts] == [(0, 0), (1, 0), (0, 1)]
    assert [text.get_color() for text in texts] == ["white", "black", "white"]


def test_a_character_is_as_wide_as_its_bytes_and_never_broken():
    figure: Any = text_bytes(list("aß€\n"), columns=5)
    cells = [(cell.get_x(), cell.get_y() > 0, cell.get_width()) for cell in figure.axes[0].patches]
    assert cells == [(0, False, 1), (1, False, 2), (0, True, 3), (3, True, 1)]
    shown = [text.get_text() for text in figure.axes[0].texts]
    assert shown == ["a", "97", "ß", "195", "159", "€", "226", "130", "172", "\\n", "10"]
    with pytest.raises(ValueError, match="3 bytes do not fit into 2 columns"):
        text_bytes(["€"], columns=2)


def test_counts_are_shares_of_each_stream():
    figure: Any = byte_counts({"a": np.array([1, 1, 3, 255], np.uint8), "none": np.array([], np.uint8)})
    heights = [bar.get_height() for bar in figure.axes[0].patches]
    assert (heights[1], heights[3], heights[255], sum(heights)) == (0.5, 0.25, 0.25, 1)
    assert figure.axes[0].get_title("left") == "a: 3 of 256 bytes occur"
    assert figure.axes[1].get_title("left") == "none: 0 of 256 bytes occur"
