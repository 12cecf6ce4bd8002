"""A pre-norm decoder-only Transformer stack, in the paper's style or in more recent ones.

Legend: N independent sequences, T positions, D model width, F width inside the feed-forward layer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from megabyte_mm.models.attention import CPU_EXPLICIT_UP_TO, Attention, CrossPatchAttention
from megabyte_mm.models.decoding.caches import LayerCache


@dataclass(frozen=True)
class StackConfig:
    """The size of one Transformer stack.

    Args:
        dim: Width of the hidden states; a multiple of `heads`.
        layers: Number of blocks.
        heads: Attention heads in each block.
        feedforward: Width of the feed-forward layer, as a multiple of `dim`.
    """

    dim: int
    layers: int
    heads: int
    feedforward: int = 4

    def __post_init__(self) -> None:
        for field in ("dim", "layers", "heads", "feedforward"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field} is {getattr(self, field)}; it must be at least 1")
        if self.dim % self.heads:
            raise ValueError(f"dim {self.dim} is not a multiple of heads {self.heads}")


@dataclass(frozen=True)
class BlockConfig:
    """What a Transformer block is made of. The defaults are the paper's.

    Args:
        norm: LayerNorm, or RMSNorm (Zhang and Sennrich 2019).
        activation: Of the feed-forward layer; swiglu is gated (Shazeer 2020), with two thirds of the width, so that it
            has as many weights; relu2 is the square of ReLU (So et al. 2021).
        positions: Learned tables, which fix the longest sequence, or rotary embeddings (Su et al. 2021), which do not.
            Places inside a patch have a learned table in either case.
        qk_norm: Normalise each head's queries and keys.
        bias: Whether linear layers have biases.
    """

    norm: Literal["layer", "rms"] = "layer"
    activation: Literal["relu", "gelu", "relu2", "swiglu"] = "relu"
    positions: Literal["learned", "rotary"] = "learned"
    qk_norm: bool = False
    bias: bool = True

    def __post_init__(self) -> None:
        known = {"norm": tuple(NORMS), "activation": tuple(ACTIVATIONS), "positions": ("learned", "rotary")}
        for field, values in known.items():
            if getattr(self, field) not in values:
                raise ValueError(f"{field} is {getattr(self, field)!r}; known: {', '.join(values)}")


def squared_relu(x: Tensor) -> Tensor:
    """The square of ReLU, elementwise."""
    return F.relu(x).square()


NORMS: dict[str, type[nn.LayerNorm | nn.RMSNorm]] = {"layer": nn.LayerNorm, "rms": nn.RMSNorm}
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "relu2": squared_relu,
    "swiglu": F.silu,
}
GATED = ("swiglu",)
COMPILED_VARIANTS = 32
"""How many shapes of blocks may be compiled; after that, what fits none of them is run as it is."""


class FeedForward(nn.Module):
    """Two linear layers with an activation between them; a gated one multiplies it with a third."""

    def __init__(self, config: StackConfig, block: BlockConfig) -> None:
        super().__init__()
        self.activation = block.activation
        self.gated = block.activation in GATED
        width = config.feedforward * config.dim
        if self.gated:
            width = max(8, round(width * 2 / 3 / 8) * 8)
        self.up = nn.Linear(config.dim, 2 * width if self.gated else width, bias=block.bias)
        self.down = nn.Linear(width, config.dim, bias=block.bias)

    def forward(self, x_NTD: Tensor) -> Tensor:
        hidden_NTF = self.up(x_NTD)
        if self.gated:
            gate_NTF, hidden_NTF = hidden_NTF.chunk(2, dim=-1)
            hidden_NTF = ACTIVATIONS[self.activation](gate_NTF) * hidden_NTF
        else:
            hidden_NTF = ACTIVATIONS[self.activation](hidden_NTF)
        out_NTD: Tensor = self.down(hidden_NTF)
        return out_NTD


class Block(nn.Module):
    """Attention and feed-forward, each normalised before and added to the residual stream after."""

    def __init__(self, config: StackConfig, block: BlockConfig, dropout: float, previous: int) -> None:
        super().__init__()
        norm = NORMS[block.norm]
        self.attention_norm = norm(config.dim)
        self.attention = _attention(config, block, dropout, previous)
        self.feedforward_norm = norm(config.dim)
        self.feedforward = FeedForward(config, block)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_NTD: Tensor, cache: LayerCache | None = None, patches: int | None = None) -> Tensor:
        x_NTD = x_NTD + self.dropout(self.attention(self.attention_norm(x_NTD), cache, patches))
        out_NTD: Tensor = x_NTD + self.dropout(self.feedforward(self.feedforward_norm(x_NTD)))
        return out_NTD


def _attention(config: StackConfig, block: BlockConfig, dropout: float, previous: int) -> Attention:
    if previous:
        return CrossPatchAttention(
            config.dim, config.heads, previous, dropout=dropout, bias=block.bias, qk_norm=block.qk_norm
        )
    rotary = block.positions == "rotary"
    return Attention(config.dim, config.heads, dropout, block.bias, qk_norm=block.qk_norm, rotary=rotary)


class Stack(nn.Module):
    """Blocks one after the other, and a last normalisation.

    previous: positions of the previous patch that attention sees, 0 for sequences that stand alone.
    """

    def __init__(
        self,
        config: StackConfig,
        block: BlockConfig = BlockConfig(),
        dropout: float = 0.0,
        previous: int = 0,
    ) -> None:
        super().__init__()
        if (previous or block.positions == "rotary") and config.dim // config.heads % 2:
            raise ValueError(f"rotary positions need an even head width; dim {config.dim} over {config.heads} heads")
        self.config = config
        self.blocks = nn.ModuleList(Block(config, block, dropout, previous) for _ in range(config.layers))
        self.norm = NORMS[block.norm](config.dim)
        self._compiled: list[Callable[..., Tensor]] = []
        self.always_recompute = False

    def forward(
        self,
        x_NTD: Tensor,
        caches: Sequence[LayerCache] | None = None,
        patches: int | None = None,
        recompute: bool = False,
    ) -> Tensor:
        """(N, T, D) -> (N, T, D). With caches, the T positions follow the ones held there, and are added to them.

        patches: with cross-patch attention, how many of the N sequences are consecutive patches of one row. recompute:
        keep the input of each block alone, and compute the rest anew for the backward pass.
        """
        training = torch.is_grad_enabled()
        recompute = training and (recompute or self.always_recompute)
        blocks: Sequence[Callable[..., Tensor]] = list(self.blocks)
        if self._compiled and training:
            blocks = self._compiled
        for i, run in enumerate(blocks):
            arguments = (x_NTD, caches[i] if caches is not None else None, patches)
            x_NTD = checkpoint(run, *arguments, use_reentrant=False) if recompute else run(*arguments)
        out_NTD: Tensor = self.norm(x_NTD)
        return out_NTD

    def compile_blocks(self, mode: str) -> None:
        """Let torch.compile write the code of the blocks, in one of its modes, for training.

        Blocks of a stack are alike, and share what is written for one. Without gradients, as in scoring and drawing,
        the plain code runs on: lengths change there all the time, and each would have to be compiled.
        """
        # Dropout then draws what it would draw in the plain code.
        options = {**torch._inductor.list_mode_options(mode), "fallback_random": True}
        # Variants are counted over all stacks. Smaller last batches, last chunks and single rows make six of each.
        limit = torch._dynamo.config.recompile_limit
        torch._dynamo.config.recompile_limit = max(limit, COMPILED_VARIANTS)
        self._compiled = [torch.compile(block, options=options) for block in self.blocks]

    def attentions(self) -> list[Attention]:
        """The attention layers, in order."""
        return [block.get_submodule("attention") for block in self.blocks]  # type: ignore[misc]

    def caches(self, batch: int, capacity: int) -> list[LayerCache]:
        """Empty caches for every block, in the weights' dtype and on their device."""
        like = self.norm.weight
        heads, head_dim = self.config.heads, self.config.dim // self.config.heads
        return [LayerCache.empty(batch, heads, capacity, head_dim, like) for _ in self.blocks]


def init_weights(module: nn.Module, std: float) -> None:
    """Draw matrices and embeddings from a normal truncated at two sigma, and set biases to zero (paper, section B)."""
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Embedding | nn.Conv1d):
            nn.init.trunc_normal_(part.weight, std=std, a=-2 * std, b=2 * std)
        if isinstance(part, nn.Linear | nn.Conv1d) and part.bias is not None:
            nn.init.zeros_(part.bias)


def stack_activations(config: StackConfig, seen: int) -> int:
    """About how many bytes a position keeps for the backward pass, in float32, where it sees so many others."""
    scores = 2 * config.heads * seen if seen <= CPU_EXPLICIT_UP_TO else 0
    return 4 * config.layers * (config.dim * (8 + 2 * config.feedforward) + scores)


def trunc_normal_parameter(*shape: int, std: float) -> nn.Parameter:
    """A learned table that is no embedding (paddings), drawn like the weights."""
    return nn.Parameter(nn.init.trunc_normal_(torch.empty(shape), std=std, a=-2 * std, b=2 * std))
