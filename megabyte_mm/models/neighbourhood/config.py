"""Neighbourhood features in a model's config: their sizes, and the layout of the data in plain numbers.

`data_adapters.Neighbourhood` explains the fields of a layout.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from megabyte_mm.errors import FieldError

MAX_PERIOD = 2**22
MAX_COLUMNS = 256
MAX_OFFSETS = 2**26
"""Limits of a layout, so that a hostile config cannot ask for any amount of memory."""
MAX_STEP = 2**22
MAX_NUMBER = 2**26 - 1
"""Limits of a neighbour's steps and of a predictor's numbers, so that none overflows."""


@dataclass(frozen=True)
class Predictor:
    """A guess of a byte from neighbours.

    Args:
        weights: Of the first neighbours.
        divisor: Of the weighted sum; the quotient is rounded down.
        bias: Added to the sum before it is divided.
        byte: The byte of a point that it is for; None for all.
        wrap: Modulus of the sum; 0 for none.
        modulo: The guess counts modulo 256, in place of being limited to a byte.
        signed: Numbers of the neighbours that count from -128 to 127; the others count from 0 to 255.
    """

    weights: tuple[int, ...]
    divisor: int = 1
    bias: int = 0
    byte: int | None = None
    wrap: int = 0
    modulo: bool = False
    signed: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        weights = {f"weights[{j}]": weight for j, weight in enumerate(self.weights)}
        for name, number in {**weights, "divisor": self.divisor, "bias": self.bias, "wrap": self.wrap}.items():
            if abs(number) > MAX_NUMBER:
                raise FieldError(name, f"is {number}; it must be from {-MAX_NUMBER} to {MAX_NUMBER}")
        if self.divisor < 1:
            raise FieldError("divisor", f"is {self.divisor}; it must be at least 1")
        if self.wrap < 0:
            raise FieldError("wrap", f"is {self.wrap}; it must be a modulus, or 0 for none")
        if self.byte is not None and self.byte < 0:
            raise FieldError("byte", f"is {self.byte}; it must be at least 0, or null for all bytes")
        for j in self.signed:
            if not 0 <= j < len(self.weights):
                raise FieldError("signed", f"holds {j}; there are {len(self.weights)} weights, numbered from 0")
        if len(set(self.signed)) < len(self.signed):
            raise FieldError("signed", "holds a neighbour twice")


@dataclass(frozen=True)
class Group:
    """Neighbours that are looked up together.

    Args:
        members: Numbers of neighbours, or behind them of predictors.
        shift: Low bits that are dropped.
    """

    members: tuple[int, ...]
    shift: int = 0

    def __post_init__(self) -> None:
        if not self.members:
            raise FieldError("members", "are empty; a group has at least one")
        if not 0 <= self.shift < 8:
            raise FieldError("shift", f"is {self.shift}; it must be from 0 to 7")


@dataclass(frozen=True)
class Layout:
    """The neighbours of each byte of a stream, guesses made of them, and groups that are looked up together.

    Args:
        unit: Bytes of a point.
        width: Points in a row; 0 for one endless row.
        tile: Side of the squares that are scanned one by one.
        neighbours: Steps in rows, in points and in bytes of a point.
        predictors: Guesses of a byte.
        groups: Neighbours and predictors that are looked up together.
    """

    unit: int = 1
    width: int = 0
    tile: int = 1
    neighbours: tuple[tuple[int, int, int], ...] = ()
    predictors: tuple[Predictor, ...] = ()
    groups: tuple[Group, ...] = ()

    def __post_init__(self) -> None:
        for name, least in (("unit", 1), ("width", 0), ("tile", 1)):
            if getattr(self, name) < least:
                raise FieldError(name, f"is {getattr(self, name)}; it must be at least {least}")
        if self.width % self.tile:
            raise FieldError("width", f"{self.width} is not a multiple of tile {self.tile}")
        self._check_size()
        for j, step in enumerate(self.neighbours):
            if max(map(abs, step)) > MAX_STEP:
                raise FieldError(f"neighbours[{j}]", f"is {step}; steps must be from {-MAX_STEP} to {MAX_STEP}")
        for f, predictor in enumerate(self.predictors):
            self._check_predictor(f"predictors[{f}]", predictor)
        columns = len(self.neighbours) + len(self.predictors)
        for g, group in enumerate(self.groups):
            for member in group.members:
                if not 0 <= member < columns:
                    reason = f"holds {member}; there are {columns} neighbours and predictors, numbered from 0"
                    raise FieldError(f"groups[{g}].members", reason)

    def _check_size(self) -> None:
        """Raise FieldError for a layout that takes too much memory."""
        if self.period > MAX_PERIOD:
            raise FieldError("layout", f"repeats after {self.period} bytes, more than {MAX_PERIOD}")
        counts = len(self.neighbours), len(self.predictors), len(self.groups)
        if sum(counts) > MAX_COLUMNS:
            reason = "has {} neighbours, {} predictors and {} groups, in all more than {}".format(*counts, MAX_COLUMNS)
            raise FieldError("layout", reason)
        offsets = self.period * len(self.neighbours)
        if offsets > MAX_OFFSETS:
            raise FieldError("layout", f"has {offsets} offsets, more than {MAX_OFFSETS}")

    def _check_predictor(self, name: str, predictor: Predictor) -> None:
        """Raise FieldError for a predictor of other neighbours or bytes than the layout has."""
        weights, neighbours = len(predictor.weights), len(self.neighbours)
        if weights > neighbours:
            raise FieldError(f"{name}.weights", f"are {weights}, and there are {neighbours} neighbours")
        if predictor.byte is not None and predictor.byte >= self.unit:
            raise FieldError(f"{name}.byte", f"is {predictor.byte}; it must be below the unit, {self.unit}")

    @property
    def period(self) -> int:
        """The offsets of neighbours repeat after this many bytes: a band of squares, or a point of an endless row."""
        return self.unit * self.tile * self.width or self.unit

    def offsets(self) -> NDArray[np.int64]:
        """How many bytes back each neighbour lies, for each position of a period: (period, J), 0 where unknown."""
        offsets = [self._offset(*step) for step in self.neighbours]
        return np.stack(offsets, axis=1) if offsets else np.zeros((self.period, 0), np.int64)

    def _offset(self, rows: int, points: int, step: int) -> NDArray[np.int64]:
        """The offsets of one neighbour: (period,)."""
        row, column, byte = self._lattice(np.arange(self.period))
        to_row, to_column = row + rows, column + points
        to_byte = (byte + step) % self.unit if rows or points else byte + step
        inside = (to_byte >= 0) & (to_byte < self.unit)
        if self.width:
            inside &= (to_column >= 0) & (to_column < self.width)
        else:
            inside &= rows == 0
        back = np.arange(self.period) - self._position(to_row, to_column, to_byte)
        return np.where(inside & (back > 0), back, 0)

    def _lattice(self, position: NDArray[np.int64]) -> tuple[NDArray[np.int64], ...]:
        """Row, column and byte of positions of a period."""
        point, byte = position // self.unit, position % self.unit
        if not self.width:
            return np.zeros_like(point), point, byte
        square, inside = point // self.tile**2, point % self.tile**2
        return inside // self.tile, square * self.tile + inside % self.tile, byte

    def _position(
        self, row: NDArray[np.int64], column: NDArray[np.int64], byte: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """The inverse, also for rows of other bands."""
        if not self.width:
            return column * self.unit + byte
        band, row = row // self.tile, row % self.tile
        square, column = column // self.tile, column % self.tile
        point = band * self.tile * self.width + (square * self.tile + row) * self.tile + column
        return point * self.unit + byte


def former_layouts(layouts: Sequence[Layout]) -> tuple[Layout, ...]:
    """The layouts of the same data before predictors had `signed`, which older checkpoints hold."""
    return tuple(
        replace(layout, predictors=tuple(replace(predictor, signed=()) for predictor in layout.predictors))
        for layout in layouts
    )


@dataclass(frozen=True)
class NeighbourhoodConfig:
    """Features of the bytes around a position, added to a model's input there.

    Only text and other bytes have groups: `rows`, `dropout` and `max_group` have no effect on pictures and sound.

    Args:
        rows: Rows in the table of each hashed group: more for more data.
        dropout: Share of positions at which the groups' vectors are left out in training.
        max_group: Members of the largest groups that are looked up; null looks up all. Longer n-grams need more text:
            a small collection is learned by heart through them.
        layouts: Of the data: one for all conditions, or one for each; null takes them from the data.
    """

    rows: int = 4096
    dropout: float = 0.0
    max_group: int | None = None
    layouts: tuple[Layout, ...] | None = None

    def __post_init__(self) -> None:
        if self.rows < 1:
            raise FieldError("rows", f"is {self.rows}; it must be at least 1")
        if not 0.0 <= self.dropout < 1.0:
            raise FieldError("dropout", f"is {self.dropout}; it must be at least 0 and below 1")
        if self.max_group is not None and self.max_group < 1:
            raise FieldError("max_group", f"is {self.max_group}; it must be at least 1")
        if self.layouts is not None:
            self._check_layouts(self.layouts)

    def _check_layouts(self, layouts: tuple[Layout, ...]) -> None:
        """Raise FieldError for layouts that are too large together: each gets the columns of the largest."""
        if not layouts:
            raise FieldError("layouts", "are empty; null takes them from the data")
        neighbours = max(len(layout.neighbours) for layout in layouts)
        predictors = max(len(layout.predictors) for layout in layouts)
        if neighbours + predictors > MAX_COLUMNS:
            counts = f"{neighbours} neighbours and {predictors} predictors"
            raise FieldError("layouts", f"have {counts} in all, more than {MAX_COLUMNS}")
        offsets = neighbours * sum(layout.period for layout in layouts)
        if offsets > MAX_OFFSETS:
            raise FieldError("layouts", f"have {offsets} offsets in all, more than {MAX_OFFSETS}")

    @property
    def used_layouts(self) -> tuple[Layout, ...]:
        """The layouts, without the groups that are too large. Only for a config whose layouts are known."""
        assert self.layouts
        if self.max_group is None:
            return self.layouts
        most = self.max_group
        return tuple(
            replace(layout, groups=tuple(group for group in layout.groups if len(group.members) <= most))
            for layout in self.layouts
        )
