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
    """Holds each row's symbols, at most `capacity`, and adds the features of a position to a model's input there."""

    def __init__(self, embedder: NeighbourhoodEmbedder, batch: int, capacity: int, execution: Execution) -> None:
        table_ND = embedder.values.weight
        self._embedder = embedder
        self._ids_BC = torch.full((batch, capacity), END, device=table_ND.device)
        self._native = NativeNeighbourhood(embedder, self._ids_BC) if is_native(execution, table_ND) else None

    def restart(self, contexts: Mapping[int, Tensor]) -> None:
        """Let these rows begin with other symbols: by row, (T,) int64."""
        for row, ids_T in contexts.items():
            self._ids_BC[row, : len(ids_T)] = ids_T

    def read(self, ids_B: Tensor, position_B: Tensor) -> None:
        """Put one symbol into each row, at its position."""
        self._ids_BC[: len(ids_B)].scatter_(1, position_B[:, None], ids_B[:, None])

    def add(self, input_BD: Tensor, position_B: Tensor, condition_B: Tensor) -> Tensor:
        """The input of a position of each row with its features, which the symbols before it decide -> (B, D)."""
        if self._native is not None:
            return self._native.add(input_BD, position_B, condition_B)
        evaluated = self._embedder.at(self._ids_BC[: len(input_BD)], position_B[:, None], condition_B)
        return input_BD + evaluated[:, 0]
