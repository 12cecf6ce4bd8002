"""Where the bits of a file go: what each byte cost, painted over the picture, the waveform, the text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Samples = NDArray[np.int16]
Floats = NDArray[np.float64]

SLACK = 0.01
"""By how much a waveform is drawn larger, so that silence is a line."""
COLOURS = "magma"
STRETCHES = 400
"""A sound is drawn as so many stretches at most, each from its lowest to its highest sample."""
FULL = 32768
"""Full scale of 16-bit samples."""
MOST = 12.0
"""Bits of a character from which on it is as red as characters get."""


def picture_bits(pixels_HWC: Bytes, bits: Mapping[str, Floats]) -> Figure:
    """A picture, and beside it the bits of each pixel under each method, all in one scale of colours.

    bits: method -> the bits of each byte at its place in the picture: (H, W, C).
    """
    figure = Figure(figsize=(3.2 * (1 + len(bits)) + 0.8, 3.4), layout="constrained")
    first, *others = figure.subplots(1, 1 + len(bits))
    first.imshow(pixels_HWC.squeeze(), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    first.set_title("the picture", size=10)
    of_pixels = {name: its.sum(axis=2) for name, its in bits.items()}
    highest = max(float(its.max()) for its in of_pixels.values())
    for axes, (name, its) in zip(others, of_pixels.items(), strict=True):
        heat = axes.imshow(its, cmap=COLOURS, vmin=0, vmax=highest, interpolation="nearest")
        axes.set_title(f"{name}: {bits[name].mean():.3f} bits per byte", size=10)
    for axes in (first, *others):
        axes.set_xticks(())
        axes.set_yticks(())
    figure.colorbar(heat, ax=others, label="bits of a pixel")
    return figure


def sound_bits(samples_T: Samples, bits: Mapping[str, Floats], rate: int) -> Figure:
    """The waveform in the colours of its samples' bits, a row for each method, all in one scale.

    bits: method -> the bits of each sample: (T,).
    """
    figure = Figure(figsize=(10, 1.8 * len(bits) + 0.4), layout="constrained")
    rows = figure.subplots(len(bits), squeeze=False, sharex=True)[:, 0]
    stretches = _stretches(samples_T / FULL)
    low = np.array([its.min() for its in stretches]) - SLACK
    high = np.array([its.max() for its in stretches]) + SLACK
    seconds = np.cumsum([0, *map(len, stretches[:-1])]) / rate
    means = {name: np.array([its.mean() for its in _stretches(its)]) for name, its in bits.items()}
    highest = max(float(its.max()) for its in means.values())
    for axes, (name, its) in zip(rows, means.items(), strict=True):
        heat = axes.vlines(seconds, low, high, cmap=COLOURS, linewidth=1.9)
        heat.set(array=its, clim=(0, highest))
        axes.margins(x=0)
        axes.set_title(f"{name}: {bits[name].mean():.3f} bits per sample", loc="left", size=10)
        axes.set_yticks(())
    rows[-1].set_xlabel("seconds")
    figure.colorbar(heat, ax=list(rows), label="bits of a sample")
    return figure


def _stretches(values: Floats) -> list[Floats]:
    """At most STRETCHES stretches of equal length, but for the last."""
    length = -(-len(values) // STRETCHES)
    return [values[start : start + length] for start in range(0, len(values), length)]


def text_bits(data: Bytes, bits: Floats) -> str:
    """Text as HTML, each character on a ground that is the redder the more bits it cost, which a tooltip tells.

    data, bits: (n,) each. Bytes that are not UTF-8 show as replacement characters, one each.
    """
    pieces, place = [], 0
    for piece in _characters(data.tobytes()):
        cost = float(bits[place : place + len(piece)].sum())
        pieces.append(_span(piece.decode(errors="replace"), cost))
        place += len(piece)
    return f'<div style="white-space: pre-wrap; font-family: monospace; line-height: 1.5">{"".join(pieces)}</div>'


def _characters(data: bytes) -> Sequence[bytes]:
    """The bytes of each character."""
    return [character.encode(errors="surrogateescape") for character in data.decode(errors="surrogateescape")]


def _span(character: str, cost: float) -> str:
    # Not to the dark end of the scale, on which black letters drown.
    ground = to_hex(colormaps["YlOrRd"](0.75 * min(cost / MOST, 1.0)))
    shown = "↵\n" if character == "\n" else escape(character)
    return f'<span style="background: {ground}; color: black" title="{cost:.2f} bits">{shown}</span>'
