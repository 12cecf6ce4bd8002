"""What the models without patches share: one stack, a table of symbols for input and output, and their config.

Legend: B rows, T symbols, D model width.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field, replace
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from megabyte_mm.alphabet import SYMBOLS
from megabyte_mm.models.base import ByteModel, ModelConfig, condition_ids
from megabyte_mm.models.layers import BlockConfig, StackConfig, trunc_normal_parameter
from megabyte_mm.models.loss import chunked_cross_entropy


@dataclass(frozen=True)
class SequenceConfig(ModelConfig):
    """The fields of every model without patches; what each of them says of itself makes its help.

    Args:
        max_len: Longest sequence in symbols; on the command line, the data's window.
        stack: The Transformer.
        context: How far back a symbol sees; None for the whole window.
        embedding_scale: Factor on a byte's vector where it is read, but not where the same table makes logits.
        block: What the Transformer blocks are made of.
        conditions: How many starts are learned: one, or one more than there are classes.
        dropout: Share of attention weights and of sublayer outputs dropped in training.
        init_std: Standard deviation of the initial weights, truncated at two of them.
    """

    max_len: int | None = None
    stack: StackConfig = field(default_factory=lambda: StackConfig(dim=512, layers=6, heads=8))
    context: int | None = None
    embedding_scale: float = 1.0
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
        self.embedder = SequenceEmbedder(config.stack.dim, learned, conditions, config.init_std, config.embedding_scale)

    @property
    def tied_embeddings(self) -> tuple[str, ...]:
        return ("embedder.symbols.weight",)

    @property
    def max_positions(self) -> int | None:
        """Longest sequence that the model has positions for; None with rotary positions."""
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
        nats_N = chunked_cross_entropy(hidden_BtD.flatten(0, 1), self.embedder.symbols.weight, ids_Bt.flatten())
        return nats_N.view_as(ids_Bt).float()


class SequenceEmbedder(nn.Module):
    """What a model without patches reads: at place 0 the condition's start, at place t the symbol t - 1.

    positions: how many places have a learned vector; 0 where attention knows positions. scale: what the vector of a
    symbol is multiplied with where it is read.
    """

    def __init__(self, width: int, positions: int, conditions: int, std: float, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale
        self.symbols = nn.Embedding(SYMBOLS, width)
        self.positions = nn.Embedding(positions, width) if positions else None
        self.start_CE = trunc_normal_parameter(conditions, width, std=std)

    def forward(self, ids_BT: Tensor, condition_B: Tensor) -> Tensor:
        """What stands at places 0 to T: (B, T) int64, (B,) int64 -> (B, T + 1, E)."""
        start_B1E = self._add_positions(F.embedding(condition_B, self.start_CE).unsqueeze(1), 0)
        return torch.cat([start_B1E, self.after(ids_BT, 1)], dim=1)

    def after(self, ids_BT: Tensor, place: int) -> Tensor:
        """What the symbols put at the places that follow them, the first of them at `place`: (B, T) -> (B, T, E)."""
        return self._add_positions(self.symbols(ids_BT) * self.scale, place)

    def one(self, ids_B: Tensor, place_B: Tensor, condition_B: Tensor) -> Tensor:
        """One symbol of each row, which stands before `place_B`, or what stands at place 0: (B,) -> (B, E)."""
        begins_B1 = (place_B == 0).unsqueeze(1)
        read_BE = torch.where(begins_B1, F.embedding(condition_B, self.start_CE), self.symbols(ids_B) * self.scale)
        return read_BE if self.positions is None else read_BE + self.positions(place_B)

    def to_logits(self, hidden_BTE: Tensor) -> Tensor:
        """Logits by the table of symbols, which input and output share: (B, T, E) -> (B, T, 257)."""
        return F.linear(hidden_BTE, self.symbols.weight)

    def _add_positions(self, x_BTE: Tensor, place: int) -> Tensor:
        if self.positions is None:
            return x_BTE
        placed_BTE: Tensor = x_BTE + self.positions.weight[place : place + x_BTE.shape[1]]
        return placed_BTE
