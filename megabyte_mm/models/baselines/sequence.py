"""The base of the models without patches: one table of symbols for input and output, and their common config fields.

Legend: B rows, T symbols, t predicted symbols, D model width.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field, replace
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from megabyte_mm.alphabet import SYMBOLS, check_ids
from megabyte_mm.models.base import DEFAULT_STEP, ByteModel, StepOptions, condition_ids
from megabyte_mm.models.config import BlockConfig, ModelConfig, StackConfig
from megabyte_mm.models.layers import trunc_normal_parameter
from megabyte_mm.models.loss import chunked_cross_entropy
from megabyte_mm.models.neighbourhood import NeighbourhoodConfig, neighbourhood_embedder


@dataclass(frozen=True)
class SequenceConfig(ModelConfig):
    """The fields of every model without patches; each subclass documents them for its own `--help`.

    Args:
        max_len: Longest sequence in symbols; on the command line, the data's window.
        stack: The Transformer.
        context: How far back a symbol sees; None for the whole window.
        embedding_scale: Factor on a byte's embedding where it is read, but not where the same table makes logits.
        neighbourhood: Features of the bytes near each position, added to the input there; None for none.
        block: The variant of the Transformer blocks.
        conditions: Number of learned start vectors: one, or one more than there are classes.
        dropout: Share of attention weights and of sublayer outputs dropped in training.
        init_std: Standard deviation of the initial weights, truncated at two of them.
    """

    max_len: int | None = None
    stack: StackConfig = field(default_factory=lambda: StackConfig(dim=512, layers=6, heads=8))
    context: int | None = None
    embedding_scale: float = 1.0
    neighbourhood: NeighbourhoodConfig | None = None
    block: BlockConfig = field(default_factory=BlockConfig)
    conditions: int | None = None
    dropout: float = 0.0
    init_std: float = 0.006

    def __post_init__(self) -> None:
        self.check_common_fields("max_len", "conditions", "context")

    def resolve(self, patch_size: int | None, max_len: int, conditions: int, unit: int = 1) -> Self:
        resolved = self.resolve_fields(max_len=max_len, conditions=conditions)
        return replace(self, **resolved)  # type: ignore[arg-type] # it does not look at the names


class SequenceModel(ByteModel):
    """A model that embeds every symbol by itself. Subclasses add their modules and initialize the weights."""

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
        self.neighbourhood = neighbourhood_embedder(
            config.neighbourhood, config.stack.dim, config.embedding_scale, config.conditions or 1
        )

    @property
    def tied_embeddings(self) -> tuple[str, ...]:
        return ("embedder.symbols.weight",)

    @property
    def unit(self) -> int:
        """Symbols that stay together: a sequence may begin only at multiples of them."""
        return 1 if self.neighbourhood is None else self.neighbourhood.unit

    @property
    def max_positions(self) -> int | None:
        """Longest sequence that the model has positions for; None with rotary positions."""
        return None if self.config.block.positions == "rotary" else self.max_len

    def embedded(self, ids_BT: Tensor, condition_B: Tensor | None) -> Tensor:
        """The start vector and all symbols but the last, embedded: (B, T) int64 -> (B, T, D).

        Raises ValueError for more symbols than the model has positions, and for ids that are no symbols.
        """
        batch, length = ids_BT.shape
        self.check_length(length)
        check_ids(ids_BT)
        return self.inputs(ids_BT[:, :-1], condition_ids(condition_B, batch, ids_BT.device))

    def inputs(self, ids_BT: Tensor, condition_B: Tensor, begin: int = 0) -> Tensor:
        """The inputs of the positions from `begin` to T, which symbols before them decide: (B, T) -> (B, T + 1, D)."""
        input_BtD: Tensor = self.embedder(ids_BT, condition_B, begin)
        if self.neighbourhood is not None:
            input_BtD = input_BtD + self.neighbourhood(ids_BT, condition_B, begin, ids_BT.shape[1] + 1)
        return input_BtD

    @abstractmethod
    def hidden(self, ids_BT: Tensor, condition_B: Tensor | None = None) -> Tensor:
        """The last hidden vectors, from which the table of symbols makes logits: (B, T) int64 -> (B, T, D)."""

    def forward(self, ids_BT: Tensor, condition_B: Tensor | None = None) -> Tensor:
        return self.embedder.to_logits(self.hidden(ids_BT, condition_B))

    def nll(self, ids_BT: Tensor, condition_B: Tensor | None = None, options: StepOptions = DEFAULT_STEP) -> Tensor:
        """Negative log-likelihood of every symbol in nats: (B, T) int64 -> (B, T) float32; no logits are kept."""
        return self.nats(self.hidden(ids_BT, condition_B), ids_BT)

    def nats(self, hidden_BtD: Tensor, ids_Bt: Tensor) -> Tensor:
        """The nats of symbols, from the hidden vectors at their positions: (B, t, D), (B, t) -> (B, t) float32."""
        nats_N = chunked_cross_entropy(hidden_BtD.flatten(0, 1), self.embedder.symbols.weight, ids_Bt.flatten())
        return nats_N.view_as(ids_Bt).float()


class SequenceEmbedder(nn.Module):
    """Embeds a sequence shifted by one: the condition's start vector at position 0, symbol t - 1 at position t.

    positions: how many have a learned vector; 0 where attention knows positions. scale: factor on the embedding of a
    symbol where it is read.
    """

    def __init__(self, width: int, positions: int, conditions: int, std: float, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale
        self.symbols = nn.Embedding(SYMBOLS, width)
        self.positions = nn.Embedding(positions, width) if positions else None
        self.start_CE = trunc_normal_parameter(conditions, width, std=std)

    def forward(self, ids_BT: Tensor, condition_B: Tensor, begin: int = 0) -> Tensor:
        """The positions from `begin` to T: (B, T) int64, (B,) int64 -> (B, T + 1 - begin, D)."""
        if begin:
            return self.after(ids_BT[:, begin - 1 :], begin)
        start_B1D = self._add_positions(F.embedding(condition_B, self.start_CE).unsqueeze(1), 0)
        return torch.cat([start_B1D, self.after(ids_BT, 1)], dim=1)

    def after(self, ids_BT: Tensor, position: int) -> Tensor:
        """The positions behind symbols, from `position` on: (B, T) int64 -> (B, T, D)."""
        return self._add_positions(self.symbols(ids_BT) * self.scale, position)

    def one(self, ids_B: Tensor, position_B: Tensor, condition_B: Tensor) -> Tensor:
        """One position of each row, behind the given symbol, which position 0 ignores: (B,) -> (B, D)."""
        starts_B1 = (position_B == 0).unsqueeze(1)
        input_BD = torch.where(starts_B1, F.embedding(condition_B, self.start_CE), self.symbols(ids_B) * self.scale)
        return input_BD if self.positions is None else input_BD + self.positions(position_B)

    def to_logits(self, hidden_BTD: Tensor) -> Tensor:
        """Logits by the table of symbols, which input and output share: (B, T, D) -> (B, T, 257)."""
        return F.linear(hidden_BTD, self.symbols.weight)

    def _add_positions(self, x_BTD: Tensor, start: int) -> Tensor:
        if self.positions is None:
            return x_BTD
        positioned_BTD: Tensor = x_BTD + self.positions.weight[start : start + x_BTD.shape[1]]
        return positioned_BTD
