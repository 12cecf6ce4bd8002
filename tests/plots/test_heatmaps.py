"""Heatmap figures: the values they show, and files of every size and content."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection

from megabyte_mm.plots import bytes_heatmap, picture_heatmap, sound_heatmap, text_heatmap
from megabyte_mm.plots.heatmaps.bytes import byte_rows
from megabyte_mm.plots.heatmaps.layout import renderable
from megabyte_mm.plots.heatmaps.sound import COLUMNS, spectrogram, waveform_columns
from megabyte_mm.plots.heatmaps.text import wrap

ODD = "é中文 שלום ﬁ e\u0301 \x00\r\n\t<b>$x_2$\u202e😀".encode() + b"\xff\xe4\xb8"


def render(figure):
    """Draw the figure as for a file; a missing glyph would raise."""
    FigureCanvasAgg(figure).draw()
    return figure


def title(figure):
    return figure.texts[0].get_text()


@pytest.mark.parametrize(("channels", "size"), [(1, (3, 5)), (3, (3, 5)), (3, (2, 30)), (3, (1, 1))])
def test_a_picture_heatmap_shows_the_pixels_and_the_bits_up_to_those_of_raw_bytes(channels, size):
    pixels = np.random.default_rng(0).integers(0, 256, (*size, channels), dtype=np.uint8)
    bits = np.random.default_rng(1).uniform(0, 30, size)
    figure = render(picture_heatmap(pixels, bits, "中 $x_2$.png", end_bits=2.5))
    picture, cost = (axes.images[0] for axes in figure.axes[:2])
    np.testing.assert_array_equal(np.asarray(picture.get_array()).reshape(pixels.shape), pixels)
    np.testing.assert_array_equal(np.asarray(cost.get_array()), bits)
    assert cost.get_clim() == (0, 8 * channels)
    total = (bits.sum() + 2.5) / pixels.size
    assert title(figure) == f"□ $x_2$.png\n{total:.3f} bits per byte ({pixels.size:,} bytes, END 2.5 bits)"


def test_every_pixel_of_a_map_is_a_square_of_one_colour():
    bits = np.indices((6, 7)).sum(axis=0) % 2 * 8.0
    figure = render(picture_heatmap(np.zeros((6, 7, 1), np.uint8), bits))
    box = figure.axes[1].get_window_extent()
    left, right, low, high = (round(edge) for edge in (box.x0, box.x1, box.y0, box.y1))
    screen = np.asarray(figure.canvas.buffer_rgba())[::-1][low:high, left:right, 0][::-1]
    side = (right - left) // 7
    assert (high - low, right - left) == (6 * side, 7 * side)
    inner = screen.reshape(6, side, 7, side).swapaxes(1, 2)[:, :, 2:-2, 2:-2]  # the frame covers the outermost pixels
    assert all(len(np.unique(pixel)) == 1 for pixel in inner.reshape(42, -1))


def test_a_column_of_a_waveform_has_the_range_and_the_mean_bits_of_its_samples():
    rng = np.random.default_rng(0)
    samples, bits = rng.integers(-9000, 9000, 1003).astype(np.int16), rng.uniform(0, 16, 1003)
    columns = waveform_columns(samples, bits, 100)
    assert (columns.starts[0], columns.starts[-1], len(columns.bits)) == (0, 1003, 100)
    third = slice(columns.starts[3], columns.starts[4])
    assert (columns.low[3], columns.high[3]) == (samples[third].min(), samples[third].max())
    assert columns.bits[3] == pytest.approx(bits[third].mean())
    assert np.sum(columns.bits * np.diff(columns.starts)) == pytest.approx(bits.sum())


@pytest.mark.parametrize(("frames", "channels", "rows"), [(0, 1, 1), (1, 2, 2), (5, 1, 1), (4000, 2, 2), (40, 9, 8)])
def test_every_channel_has_a_waveform_on_the_time_axis_of_the_spectrogram(frames, channels, rows):
    samples = np.random.default_rng(0).integers(-9000, 9000, (frames, channels)).astype(np.int16)
    bits = np.full((frames, channels), 4.0)
    figure = render(sound_heatmap(samples, 8000, bits, "a.wav", bytes_per_sample=1))
    waves = [axes for axes in figure.axes if any(isinstance(c, LineCollection) for c in axes.collections)]
    waves = [axes for axes in waves if axes.get_facecolor() != (1, 1, 1, 1)]  # without the colour bar
    spectrum = next(axes for axes in figure.axes if axes.get_ylabel() == "Hz")
    assert len(waves) == rows
    assert {axes.get_xlim() for axes in waves} == {spectrum.get_xlim()} == {(0, max(frames, 1) / 8000)}
    assert {len(axes.collections[0].get_segments()) for axes in waves} == {min(frames, COLUMNS)}
    assert ("first 8 of 9 channels" in title(figure)) is (channels == 9)
    assert ("no bytes" in title(figure)) is (frames == 0)


def test_a_tone_is_at_its_frequency_in_the_spectrogram_and_full_scale_is_0_decibels():
    tone = 32767 * np.sin(2 * np.pi * 1000 * np.arange(8000) / 8000)
    loudness = spectrogram(tone, 8000, times=9)
    frequencies = np.linspace(0, 4000, len(loudness))
    assert frequencies[loudness[:, 4].argmax()] == 1000
    assert loudness[:, 4].max() == pytest.approx(0, abs=0.2)


def test_lines_break_at_line_ends_and_where_they_are_full_and_the_page_ends_when_full():
    page = wrap("ab\ncdefg\n\nh", columns=3, lines=4)
    assert page.rows.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3]
    assert page.columns.tolist() == [0, 1, 2, 0, 1, 2, 0, 1, 2, 0]
    assert wrap("").lines == 0


@pytest.mark.parametrize("data", [b"", b"\n", b"x", ODD], ids=["empty", "line end", "letter", "odd"])
def test_any_text_has_a_heatmap(data):
    assert "characters" not in title(render(text_heatmap(data, np.ones(len(data)), "a.txt")))


def test_the_title_states_how_much_of_a_long_text_is_shown():
    assert title(text_heatmap(b"x" * 7000, np.ones(7000))).endswith("the first 6,000 of 7,000 characters")


def test_every_character_is_on_the_colour_of_its_bits_per_byte():
    figure = text_heatmap("a中\nb".encode(), np.array([0.0, 9, 8, 7, 4, 8]))
    cells = np.asarray(figure.axes[0].images[0].get_array())[..., :3]
    white, top = [1, 1, 1], cells[1, 0].tolist()
    assert cells[0, 0].tolist() == white
    assert cells[0, 1].tolist() == top != white  # 24 bits of 3 bytes, like 8 of one
    assert cells[0, 2].tolist() not in (white, top)
    assert cells[1, 1].tolist() == white  # after the end of the text


@pytest.mark.parametrize("size", [0, 1, 64, 65, 3000])
def test_a_bytes_heatmap_has_the_bits_row_by_row(size):
    bits = np.random.default_rng(0).uniform(0, 9, size)
    figure = render(bytes_heatmap(bits, "a.bin"))
    cells = np.ma.filled(figure.axes[0].images[0].get_array(), np.nan)
    assert cells.shape == (max(-(-size // 64), 1), 64)
    np.testing.assert_array_equal(cells.reshape(-1)[:size], bits)
    assert np.isnan(cells.reshape(-1)[size:]).all()


def test_longer_files_have_longer_rows_and_the_longest_have_means():
    rows, step = byte_rows(np.arange(1000.0), columns=4, max_cells=100)
    assert (rows.shape, step) == ((13, 8), 10)
    assert rows.reshape(-1)[:100].tolist() == [4.5 + 10 * cell for cell in range(100)]
    rows, step = byte_rows(np.ones(1005), columns=4, max_cells=100)
    assert step == 11
    assert set(rows[~np.isnan(rows)].tolist()) == {1}


def test_a_character_that_the_font_lacks_becomes_a_square():
    assert renderable("aé中\n") == "aé□□"
