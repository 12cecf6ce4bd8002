"""The vanilla byte Transformer: the baseline that reads every byte by itself.

Legend: B rows, T symbols, C symbols in a block, N = B * blocks, D model width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from megabyte_mm.models.base import ByteModel, Decoder, ModelConfig, condition_ids
from megabyte_mm.models.embedders import SequenceEmbedder
from megabyte_mm.models.layers import BlockConfig, Stack, StackConfig, init_weights, matmul_parameters


@dataclass(frozen=True)
class TransformerConfig(ModelConfig):
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

    max_len: int | None = None
    stack: StackConfig = field(default_factory=lambda: StackConfig(dim=512, layers=6, heads=8))
    context: int | None = None
    byte_scale: float = 1.0
    block: BlockConfig = field(default_factory=BlockConfig)
    conditions: int | None = None
    dropout: float = 0.0
    init_std: float = 0.006

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TransformerConfig:
        stack = {"stack": StackConfig(**values["stack"])} if "stack" in values else {}
        return cls(**{**values, **stack, "block": BlockConfig(**values.get("block", {}))})

    def __post_init__(self) -> None:
        self.check_common_fields("max_len", "conditions", "context")

    def resolve(self, patch_size: int | None, max_len: int, conditions: int, unit: int = 1) -> TransformerConfig:
        found = self.filled(max_len=max_len, conditions=conditions)
        return replace(self, **found)  # type: ignore[arg-type] # it does not look at the names

    def build(self) -> Transformer:
        return Transformer(self)


class Transformer(ByteModel):
    """A decoder-only Transformer over symbols; input and output share a table."""

    config: TransformerConfig

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        if config.max_len is None:
            raise ValueError("Transformer needs a config with max_len")
        self.max_len = config.max_len
        self.config = config = replace(config, conditions=config.conditions or 1)
        learned = self.max_len if config.block.positions == "learned" else 0
        self.embedder = SequenceEmbedder(
            config.stack.dim, learned, config.conditions or 1, config.init_std, config.byte_scale
        )
        self.stack = Stack(config.stack, config.block, config.dropout)
        init_weights(self, config.init_std)

    @property
    def longest(self) -> int | None:
        """The longest sequence that has positions; None where any has."""
        return None if self.config.block.positions == "rotary" else self.max_len

    def forward(self, ids_BT: Tensor, condition_B: Tensor | None = None) -> Tensor:
        batch, length = ids_BT.shape
        self.check_length(length)
        input_BTD = self.embedder(ids_BT[:, :-1], condition_ids(condition_B, batch, ids_BT.device))
        size = self.block_size(length)
        # Causality keeps what fills the last block from reaching any position that is returned.
        blocks_NCD = F.pad(input_BTD, (0, 0, 0, -length % size)).reshape(-1, size, input_BTD.shape[-1])
        hidden_BTD = self.stack(blocks_NCD).reshape(batch, -1, input_BTD.shape[-1])[:, :length]
        return self.embedder.to_logits(hidden_BTD)

    def block_size(self, length: int) -> int:
        """Symbols that see each other in a sequence of that length."""
        return min(length, self.config.context or length)

    def decoder(self, batch: int, condition_B: Tensor | None = None, capacity: int | None = None) -> TransformerDecoder:
        device = next(self.parameters()).device
        return TransformerDecoder(self, batch, condition_ids(condition_B, batch, device), self.check_length(capacity))

    def flops_per_byte(self) -> float:
        """Forward pass: 2 for each weight, and attention's two products."""
        matrices = matmul_parameters(self.stack) + self.embedder.symbols.weight.numel()
        return 2 * matrices + 4 * self.config.stack.layers * self.config.stack.dim * self.block_size(self.max_len)


class TransformerDecoder(Decoder):
    """Keeps the keys and values of the block that is being written."""

    def __init__(self, model: Transformer, batch: int, condition_B: Tensor, capacity: int) -> None:
        self._model = model
        self.capacity = capacity
        self._size = model.block_size(capacity)
        self.alignment = self._size if self._size < capacity else 1  # a lone block may begin anywhere
        self._condition_B = condition_B
        self._caches = model.stack.caches(batch, self._size)
        self._length = 0

    @torch.no_grad()
    def prefill(self, ids_BT: Tensor) -> Tensor:
        self._length = ids_BT.shape[1]
        self.check_room(self._length)
        for cache in self._caches:
            cache.clear()
        begin = self._length - self._length % self._size
        input_BTD = self._model.embedder(ids_BT, self._condition_B)[:, begin:]
        return self._read(input_BTD)

    @torch.no_grad()
    def step(self, ids_B: Tensor) -> Tensor:
        self.check_room(self._length + 1)
        self._length += 1
        if self._length % self._size == 0:
            for cache in self._caches:
                cache.clear()
        return self._read(self._model.embedder.after(ids_B[:, None], self._length))

    def _read(self, input_BTD: Tensor) -> Tensor:
        hidden_BTD = self._model.stack(input_BTD, self._caches)
        return self._model.embedder.to_logits(hidden_BTD[:, -1])
