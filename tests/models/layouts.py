"""Layouts of small streams: squares of pixels, 16-bit stereo samples, and plain bytes."""

from __future__ import annotations

from megabyte_mm.models.neighbourhood import Group, Layout, NeighbourhoodConfig, Predictor

LAST_BYTES = Layout(neighbours=((0, -1, 0), (0, -2, 0), (0, -3, 0)), groups=(Group((0, 1)), Group((0, 1, 2), 2)))
PIXELS = Layout(
    unit=2,
    width=4,
    tile=2,
    neighbours=((0, -1, 0), (-1, 0, 0), (-1, 1, 0), (0, 0, -1), (0, -1, -1)),
    predictors=(Predictor((1, 1), 2, 1), Predictor((1, 0, 0, 1, -1), byte=1)),
    groups=(Group((0, 6), 3),),
)
SAMPLES = Layout(
    unit=2,
    neighbours=((0, -1, 0), (0, -1, 1), (0, -2, 0), (0, 0, -1)),
    predictors=(
        Predictor((2, 0, -1), wrap=256, modulo=True),
        Predictor((512, 2, 256, -1), 256, 128, byte=1, wrap=65536),
        Predictor((768, 3, -256), 512, byte=0, wrap=131072, modulo=True, signed=(0, 2)),
    ),
)
ONE = NeighbourhoodConfig(rows=16, layouts=(LAST_BYTES,))
EACH = NeighbourhoodConfig(rows=16, dropout=0.5, max_group=2, layouts=(LAST_BYTES, PIXELS, SAMPLES))
