"""Which earlier bytes lie near each byte of a stream, in plain numbers: a model that reads them knows no media.

A stream is a sequence of points of `unit` bytes each (a pixel, a frame of sound, a byte of text). Points lie in rows of
`width`, or in one endless row. Rows are scanned in order, or in bands of `tile` rows that are cut into squares of
`tile` x `tile` points, square by square.
"""

from __future__ import annotations

from dataclasses import dataclass

LAST_BYTES = 8
NGRAMS = (2, 3, 4, 5, 6)


@dataclass(frozen=True)
class Predictor:
    """A guess of a byte: floor((a weighted sum of neighbours + bias) / divisor); unknown where one of these is unknown.

    weights: of the first neighbours; those behind them have 0. byte: the byte of a point that the guess is for; None
    for all. wrap: if not 0, the sum without bias counts modulo `wrap`, from -wrap / 2 on, as numbers of a fixed width
    in two's complement do. modulo: the guess counts modulo 256, in place of being limited to 0 to 255. signed: numbers
    of the neighbours that count from -128 to 127, as high bytes in two's complement do; the others count from 0 to 255.
    """

    weights: tuple[int, ...]
    divisor: int = 1
    bias: int = 0
    byte: int | None = None
    wrap: int = 0
    modulo: bool = False
    signed: tuple[int, ...] = ()


@dataclass(frozen=True)
class Group:
    """Neighbours and predictors that are looked up together, by a hash of their values.

    members: their numbers; predictors are counted on behind the neighbours. shift: low bits of each that are dropped.
    """

    members: tuple[int, ...]
    shift: int = 0


def _last_bytes() -> tuple[tuple[int, int, int], ...]:
    return tuple((0, -back, 0) for back in range(1, LAST_BYTES + 1))


@dataclass(frozen=True)
class Neighbourhood:
    """The neighbours of each byte, guesses made of them, and groups worth looking up together.

    The defaults are the rule for text and for any bytes: the last eight, and n-grams of the last two to six.

    unit: bytes of a point. width: points in a row; 0 for one endless row. tile: side of the squares; it divides the
    width and the number of rows. neighbours: steps in rows, in points of the row and in bytes of the point. Inside the
    same point, a step in bytes leads to an earlier byte of it or to nothing; in other points it is taken modulo `unit`.
    A neighbour outside the grid, behind the byte in the stream or before the window is unknown.
    """

    unit: int = 1
    width: int = 0
    tile: int = 1
    neighbours: tuple[tuple[int, int, int], ...] = _last_bytes()
    predictors: tuple[Predictor, ...] = ()
    groups: tuple[Group, ...] = tuple(Group(tuple(range(n))) for n in NGRAMS)
