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

    ids: the symbols of all rows, (B, C) int64, which the caller goes on to fill.
    """

    def __init__(self, embedder: NeighbourhoodEmbedder, ids_BC: Tensor) -> None:
        self._library = library.load()
        self._embedder, self._ids_BC = embedder, ids_BC
        # Copies, since the model may be trained or cast meanwhile.
        groups = None if embedder.groups is None else embedder.groups.weight.detach().float().clone()
        self._memory: dict[str, Tensor] = {"values": embedder.values.weight.detach().float().clone()}
        self._memory |= {} if groups is None else {"groups": groups}
        self._memory |= {name.rpartition("_")[0]: rule.contiguous() for name, rule in embedder.named_buffers()}
        self._rules = library.NativeRules(
            **{name: tensor.data_ptr() for name, tensor in self._memory.items()},
            neighbours=embedder.neighbours,
            predictors=embedder.predictors,
            group_count=embedder.num_groups,
            members=embedder.column_RGM.shape[-1],
            table=embedder.config.rows,
            dim=embedder.values.embedding_dim,
            byte_multiplier=embedder.byte_multiplier,
            scale=embedder.scale,
        )
        self._sums_D = torch.empty(embedder.values.embedding_dim)

    def add(self, input_BD: Tensor, position_B: Tensor, condition_B: Tensor) -> Tensor:
        """The inputs with the features of their positions added: (B, D), (B,) int64, (B,) int64 -> (B, D)."""
        rows, capacity = len(input_BD), self._ids_BC.shape[1]
        # The native code does not check its arguments.
        assert position_B.shape == condition_B.shape == (rows,)
        assert rows <= len(self._ids_BC)
        output_BD = input_BD.float().clone(memory_format=torch.contiguous_format)
        layout_B = self._embedder.layout_of(condition_B).expand(rows).contiguous()
        pointers = (position_B.data_ptr(), layout_B.data_ptr(), rows, self._sums_D.data_ptr(), output_BD.data_ptr())
        self._library.neighbourhood_step(self._rules, self._ids_BC.data_ptr(), capacity, *pointers)
        return output_BD
