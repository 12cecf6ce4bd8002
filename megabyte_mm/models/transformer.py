"""The vanilla byte Transformer: the baseline that reads every byte by itself.

Legend: B rows, T symbols, C symbols in a block, N = B * blocks, D model width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from megabyte_mm.models.base import Decoder, condition_ids
from megabyte_mm.models.layers import Stack, init_weights
from megabyte_mm.models.sequence import SequenceConfig, SequenceModel
from megabyte_mm.models.work import PartWork, stack_work, table_work


@dataclass(frozen=True)
class TransformerConfig(SequenceConfig):
    """The architecture of a byte Transformer.

    Args:
        max_len: Longest sequence in symbols; on the command line, the data's window.
        stack: The Transformer.
        context: Cut the window into blocks of so many symbols, each of which sees only itself and the symbol before
            it, as the paper does where a picture is longer than a Transformer can read; None for one block.
        byte_scale: What a byte's vector is multiplied with where it is read, but not where the same table makes logits.
            With small initial weights 5 or so lets bytes be heard from the start (Vaswani et al. 2017: the root of the
            width).
        block: What the Transformer blocks are made of.
        conditions: How many starts are learned: one, or one more than there are classes.
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
        # Causality keeps what fills the last block from reaching any position that is returned.
        blocks_NCD = F.pad(input_BTD, (0, 0, 0, -length % size)).reshape(-1, size, input_BTD.shape[-1])
        hidden_BTD: Tensor = self.stack(blocks_NCD).reshape(batch, -1, input_BTD.shape[-1])[:, :length]
        return hidden_BTD

    def block_size(self, length: int) -> int:
        """Symbols that see each other in a sequence of that length."""
        return min(length, self.config.context or length)

    def decoder(self, batch: int, condition_B: Tensor | None = None, capacity: int | None = None) -> TransformerDecoder:
        device = next(self.parameters()).device
        return TransformerDecoder(self, batch, condition_ids(condition_B, batch, device), self.check_length(capacity))

    def work(self) -> PartWork:
        length = self.max_len
        return {
            "stack": (stack_work(self.stack, length, length * self.block_size(length)),),
            "embedder.symbols": (table_work(self.embedder.symbols, length),),
        }


class TransformerDecoder(Decoder):
    """Keeps the keys and values of the block that is being written."""

    def __init__(self, model: Transformer, batch: int, condition_B: Tensor, capacity: int) -> None:
        self._model = model
        self.capacity = capacity
        self._size = model.block_size(capacity)
        self.alignment = self._size if self._size < capacity else 1  # a lone block may begin anywhere
        self._condition_B = condition_B
        self._caches = model.stack.caches(batch, self._size)

    @torch.no_grad()
    def prefill(self, ids_BT: Tensor) -> Tensor:
        length = ids_BT.shape[1]
        self.begin(length)
        for cache in self._caches:
            cache.clear()
        input_BTD = self._model.embedder(ids_BT, self._condition_B)[:, length - length % self._size :]
        return self._read(input_BTD)

    @torch.no_grad()
    def step(self, ids_B: Tensor) -> Tensor:
        length = self.advance()
        if length % self._size == 0:
            for cache in self._caches:
                cache.clear()
        return self._read(self._model.embedder.after(ids_B[:, None], length))

    def _read(self, input_BTD: Tensor) -> Tensor:
        hidden_BTD = self._model.stack(input_BTD, self._caches)
        return self._model.embedder.to_logits(hidden_BTD[:, -1])
