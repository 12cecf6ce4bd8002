"""Neighbourhood features in native code.

Legend: B rows, C symbols of a row, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from megabyte_mm.models.decoding.native import library
from megabyte_mm.models.neighbourhood import NeighbourhoodEmbedder


class NativeNeighbourhood:
    """The features of one position of each row, in one call of native code; see `NeighbourhoodEmbedder.at`.

    ids, length, condition: the symbols of all rows, (B, C) int64, the number in each row and the condition of each,
    (B,) int64. The caller fills them too.
    """

    def __init__(self, embedder: NeighbourhoodEmbedder, ids_BC: Tensor, length_B: Tensor, condition_B: Tensor) -> None:
        self._library = library.load()
        self._state = ids_BC, length_B, condition_B
        self._capacity = ids_BC.shape[1]
        self._ids, self._length, self._condition = (tensor.data_ptr() for tensor in self._state)
        # Copies, since the model may be trained or cast meanwhile.
        tables = {"values": embedder.values, **({} if embedder.groups is None else {"groups": embedder.groups})}
        self._memory = {name: table.weight.detach().float().clone() for name, table in tables.items()}
        self._memory |= {name.rpartition("_")[0]: rule.contiguous() for name, rule in embedder.named_buffers()}
        self._rules = library.NativeRules(
            **{name: tensor.data_ptr() for name, tensor in self._memory.items()},
            layouts=len(embedder.period_R),
            neighbours=embedder.num_neighbours,
            predictors=embedder.num_predictors,
            group_count=embedder.num_groups,
            members=embedder.column_RGM.shape[-1],
            table=embedder.config.rows,
            dim=embedder.values.embedding_dim,
            byte_multiplier=embedder.byte_multiplier,
            scale=embedder.scale,
        )
        self._sums_D = torch.empty(embedder.values.embedding_dim)
        self._sums = self._sums_D.data_ptr()

    def read(self, ids_B: Tensor) -> None:
        """Append one symbol to each row, unless it is full: (B,) int64."""
        assert len(ids_B) <= len(self._state[0])  # the native code does not check its arguments
        ids_B = ids_B.long().contiguous()
        self._library.neighbourhood_read(self._ids, self._capacity, self._length, ids_B.data_ptr(), len(ids_B))

    def add(self, input_BD: Tensor, back: int) -> Tensor:
        """The input of the position `back` before the end of each row, which may be changed, and its features."""
        assert len(input_BD) <= len(self._state[0])
        output_BD = input_BD.float().contiguous()
        pointers = self._length, self._condition, back, len(input_BD), self._sums, output_BD.data_ptr()
        self._library.neighbourhood_step(self._rules, self._ids, self._capacity, *pointers)
        return output_BD
