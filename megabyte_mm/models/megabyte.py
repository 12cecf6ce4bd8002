"""MEGABYTE: a global Transformer over patches, and a local one over the bytes inside each (Yu et al. 2023, section 2).

Legend: B rows, T symbols, K patches, P symbols in a patch, N = B * K, G global width (the whole patch), E = G / P,
L local width, V the 257 symbols.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from megabyte_mm.alphabet import END, SYMBOLS
from megabyte_mm.models.base import ByteModel, Decoder, condition_ids
from megabyte_mm.models.embedders import PatchEmbedder
from megabyte_mm.models.layers import Stack, StackConfig, drawn_parameter, init_weights


@dataclass(frozen=True)
class MegabyteConfig:
    """The architecture of a MEGABYTE model.

    Three fields may stay None on the command line, where the data tell them; `Megabyte` itself needs the first two.

    Args:
        patch_size: Symbols in a patch. For images it follows from the scan (3 p² for colour, p² for grey).
        max_len: Longest sequence in symbols; on the command line, the data's window.
        global_stack: The Transformer over patches. Its dim is the whole patch's width: a multiple of patch_size.
        local_stack: The Transformer over the symbols of one patch.
        conditions: How many start patches are learned: one, or one more than there are classes.
        dropout: Share of attention weights and of sublayer outputs dropped in training (0.1 in the paper).
        init_std: Standard deviation of the initial weights, truncated at two of them (0.006 in the paper).
    """

    patch_size: int | None = None
    max_len: int | None = None
    global_stack: StackConfig = field(default_factory=lambda: StackConfig(dim=512, layers=6, heads=8))
    local_stack: StackConfig = field(default_factory=lambda: StackConfig(dim=256, layers=4, heads=4))
    conditions: int | None = None
    dropout: float = 0.0
    init_std: float = 0.006

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> MegabyteConfig:
        """The config that `dataclasses.asdict` made plain."""
        stacks = {name: StackConfig(**values[name]) for name in ("global_stack", "local_stack")}
        return cls(**{**values, **stacks})

    def __post_init__(self) -> None:
        for name in ("patch_size", "max_len", "conditions"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1")
        if self.patch_size is not None and self.global_stack.dim % self.patch_size:
            raise ValueError(
                f"global_stack.dim {self.global_stack.dim} is not a multiple of patch_size {self.patch_size}: "
                f"the global model sees the patch's {self.patch_size} embeddings side by side"
            )
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"dropout is {self.dropout}; it must be at least 0 and below 1")
        if self.init_std <= 0.0:
            raise ValueError(f"init_std is {self.init_std}; it must be above 0")

    def resolve(self, patch_size: int | None, max_len: int, conditions: int) -> MegabyteConfig:
        """This config with what the data fix filled in. Raises ValueError where it says something else."""
        found = {"patch_size": patch_size, "max_len": max_len, "conditions": conditions}
        for name, value in found.items():
            own = getattr(self, name)
            if own is not None and value is not None and own != value:
                raise ValueError(f"{name} is {own}, but the data have {value}: leave it out, or make them agree")
        return replace(self, patch_size=patch_size or self.patch_size, max_len=max_len, conditions=conditions)


class Megabyte(ByteModel):
    """The paper's model without its optional extensions; see docs/architecture.md for the walk through its parts."""

    name = "megabyte"
    config: MegabyteConfig
    patch_size: int
    max_len: int

    def __init__(self, config: MegabyteConfig) -> None:
        super().__init__()
        if config.patch_size is None or config.max_len is None:
            raise ValueError("Megabyte needs a config with patch_size and max_len")
        self.patch_size, self.max_len = config.patch_size, config.max_len
        self.config = config = replace(config, conditions=config.conditions or 1)
        self.max_patches = -(self.max_len // -self.patch_size)
        global_dim, local_dim = config.global_stack.dim, config.local_stack.dim
        self.embedder = PatchEmbedder(self.patch_size, self.max_patches, global_dim)
        self.global_stack = Stack(config.global_stack, config.dropout)
        self.to_local = nn.Linear(global_dim // self.patch_size, local_dim, bias=False)
        self.local_symbols = nn.Embedding(SYMBOLS, local_dim)
        self.local_positions = nn.Embedding(self.patch_size, local_dim)
        self.local_stack = Stack(config.local_stack, config.dropout)
        init_weights(self, config.init_std)
        self.start_CG = drawn_parameter(config.conditions or 1, global_dim, std=config.init_std)
        self.local_start_L = drawn_parameter(local_dim, std=config.init_std)

    def forward(self, ids_BT: Tensor, condition_B: Tensor | None = None) -> Tensor:
        batch, length = ids_BT.shape
        if not 1 <= length <= self.max_len:
            raise ValueError(f"a sequence of {length} symbols; this model takes 1 to {self.max_len}")
        # Causality keeps whatever fills the last patch from reaching any position that is returned.
        padded_BT = F.pad(ids_BT, (0, -length % self.patch_size), value=END)
        global_BKG = self.global_stack(self.global_input(padded_BT, condition_B))
        context_NPL = self.local_context(global_BKG.flatten(0, 1))
        hidden_NPL = self.local_stack(self.local_input(context_NPL, padded_BT.view(-1, self.patch_size)[:, :-1]))
        return self.to_logits(hidden_NPL).view(batch, -1, SYMBOLS)[:, :length]

    def global_input(self, ids_BT: Tensor, condition_B: Tensor | None) -> Tensor:
        """The start patch and all patches but the last: (B, T) int64, T a multiple of P -> (B, K, G)."""
        condition_B = condition_ids(condition_B, ids_BT.shape[0], ids_BT.device)
        start_B1G = F.embedding(condition_B, self.start_CG).unsqueeze(1)
        return torch.cat([start_B1G, self.embedder(ids_BT[:, : -self.patch_size])], dim=1)

    def local_input(self, context_NPL: Tensor, previous_NQ: Tensor) -> Tensor:
        """What the local model reads at the first Q + 1 positions of each patch: (N, P, L), (N, Q) -> (N, Q + 1, L)."""
        start_N1L = self.local_start_L.expand(len(previous_NQ), 1, -1)
        bytes_NQL = torch.cat([start_N1L, self.local_symbols(previous_NQ)], dim=1)
        return bytes_NQL + context_NPL[:, : bytes_NQL.shape[1]]

    def local_context(self, global_NG: Tensor) -> Tensor:
        """The global output cut into its P vectors and projected, with local positions: (N, G) -> (N, P, L)."""
        context_NPL: Tensor = self.to_local(global_NG.view(len(global_NG), self.patch_size, -1))
        return context_NPL + self.local_positions.weight

    def to_logits(self, hidden_NQL: Tensor) -> Tensor:
        """Logits by the local symbol table, which input and output share."""
        return F.linear(hidden_NQL, self.local_symbols.weight)

    def decoder(self, batch: int, condition_B: Tensor | None = None) -> MegabyteDecoder:
        return MegabyteDecoder(self, batch, condition_B)

    def flops_per_byte(self) -> float:
        """Forward pass: 2 (m_g / P + m_l) for the matrices, and what attention's products add (paper, section 3)."""
        global_stack, local_stack = self.config.global_stack, self.config.local_stack
        tables = self.to_local.weight.numel() + self.local_symbols.weight.numel()
        matrices = global_stack.matmul_parameters / self.patch_size + local_stack.matmul_parameters + tables
        # Two products over on average half of the positions: 2 * 2 * dim * length / 2 for each layer and position.
        global_attention = 2 * global_stack.layers * global_stack.dim * self.max_patches / self.patch_size
        local_attention = 2 * local_stack.layers * local_stack.dim * self.patch_size
        return 2 * matrices + global_attention + local_attention


class MegabyteDecoder(Decoder):
    """The two levels step by step: the local model at every symbol, the global one when a patch is full."""

    def __init__(self, model: Megabyte, batch: int, condition_B: Tensor | None = None) -> None:
        self._model = model
        self.capacity = model.max_len
        self.alignment = model.patch_size
        self._condition_B = condition_B
        self._global_caches = model.global_stack.caches(batch, model.max_patches)
        self._local_caches = model.local_stack.caches(batch, model.patch_size)
        self._patch: list[Tensor] = []
        """The symbols of the patch that is being written, (B,) each."""
        self._context_BPL: Tensor
        self._patches = 0

    @torch.no_grad()
    def prefill(self, ids_BT: Tensor) -> Tensor:
        length, patch_size = ids_BT.shape[1], self._model.patch_size
        self._check_room(length)
        for cache in self._global_caches:
            cache.clear()
        self._patches = length // patch_size
        whole = self._patches * patch_size
        # One more patch than is known, since the model drops the last from its input.
        known_BT = F.pad(ids_BT[:, :whole], (0, patch_size), value=END)
        self._open_patch(self._model.global_input(known_BT, self._condition_B))
        self._patch = list(ids_BT[:, whole:].unbind(1))
        return self._read_local(ids_BT[:, whole:])

    @torch.no_grad()
    def step(self, ids_B: Tensor) -> Tensor:
        self._check_room(self._patches * self._model.patch_size + len(self._patch) + 1)
        self._patch.append(ids_B)
        if len(self._patch) < self._model.patch_size:
            position = len(self._patch)
            hidden_B1L = self._model.local_symbols(ids_B)[:, None] + self._context_BPL[:, position : position + 1]
            return self._model.to_logits(self._model.local_stack(hidden_B1L, self._local_caches))[:, 0]
        patch_BP = torch.stack(self._patch, dim=1)
        self._open_patch(self._model.embedder(patch_BP, first_patch=self._patches))
        self._patches, self._patch = self._patches + 1, []
        return self._read_local(patch_BP[:, :0])

    def _check_room(self, length: int) -> None:
        if length >= self.capacity:
            raise ValueError(f"{length} symbols leave no room for another in a window of {self.capacity}")

    def _open_patch(self, global_input_BKG: Tensor) -> None:
        """Let the global model read patches, and keep what it says to the local model about the one that follows."""
        global_BKG = self._model.global_stack(global_input_BKG, self._global_caches)
        self._context_BPL = self._model.local_context(global_BKG[:, -1])
        for cache in self._local_caches:
            cache.clear()

    def _read_local(self, previous_BQ: Tensor) -> Tensor:
        """Logits after the first Q symbols of a newly opened patch: (B, Q) -> (B, V)."""
        hidden_BQL = self._model.local_stack(
            self._model.local_input(self._context_BPL, previous_BQ), self._local_caches
        )
        return self._model.to_logits(hidden_BQL[:, -1])
