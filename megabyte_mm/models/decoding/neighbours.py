"""Neighbourhood features in decoding: the symbols that rows have read, and the features of one position of each.

Legend: B rows, C symbols of a row, T symbols of one, D width.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from megabyte_mm.alphabet import END
from megabyte_mm.models.decoding.execution import Execution
from megabyte_mm.models.decoding.native import NativeNeighbourhood
from megabyte_mm.models.decoding.steps import is_native
from megabyte_mm.models.neighbourhood import NeighbourhoodEmbedder


class NeighbourhoodSteps:
    """Holds each row's symbols, at most `capacity`, and adds features to a model's input at the position behind them.

    A row that is full takes no more symbols: it has ended. condition: (B,) int64, which the decoder may change in
    place.
    """

    def __init__(
        self, embedder: NeighbourhoodEmbedder, condition_B: Tensor, capacity: int, execution: Execution
    ) -> None:
        table_ND = embedder.values.weight
        self._embedder, self._condition_B = embedder, condition_B
        self._ids_BC = torch.full((len(condition_B), capacity), END, device=table_ND.device)
        self._length_B = torch.zeros_like(condition_B)
        self._native: NativeNeighbourhood | None = None
        if is_native(execution, table_ND):
            self._native = NativeNeighbourhood(embedder, self._ids_BC, self._length_B, self._condition_B)

    def restart(self, contexts: Mapping[int, Tensor]) -> None:
        """Replace the symbols of rows: by row, (T,) int64."""
        for row, ids_T in contexts.items():
            self._ids_BC[row, : len(ids_T)] = ids_T
            self._length_B[row] = len(ids_T)

    def features(self, row: int, begin: int, end: int) -> Tensor:
        """The features of a row's positions from `begin` to `end` - 1, in front of its end: (1, end - begin, D)."""
        features_1CD: Tensor = self._embedder(self._ids_BC[row : row + 1], self._condition_B[row : row + 1], begin, end)
        return features_1CD

    def read(self, ids_B: Tensor) -> None:
        """Append one symbol to each row."""
        if self._native is not None:
            self._native.read(ids_B)
            return
        rows, last = len(ids_B), self._ids_BC.shape[1] - 1
        self._ids_BC[:rows].scatter_(1, self._length_B[:rows, None].clamp_max(last), ids_B[:, None])
        self._length_B[:rows] = (self._length_B[:rows] + 1).clamp_max(last)

    def add(self, input_BD: Tensor, back: int = 0) -> Tensor:
        """The input of the position `back` before the end of each row, with its features: (B, D) -> (B, D).

        The input's memory may be used for the result.
        """
        if self._native is not None:
            return self._native.add(input_BD, back)
        rows = len(input_BD)
        position_B1 = (self._length_B[:rows, None] - back).clamp_min(0)
        return input_BD + self._embedder.at(self._ids_BC[:rows], position_B1, self._condition_B[:rows])[:, 0]
