"""Bits of a sound: over its waveform and its spectrogram, on one time axis.

Shapes: T frames, C channels, N columns of a waveform, F frequencies, S times of the spectrogram.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from megabyte_mm.plots.heatmaps.layout import DPI, RAW_BITS, colour_bar, figure_of, heading, pixel_axes
from megabyte_mm.plots.style import FULL_SCALE, Floats, Samples

COLOURS = "plasma"
"""Visible on the grey background of a waveform."""
BACKGROUND, CURVE = "#d4d4d8", "#c2185b"
COLUMNS = 900
"""Columns of a waveform and of the spectrogram, at most."""
CURVE_POINTS = 180
"""Points of the curve of bits, at most."""
MAX_CHANNELS = 8
"""Waveforms, at most."""
DYNAMIC_RANGE = 80
"""Decibels between the loudest point of the spectrogram and white."""
MIN_BLACK = -60
"""Lowest level of black, in decibels of full scale; so silence is white."""
WINDOW_SECONDS = 0.025
"""Approximate duration of a window of the spectrogram."""
LEFT, TOP, GAP, BAR, RIGHT, BOTTOM = 92, 76, 22, 18, 84, 52
WAVE, SPECTROGRAM = (220, 120, 90), 240
"""Screen pixels: heights of the waveforms of one, two and more channels, and of the spectrogram."""


@dataclass(frozen=True)
class Columns:
    """A waveform in N columns of neighbouring samples.

    starts: (N + 1,), first sample of each column, and the end. low, high: (N,), range of the samples. bits: (N,), mean
    bits per sample.
    """

    starts: NDArray[np.int64]
    low: Floats
    high: Floats
    bits: Floats


def sound_heatmap(
    samples_TC: Samples,
    rate: int,
    bits_TC: Floats,
    name: str = "",
    end_bits: float = 0.0,
    bytes_per_sample: int = 2,
) -> Figure:
    """Draw the waveform of each channel, coloured by bits per sample, and the spectrogram with the bits as a curve.

    samples, bits: (T, C), T >= 0. rate: in Hz. end_bits: cost of END, for the title. The spectrogram shows the mean of
    the channels, the curve the mean over channels and short spans. With more than 8 channels, the first 8 are drawn.
    """
    frames, channels = samples_TC.shape
    shown = min(channels, MAX_CHANNELS)
    height = WAVE[min(shown, len(WAVE)) - 1]
    waves = shown * height + (shown - 1) * GAP
    title = heading(name, bits_TC, end_bits, bits_TC.size * bytes_per_sample)
    if shown < channels:
        title = f"{title} · first {shown} of {channels} channels"
    figure = figure_of(LEFT + COLUMNS + RIGHT + 2 * BAR, TOP + waves + GAP + SPECTROGRAM + BOTTOM, title)
    end = max(frames, 1) / rate
    for channel in range(shown):
        axes = pixel_axes(figure, LEFT, TOP + channel * (height + GAP), COLUMNS, height)
        _draw_waveform(axes, samples_TC[:, channel], bits_TC[:, channel], rate, bytes_per_sample)
        axes.set(xlim=(0, end), ylabel="sample" if channels == 1 else f"channel {channel + 1}")
        axes.tick_params(labelbottom=False)
    colour_bar(figure, pixel_axes(figure, LEFT + COLUMNS + BAR, TOP, BAR, waves), "sample", bytes_per_sample, COLOURS)
    axes = pixel_axes(figure, LEFT, TOP + waves + GAP, COLUMNS, SPECTROGRAM)
    _draw_spectrogram(axes, samples_TC.mean(axis=1, dtype=np.float64), rate)
    axes.set(xlim=(0, end), xlabel="seconds", ylabel="Hz")
    _draw_curve(axes, bits_TC.mean(axis=1), rate, bytes_per_sample)
    return figure


def waveform_columns(samples_T: Samples, bits_T: Floats, count: int = COLUMNS) -> Columns:
    """Divide the samples of a channel into at most `count` columns. samples, bits: (T,), T >= 0."""
    count = min(count, len(samples_T))
    starts = np.arange(count + 1) * len(samples_T) // max(count, 1)
    if not count:
        return Columns(starts, *[np.zeros(0)] * 3)
    low, high = (extreme.reduceat(samples_T, starts[:-1]).astype(float) for extreme in (np.minimum, np.maximum))
    return Columns(starts, low, high, np.add.reduceat(bits_T, starts[:-1]) / np.diff(starts))


def spectrogram(samples_T: Floats, rate: int, times: int = COLUMNS) -> Floats:
    """Level in decibels of full scale, for F frequencies from 0 to rate / 2 at S <= times points in time: (F, S).

    Hann windows of about 25 ms, a power of two samples, evenly spread from the first sample to the last.
    """
    size = 2 ** min(max(round(math.log2(rate * WINDOW_SECONDS)), 5), 12)
    middles = np.linspace(0, len(samples_T) - 1, min(times, len(samples_T)), dtype=np.int64)
    around = np.pad(samples_T / FULL_SCALE, size // 2)
    windows_SN = around[middles[:, None] + np.arange(size)] * np.hanning(size)
    power_SF = np.abs(np.fft.rfft(windows_SN, axis=1)) ** 2 / np.hanning(size).sum() ** 2 * 4
    level_FS: Floats = 10 * np.log10(np.maximum(power_SF.T, 1e-12))
    return level_FS


def _draw_waveform(axes: Axes, samples_T: Samples, bits_T: Floats, rate: int, bytes_per_sample: int) -> None:
    columns = waveform_columns(samples_T, bits_T)
    # Each column reaches to the one before, as a line through the samples would.
    low = np.minimum(columns.low, np.append(columns.high[:1], columns.high[:-1]))
    high = np.maximum(columns.high, np.append(columns.low[:1], columns.low[:-1]))
    middles = (columns.starts[:-1] + columns.starts[1:]) / 2 / rate
    # A stroke of length 0 would be invisible.
    margin = max(float(np.abs(samples_T.astype(np.int32)).max(initial=1)), 1.0) * 0.01
    strokes = np.stack([np.stack([middles, low - margin], 1), np.stack([middles, high + margin], 1)], 1)
    colours = ScalarMappable(Normalize(0, RAW_BITS * bytes_per_sample), COLOURS).to_rgba(columns.bits)
    width = 1.5 * COLUMNS / max(len(columns.bits), 1) * 72 / DPI
    axes.add_collection(
        LineCollection(
            list(strokes), colors=colours, linewidths=width, capstyle="butt", antialiaseds=len(middles) < COLUMNS
        )
    )
    axes.set(ylim=(-1.08 * 100 * margin, 1.08 * 100 * margin), facecolor=BACKGROUND)


def _draw_spectrogram(axes: Axes, samples_T: Floats, rate: int) -> None:
    if not len(samples_T):
        axes.set_ylim(0, rate / 2)
        return
    level_FS = spectrogram(samples_T, rate)
    extent = (0, len(samples_T) / rate, 0, rate / 2)
    top = max(float(level_FS.max()), MIN_BLACK)
    axes.imshow(level_FS, "gray_r", aspect="auto", origin="lower", extent=extent, vmin=top - DYNAMIC_RANGE, vmax=top)


def _draw_curve(axes: Axes, bits_T: Floats, rate: int, bytes_per_sample: int) -> None:
    columns = waveform_columns(np.zeros(len(bits_T), np.int16), bits_T, CURVE_POINTS)
    middles = (columns.starts[:-1] + columns.starts[1:]) / 2 / rate
    top = RAW_BITS * bytes_per_sample
    marker = "." if len(middles) == 1 else ""
    bits_axes = axes.twinx()
    bits_axes.plot(middles, np.minimum(columns.bits, top), color=CURVE, linewidth=1.6, marker=marker)
    bits_axes.set(ylim=(0, top))
    bits_axes.set_ylabel("bits per sample", color=CURVE)
    bits_axes.tick_params(axis="y", colors=CURVE)
