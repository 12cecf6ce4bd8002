"""A byte-level Transformer, the baseline that reads every byte by itself.

Legend: B rows, T symbols, C symbols in a block, N = B * blocks, D model width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from megabyte_mm.alphabet import END
from megabyte_mm.models.base import Decoder, prefill_unique
from megabyte_mm.models.baselines.sequence import SequenceConfig, SequenceModel
from megabyte_mm.models.decoding.execution import Execution
from megabyte_mm.models.decoding.neighbours import NeighbourhoodSteps
from megabyte_mm.models.decoding.steps import stack_steps
from megabyte_mm.models.layers import Stack, init_weights
from megabyte_mm.models.transfer import numbers_to_device


@dataclass(frozen=True)
class TransformerConfig(SequenceConfig):
    """The architecture of a byte Transformer.

    Args:
        max_len: Longest sequence in symbols; on the command line, the data's window.
        stack: The Transformer.
        context: Cut the window into blocks of this many symbols, each of which sees only itself and the symbol before
            it, as the paper does for images that are longer than a Transformer can read; None for one block.
        embedding_scale: Factor on a byte's embedding where it is read, but not where the same table makes logits.
            With small initial weights, about 5 makes the input bytes matter from the first step (Vaswani et al. 2017
            use the square root of the width).
        neighbourhood: Features of the bytes near each position, added to the input there; None for none.
        block: The variant of the Transformer blocks.
        conditions: Number of learned start vectors: one, or one more than there are classes.
        dropout: Share of attention weights and of sublayer outputs dropped in training.
        init_std: Standard deviation of the initial weights, truncated at two of them.
    """

    name: ClassVar[str] = "transformer"

    def build(self) -> Transformer:
        return Transformer(self)


class Transformer(SequenceModel):
    """A decoder-only Transformer over symbols; input and output share a table."""

    config: TransformerConfig

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__(config)
        self.stack = Stack(config.stack, config.block, config.dropout)
        init_weights(self, config.init_std)

    def hidden(self, ids_BT: Tensor, condition_B: Tensor | None = None) -> Tensor:
        batch, length = ids_BT.shape
        input_BTD = self.embedded(ids_BT, condition_B)
        size = self.block_size(length)
        # Causality keeps the padding of the last block from reaching any position that is returned.
        blocks_NCD = F.pad(input_BTD, (0, 0, 0, -length % size)).reshape(-1, size, input_BTD.shape[-1])
        hidden_BTD: Tensor = self.stack(blocks_NCD).reshape(batch, -1, input_BTD.shape[-1])[:, :length]
        return hidden_BTD

    def block_size(self, length: int) -> int:
        """Symbols in a block, which see each other, in a sequence of that length."""
        return min(length, self.config.context or length)

    def new_decoder(self, condition_B: Tensor, capacity: int, execution: Execution) -> TransformerDecoder:
        return TransformerDecoder(self, condition_B, capacity, execution)


class TransformerDecoder(Decoder):
    """Caches the keys and values of the block that each row is in."""

    def __init__(self, model: Transformer, condition_B: Tensor, capacity: int, execution: Execution) -> None:
        self._model = model
        self.capacity = capacity
        self._size = model.block_size(capacity)
        # A single block may begin at any whole unit.
        self.alignment = math.lcm(model.unit, self._size if self._size < capacity else 1)
        self.conditions = condition_B
        self._caches = model.stack.caches(len(condition_B), self._size, execution.dtype(model.stack.norm.weight))
        self._step = stack_steps(model.stack, self._caches, execution, head_VD=model.embedder.symbols.weight)
        self._start_B = torch.zeros_like(condition_B)
        self._neighbourhood: NeighbourhoodSteps | None = None
        if model.neighbourhood is not None:
            self._neighbourhood = NeighbourhoodSteps(model.neighbourhood, condition_B, capacity, execution)

    @torch.no_grad()
    def prefill_rows(self, prefixes: Sequence[Tensor], condition_B: Tensor | None = None) -> Tensor:
        self._reset_lengths(prefixes, condition_B)
        self._read_rows(dict(enumerate(prefixes)))
        if self._neighbourhood is not None:
            self._neighbourhood.restart(dict(enumerate(prefixes)))
        return self._next(torch.stack([ids_T[-1] if len(ids_T) else ids_T.new_full((), END) for ids_T in prefixes]))

    @torch.no_grad()
    def step(self, ids_B: Tensor, new_contexts: Mapping[int, Tensor] | None = None) -> Tensor:
        new_contexts = new_contexts or {}
        self._advance_lengths(ids_B, new_contexts)
        self._read_rows(new_contexts)
        if self._neighbourhood is not None:
            self._neighbourhood.read(ids_B)
            self._neighbourhood.restart(new_contexts)
        return self._next(ids_B)

    def _read_rows(self, prefixes: Mapping[int, Tensor]) -> None:
        """Read all but the last symbol of each, which is left to `_next`."""
        if prefixes:
            before = {row: ids_T[:-1] for row, ids_T in prefixes.items()}
            prefill_unique(self._model, before, self.condition_numbers, self._read, self._copy)

    def _copy(self, source: int, to: int) -> None:
        assert self.lengths is not None
        for cache in self._caches:
            cache.copy_row(source, to, min(self.lengths[to], self._size))

    def _next(self, ids_B: Tensor) -> Tensor:
        """Logits after the last symbol of each row, at the position of its length: (B,) -> (B, V)."""
        assert self.lengths is not None
        rows, slots = len(ids_B), [length % self._size for length in self.lengths]
        position_B, slot_B = numbers_to_device([self.lengths, slots], ids_B.device)
        input_BD = self._model.embedder.one(ids_B, position_B, self.conditions[:rows])
        if self._neighbourhood is not None:
            input_BD = self._neighbourhood.add(input_BD)
        return self._step(input_BD, self._start_B[:rows], slot_B, max(slots) + 1)

    def _read(self, row: int, ids_T: Tensor) -> None:
        """Fill a row's caches with the last block of the positions 0 to T: (T,) int64."""
        length = len(ids_T)
        caches = [cache.row(row) for cache in self._caches]
        begin = length - length % self._size
        self._model.stack(self._model.inputs(ids_T[None], self.conditions[row : row + 1], begin), caches)
