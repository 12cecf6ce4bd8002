"""The neighbours of a pixel's bytes, and guesses of a byte made of them.

The guesses are those of lossless image coders: gradients along both axes, means, and the differences to a channel of
the same pixel that a neighbour had.
"""

from __future__ import annotations

from collections.abc import Mapping

from data_adapters.neighbourhood import Neighbourhood, Predictor

Step = tuple[int, int, int]

SAME_CHANNEL: dict[str, Step] = {
    "W": (0, -1, 0),
    "N": (-1, 0, 0),
    "NW": (-1, -1, 0),
    "NE": (-1, 1, 0),
    "WW": (0, -2, 0),
    "NN": (-2, 0, 0),
    "NNE": (-2, 1, 0),
}
"""Pixels by compass points: steps in rows and columns, and in channels."""
OTHER_CHANNELS: dict[str, Step] = {
    "C": (0, 0, -1),
    "D": (0, 0, -2),
    "WC": (0, -1, -1),
    "NC": (-1, 0, -1),
    "NWC": (-1, -1, -1),
    "NEC": (-1, 1, -1),
    "WD": (0, -1, -2),
    "ND": (-1, 0, -2),
}
"""C is the channel before in the same pixel, D the one before that; WC is C in the pixel to the left, and so on."""

GREY: tuple[tuple[Mapping[str, int], int], ...] = (
    ({"W": 1, "N": 1, "NW": -1}, 1),
    ({"W": 1, "NE": 1, "N": -1}, 1),
    ({"N": 1, "NE": 1, "NNE": -1}, 1),
    ({"W": 2, "WW": -1}, 1),
    ({"N": 2, "NN": -1}, 1),
    ({"W": 1, "N": 1}, 2),
    ({"W": 1, "NE": 1}, 2),
    ({"W": 3, "N": 3, "NW": -2}, 4),
    ({"W": 1, "N": 1, "NW": 1, "NE": 1}, 4),
)
COLOUR: tuple[tuple[Mapping[str, int], int], ...] = (
    ({"W": 1, "C": 1, "WC": -1}, 1),
    ({"N": 1, "C": 1, "NC": -1}, 1),
    ({"W": 1, "N": 1, "C": 2, "WC": -1, "NC": -1}, 2),
    ({"W": 1, "N": 1, "NW": -1, "C": 1, "WC": -1, "NC": -1, "NWC": 1}, 1),
)
"""Weights of neighbours and their divisor."""


def neighbourhood(width: int, tile: int, channels: int) -> Neighbourhood:
    """The neighbourhood in an image of that width, scanned in squares of `tile` pixels, or in rows if `tile` is 1."""
    steps = SAME_CHANNEL if channels == 1 else {**SAME_CHANNEL, **OTHER_CHANNELS}
    rules = GREY if channels == 1 else (*GREY, *COLOUR)
    names = list(steps)
    return Neighbourhood(
        channels,
        width,
        tile,
        tuple(steps.values()),
        tuple(Predictor(tuple(weights.get(name, 0) for name in names), divisor) for weights, divisor in rules),
        (),
    )


def before_in_scan(channels: int) -> Neighbourhood:
    """The neighbourhood in images of any size: the pixels before in the scan."""
    before = tuple((0, -back, 0) for back in range(1, 5))
    others = tuple((0, 0, -back) for back in range(1, channels))
    return Neighbourhood(channels, 0, 1, before + others, (Predictor((2, -1)),), ())
