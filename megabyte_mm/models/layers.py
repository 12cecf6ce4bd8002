"""The pieces of a pre-norm decoder-only Transformer.

Legend: B rows, T positions, D model width, H heads, E head width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from megabyte_mm.models.cache import LayerCache


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

    @property
    def matmul_parameters(self) -> int:
        """Weights that every position is multiplied with: attention's four square matrices and the feed-forward's."""
        return self.layers * self.dim * self.dim * (4 + 2 * self.feedforward)


CPU_EXPLICIT_UP_TO = 512
"""Sequences up to this length are attended explicitly on a CPU: forward and backward, its fused kernel
takes two to ten times as long there in bfloat16, and about as long in float32 (benchmarks/attention.py). Longer ones
would fill the memory with scores."""


def attend(q_BHTE: Tensor, k_BHSE: Tensor, v_BHSE: Tensor, causal: bool, dropout: float = 0.0) -> Tensor:
    """Scaled dot-product attention: (B, H, T, E) over (B, H, S, E) -> (B, H, T, E). `causal` needs T = S."""
    if q_BHTE.device.type == "cpu" and causal and q_BHTE.shape[2] <= CPU_EXPLICIT_UP_TO and torch.is_grad_enabled():
        return _attend_explicitly(q_BHTE, k_BHSE, v_BHSE, dropout)
    return F.scaled_dot_product_attention(q_BHTE, k_BHSE, v_BHSE, is_causal=causal, dropout_p=dropout)


def _attend_explicitly(q_BHTE: Tensor, k_BHTE: Tensor, v_BHTE: Tensor, dropout: float) -> Tensor:
    """Causal attention by two batched products with the scores in between."""
    length, width = q_BHTE.shape[2:]
    q_NTE, k_NTE, v_NTE = (x_BHTE.flatten(0, 1) for x_BHTE in (q_BHTE, k_BHTE, v_BHTE))
    future_TT = torch.full((length, length), float("-inf"), dtype=q_NTE.dtype).triu(1)
    scores_NTT = torch.baddbmm(future_TT.expand(len(q_NTE), -1, -1), q_NTE * width**-0.5, k_NTE.transpose(1, 2))
    weights_NTT = F.dropout(scores_NTT.softmax(-1), dropout, training=dropout > 0)
    return torch.bmm(weights_NTT.to(v_NTE.dtype), v_NTE).view_as(q_BHTE)


class Attention(nn.Module):
    """Causal multi-head self-attention, whole sequences at once or after what a cache holds."""

    def __init__(self, config: StackConfig, dropout: float) -> None:
        super().__init__()
        self.heads = config.heads
        self.dropout = dropout
        self.qkv = nn.Linear(config.dim, 3 * config.dim)
        self.out = nn.Linear(config.dim, config.dim)

    def forward(self, x_BTD: Tensor, cache: LayerCache | None = None) -> Tensor:
        batch, length, dim = x_BTD.shape
        qkv_3BHTE = self.qkv(x_BTD).view(batch, length, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        q_BHTE, k_BHTE, v_BHTE = qkv_3BHTE.unbind(0)
        # A lone new position may look at everything; a longer run is only ever read into an empty cache.
        causal = length > 1
        if cache is not None:
            assert not (causal and cache.length), "several positions at once need an empty cache"
            k_BHTE, v_BHTE = cache.append(k_BHTE, v_BHTE)
        mixed_BHTE = attend(q_BHTE, k_BHTE, v_BHTE, causal, self.dropout if self.training else 0.0)
        out_BTD: Tensor = self.out(mixed_BHTE.transpose(1, 2).reshape(batch, length, dim))
        return out_BTD


class FeedForward(nn.Module):
    """Two linear layers with a ReLU between them, as in the paper."""

    def __init__(self, config: StackConfig) -> None:
        super().__init__()
        self.up = nn.Linear(config.dim, config.feedforward * config.dim)
        self.down = nn.Linear(config.feedforward * config.dim, config.dim)

    def forward(self, x_BTD: Tensor) -> Tensor:
        out_BTD: Tensor = self.down(F.relu(self.up(x_BTD)))
        return out_BTD


class Block(nn.Module):
    """Attention and feed-forward, each normalised before and added to the residual stream after."""

    def __init__(self, config: StackConfig, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(config.dim)
        self.attention = Attention(config, dropout)
        self.feedforward_norm = nn.LayerNorm(config.dim)
        self.feedforward = FeedForward(config)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_BTD: Tensor, cache: LayerCache | None = None) -> Tensor:
        x_BTD = x_BTD + self.dropout(self.attention(self.attention_norm(x_BTD), cache))
        out_BTD: Tensor = x_BTD + self.dropout(self.feedforward(self.feedforward_norm(x_BTD)))
        return out_BTD


class Stack(nn.Module):
    """Blocks one after the other, and a last normalisation."""

    def __init__(self, config: StackConfig, dropout: float = 0.0) -> None:
        super().__init__()
        self.config = config
        self.blocks = nn.ModuleList(Block(config, dropout) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.dim)

    def forward(self, x_BTD: Tensor, caches: Sequence[LayerCache] | None = None) -> Tensor:
        """(B, T, D) -> (B, T, D). With caches, the T positions follow the ones held there, and are added to them."""
        for i, block in enumerate(self.blocks):
            x_BTD = block(x_BTD, caches[i] if caches is not None else None)
        out_BTD: Tensor = self.norm(x_BTD)
        return out_BTD

    def caches(self, batch: int, capacity: int) -> list[LayerCache]:
        """Empty caches for every block, in the weights' dtype and on their device."""
        like = self.norm.weight
        heads, head_dim = self.config.heads, self.config.dim // self.config.heads
        return [LayerCache(batch, heads, capacity, head_dim, like) for _ in self.blocks]


def init_weights(module: nn.Module, std: float) -> None:
    """Draw matrices and embeddings from a normal truncated at two sigma, and set biases to zero (paper, section B)."""
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Embedding):
            nn.init.trunc_normal_(part.weight, std=std, a=-2 * std, b=2 * std)
        if isinstance(part, nn.Linear) and part.bias is not None:
            nn.init.zeros_(part.bias)


def drawn_parameter(*shape: int, std: float) -> nn.Parameter:
    """A learned table that is no embedding (paddings), drawn like the weights."""
    return nn.Parameter(nn.init.trunc_normal_(torch.empty(shape), std=std, a=-2 * std, b=2 * std))
