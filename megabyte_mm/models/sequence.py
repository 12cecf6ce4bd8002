"""What the models without patches share: one stack, a table of symbols for input and output, and their config.

Legend: B rows, T symbols, D model width.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field, replace
from typing import Self

from torch import Tensor

from megabyte_mm.models.base import ByteModel, ModelConfig, condition_ids
from megabyte_mm.models.embedders import SequenceEmbedder
from megabyte_mm.models.layers import BlockConfig, StackConfig
from megabyte_mm.models.loss import table_nll


@dataclass(frozen=True)
class SequenceConfig(ModelConfig):
    """The fields of every model without patches; what each of them says of itself makes its help.

    Args:
        max_len: Longest sequence in symbols; on the command line, the data's window.
        stack: The Transformer.
        context: How far back a symbol sees; None for the whole window.
        byte_scale: What a byte's vector is multiplied with where it is read, but not where the same table makes logits.
        block: What the Transformer blocks are made of.
        conditions: How many starts are learned: one, or one more than there are classes.
        dropout: Share of attention weights and of sublayer outputs dropped in training.
        init_std: Standard deviation of the initial weights, truncated at two of them.
    """

    max_len: int | None = None
    stack: StackConfig = field(default_factory=lambda: StackConfig(dim=512, layers=6, heads=8))
    context: int | None = None
    byte_scale: float = 1.0
    block: BlockConfig = field(default_factory=BlockConfig)
    conditions: int | None = None
    dropout: float = 0.0
    init_std: float = 0.006

    def __post_init__(self) -> None:
        self.check_common_fields("max_len", "conditions", "context")

    def resolve(self, patch_size: int | None, max_len: int, conditions: int, unit: int = 1) -> Self:
        found = self.filled(max_len=max_len, conditions=conditions)
        return replace(self, **found)  # type: ignore[arg-type] # it does not look at the names


class SequenceModel(ByteModel):
    """A model that embeds every symbol by itself. What builds on it adds its parts and draws the weights."""

    config: SequenceConfig

    def __init__(self, config: SequenceConfig) -> None:
        super().__init__()
        if config.max_len is None:
            raise ValueError(f"{type(self).__name__} needs a config with max_len")
        self.max_len = config.max_len
        conditions = config.conditions or 1
        self.config = replace(config, conditions=conditions)
        learned = self.max_len if config.block.positions == "learned" else 0
        self.embedder = SequenceEmbedder(config.stack.dim, learned, conditions, config.init_std, config.byte_scale)

    @property
    def output_tables(self) -> tuple[str, ...]:
        return ("embedder.symbols.weight",)

    @property
    def longest(self) -> int | None:
        """The longest sequence that has positions; None where any has."""
        return None if self.config.block.positions == "rotary" else self.max_len

    def embedded(self, ids_BT: Tensor, condition_B: Tensor | None) -> Tensor:
        """What stands at the positions of these symbols: (B, T) int64 -> (B, T, D). Raises ValueError if too long."""
        batch, length = ids_BT.shape
        self.check_length(length)
        input_BTD: Tensor = self.embedder(ids_BT[:, :-1], condition_ids(condition_B, batch, ids_BT.device))
        return input_BTD

    @abstractmethod
    def hidden(self, ids_BT: Tensor, condition_B: Tensor | None = None) -> Tensor:
        """What the table of symbols makes logits of: (B, T) int64 -> (B, T, D)."""

    def forward(self, ids_BT: Tensor, condition_B: Tensor | None = None) -> Tensor:
        return self.embedder.to_logits(self.hidden(ids_BT, condition_B))

    def nll(self, ids_BT: Tensor, condition_B: Tensor | None = None) -> Tensor:
        """Negative log-likelihood of every symbol in nats: (B, T) int64 -> (B, T) float32; no logits are kept."""
        return self.nats(self.hidden(ids_BT, condition_B), ids_BT)

    def nats(self, hidden_BtD: Tensor, ids_Bt: Tensor) -> Tensor:
        """Of the symbols at the places of hidden vectors: (B, t, D), (B, t) int64 -> (B, t) float32."""
        nats_N = table_nll(hidden_BtD.flatten(0, 1), self.embedder.symbols.weight, ids_Bt.flatten())
        return nats_N.view_as(ids_Bt).float()
