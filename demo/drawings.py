"""Inline SVG: a training curve, a waveform. Colours come from the page's stylesheet."""

from __future__ import annotations

import math

import numpy as np
from metrics import Curve, Points
from numpy.typing import NDArray

WIDTH, HEIGHT = 640, 240
LEFT, RIGHT, TOP, BOTTOM = 36, 628, 14, 210
STRIP, BARS = 40, 160  # height of a waveform and the number of its bars


def draw_curve(curve: Curve) -> str:
    """Training and validation bits per byte over steps; both axes start at 0. Empty for an empty curve."""
    points = curve.train + curve.val
    if not points:
        return ""
    steps = max([1, *(step for step, _ in points)])
    top = math.ceil(max(value for _, value in points)) or 1
    dots = "".join(f'<circle class="val" cx="{x}" cy="{y}" r="3.5"/>' for x, y in _places(curve.val, steps, top))
    return (
        f'<svg class="curve" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="bits per byte over training steps">'
        f"{_axes(steps, top)}{_line('train', curve.train, steps, top)}{_line('val', curve.val, steps, top)}{dots}</svg>"
    )


def draw_waveform(sound: NDArray[np.float32], given: float) -> str:
    """Sound, (frames,) float32 from -1 to 1, as bars from its lowest to its highest values.

    given: the part of it, 0 to 1 from the start, that has a colour of its own.
    """
    bars = []
    for index, piece in enumerate(np.array_split(sound, BARS)):
        low, high = (float(piece.min()), float(piece.max())) if piece.size else (0.0, 0.0)
        y, height = STRIP / 2 * (1 - high), max(1.0, STRIP / 2 * (high - low))
        kind = "given" if (index + 0.5) / BARS < given else "drawn"
        bars.append(f'<rect class="{kind}" x="{index}" y="{y:.1f}" width="0.8" height="{height:.1f}"/>')
    view = f'viewBox="0 0 {BARS} {STRIP}" preserveAspectRatio="none"'
    return f'<svg class="wave" {view} role="img" aria-label="waveform">{"".join(bars)}</svg>'


def _places(points: Points, steps: int, top: int) -> list[tuple[float, float]]:
    return [
        (
            round(LEFT + (RIGHT - LEFT) * step / steps, 1),
            round(BOTTOM - (BOTTOM - TOP) * value / top, 1),
        )
        for step, value in points
    ]


def _line(kind: str, points: Points, steps: int, top: int) -> str:
    places = " ".join(f"{x},{y}" for x, y in _places(points, steps, top))
    return f'<polyline class="{kind}" points="{places}"/>'


def _axes(steps: int, top: int) -> str:
    """A line for every bit per byte, and the first and last step."""
    parts = []
    for value in range(top + 1):
        y = round(BOTTOM - (BOTTOM - TOP) * value / top, 1)
        parts.append(f'<line x1="{LEFT}" x2="{RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{value}</text>')
    for x, step, anchor in ((LEFT, 0, "start"), (RIGHT, steps, "end")):
        parts.append(f'<text x="{x}" y="{BOTTOM + 20}" text-anchor="{anchor}">step {step:,}</text>')
    return "".join(parts)
