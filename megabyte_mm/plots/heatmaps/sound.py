"""Where the bits of a sound go: over its waveform and its spectrogram, on one axis of time.

Shapes: T frames, C channels, N columns of a waveform, F frequencies, S places of the spectrogram.
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

from megabyte_mm.plots.heatmaps.scale import DPI, RAW, Floats, bits_bar, exact_axes, heading, put_title
from megabyte_mm.plots.sound import FULL_SCALE

Samples = NDArray[np.int16]

COLOURS = "plasma"
"""On the grey ground of a waveform, all of these can be seen."""
GROUND = "#d4d4d8"
COLUMNS = 900
"""Columns of a waveform at most, and places of the spectrogram."""
STRETCHES = 180
"""Points of the curve of bits at most."""
CHANNELS = 8
"""Waveforms at most."""
LOUDNESS = 80
"""Decibels below the loudest that the spectrogram goes down to."""
FAINT = -60
"""Decibels below full scale at which the darkest grey stands at least, so that silence is white."""
HEARD = 0.025
"""Seconds of sound that each place of the spectrogram shows, about."""
LEFT, TOP, GAP, BAR, RIGHT, BOTTOM = 92, 76, 22, 18, 84, 52
WAVE, SPECTROGRAM = (220, 120, 90), 240
"""Screen pixels: heights of the waveforms of one, two and more channels, and of the spectrogram."""


@dataclass(frozen=True)
class Columns:
    """A waveform in N columns of neighbouring samples.

    starts: (N + 1,), the first sample of each column, and the end. low, high: (N,), their range. bits: (N,), the mean
    of what each of them costs, so that long sounds keep their total.
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
    """The waveform of each channel coloured by bits per sample, and the spectrogram with the bits as a curve.

    samples, bits: (T, C), T >= 0. rate: in Hz. end_bits: what END costs, told in the title. The spectrogram is that of
    the channels' mean, and the curve the mean over channels and over short stretches. Of more than 8 channels, the
    first 8 are drawn.
    """
    frames, channels = samples_TC.shape
    shown = min(channels, CHANNELS)
    each = WAVE[min(shown, len(WAVE)) - 1]
    waves = shown * each + (shown - 1) * GAP
    total = LEFT + COLUMNS + RIGHT + 2 * BAR, TOP + waves + GAP + SPECTROGRAM + BOTTOM
    figure = Figure(figsize=(total[0] / DPI, total[1] / DPI), dpi=DPI)
    title = heading(name, bits_TC, end_bits, bits_TC.size * bytes_per_sample)
    put_title(figure, title if shown == channels else f"{title} · first {shown} of {channels} channels", total[1])
    end = max(frames, 1) / rate
    for channel in range(shown):
        axes = exact_axes(figure, LEFT, TOP + channel * (each + GAP), COLUMNS, each)
        _draw_waveform(axes, samples_TC[:, channel], bits_TC[:, channel], rate, bytes_per_sample)
        axes.set(xlim=(0, end), ylabel="sample" if channels == 1 else f"channel {channel + 1}")
        axes.tick_params(labelbottom=False)
    bits_bar(figure, exact_axes(figure, LEFT + COLUMNS + BAR, TOP, BAR, waves), "sample", bytes_per_sample, COLOURS)
    axes = exact_axes(figure, LEFT, TOP + waves + GAP, COLUMNS, SPECTROGRAM)
    _draw_spectrogram(axes, samples_TC.mean(axis=1, dtype=np.float64), rate)
    axes.set(xlim=(0, end), xlabel="seconds", ylabel="Hz")
    _draw_curve(axes, bits_TC.mean(axis=1), rate, bytes_per_sample)
    return figure


def waveform_columns(samples_T: Samples, bits_T: Floats, count: int = COLUMNS) -> Columns:
    """The samples of a channel in at most `count` columns: (T,) twice, T >= 0."""
    count = min(count, len(samples_T))
    starts = np.arange(count + 1) * len(samples_T) // max(count, 1)
    if not count:
        return Columns(starts, *[np.zeros(0)] * 3)
    low, high = (extreme.reduceat(samples_T, starts[:-1]).astype(float) for extreme in (np.minimum, np.maximum))
    return Columns(starts, low, high, np.add.reduceat(bits_T, starts[:-1]) / np.diff(starts))


def spectrogram(samples_T: Floats, rate: int, places: int = COLUMNS) -> Floats:
    """Loudness in decibels below full scale, of F frequencies from 0 to rate / 2 at S <= places times: (F, S).

    Hann windows of about 25 ms, a power of two samples, evenly spread from the first sample to the last.
    """
    size = 2 ** min(max(round(math.log2(rate * HEARD)), 5), 12)
    middles = np.linspace(0, len(samples_T) - 1, min(places, len(samples_T)), dtype=np.int64)
    around = np.pad(samples_T / FULL_SCALE, size // 2)
    pieces_SN = around[middles[:, None] + np.arange(size)] * np.hanning(size)
    power_SF = np.abs(np.fft.rfft(pieces_SN, axis=1)) ** 2 / np.hanning(size).sum() ** 2 * 4
    loudness: Floats = 10 * np.log10(np.maximum(power_SF.T, 1e-12))
    return loudness


def _draw_waveform(axes: Axes, samples_T: Samples, bits_T: Floats, rate: int, bytes_per_sample: int) -> None:
    columns = waveform_columns(samples_T, bits_T)
    # Each column reaches up or down to the one before, as a line through the samples would.
    low = np.minimum(columns.low, np.append(columns.high[:1], columns.high[:-1]))
    high = np.maximum(columns.high, np.append(columns.low[:1], columns.low[:-1]))
    middles = (columns.starts[:-1] + columns.starts[1:]) / 2 / rate
    # A stroke of no length would not be seen.
    least = max(float(np.abs(samples_T.astype(np.int32)).max(initial=1)), 1.0) * 0.01
    strokes = np.stack([np.stack([middles, low - least], 1), np.stack([middles, high + least], 1)], 1)
    colours = ScalarMappable(Normalize(0, RAW * bytes_per_sample), COLOURS).to_rgba(columns.bits)
    wide = 1.5 * COLUMNS / max(len(columns.bits), 1) * 72 / DPI
    axes.add_collection(
        LineCollection(
            list(strokes), colors=colours, linewidths=wide, capstyle="butt", antialiaseds=len(middles) < COLUMNS
        )
    )
    axes.set(ylim=(-1.08 * 100 * least, 1.08 * 100 * least), facecolor=GROUND)


def _draw_spectrogram(axes: Axes, samples_T: Floats, rate: int) -> None:
    if not len(samples_T):
        axes.set_ylim(0, rate / 2)
        return
    loudness_FS = spectrogram(samples_T, rate)
    extent = (0, len(samples_T) / rate, 0, rate / 2)
    top = max(float(loudness_FS.max()), FAINT)
    axes.imshow(loudness_FS, "gray_r", aspect="auto", origin="lower", extent=extent, vmin=top - LOUDNESS, vmax=top)


def _draw_curve(axes: Axes, bits_T: Floats, rate: int, bytes_per_sample: int) -> None:
    columns = waveform_columns(np.zeros(len(bits_T), np.int16), bits_T, STRETCHES)
    middles = (columns.starts[:-1] + columns.starts[1:]) / 2 / rate
    beside = axes.twinx()
    beside.plot(
        middles,
        np.minimum(columns.bits, RAW * bytes_per_sample),
        color="#c2185b",
        linewidth=1.6,
        marker="." if len(middles) == 1 else "",
    )
    beside.set(ylim=(0, RAW * bytes_per_sample))
    beside.set_ylabel("bits per sample", color="#c2185b")
    beside.tick_params(axis="y", colors="#c2185b")
