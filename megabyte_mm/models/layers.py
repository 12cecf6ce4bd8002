"""A pre-norm decoder-only Transformer stack, in the paper's style or in more recent ones.

Legend: N independent sequences, T positions, D model width, F width inside the feed-forward layer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from megabyte_mm.models.attention import CPU_EXPLICIT_UP_TO, Attention, CrossPatchAttention
from megabyte_mm.models.config import BlockConfig, StackConfig
from megabyte_mm.models.decoding.caches import LayerCache
from megabyte_mm.models.kernels.feedforward import FeedForwardOptions, Weights, fused_feedforward
from megabyte_mm.models.kernels.feedforward_selection import fuses


def squared_relu(x: Tensor) -> Tensor:
    """The square of ReLU, elementwise."""
    rectified = F.relu(x)
    return rectified * rectified  # autocast on CUDA would compute square() in float32


NORMS: dict[str, type[nn.LayerNorm | nn.RMSNorm]] = {"layer": nn.LayerNorm, "rms": nn.RMSNorm}
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "relu2": squared_relu,
    "swiglu": F.silu,
}
GATED = ("swiglu",)
COMPILED_VARIANTS = 32
"""The number of block shapes that may be compiled; beyond it, new shapes run uncompiled."""


class FeedForward(nn.Module):
    """Two linear layers with an activation in between; a gated one multiplies the activation with a third layer."""

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
        out_NTD: Tensor = self.down(self.activate(self.up(x_NTD)))
        return out_NTD

    def activate(self, hidden: Tensor) -> Tensor:
        """The input of the second linear layer, from the output of the first."""
        if not self.gated:
            return ACTIVATIONS[self.activation](hidden)
        gate, hidden = hidden.chunk(2, dim=-1)
        return ACTIVATIONS[self.activation](gate) * hidden


class Block(nn.Module):
    """Attention and feed-forward, each behind a norm and added to the residual stream."""

    def __init__(self, config: StackConfig, block: BlockConfig, dropout: float, previous: int) -> None:
        super().__init__()
        norm = NORMS[block.norm]
        self.attention_norm = norm(config.dim)
        self.attention = _attention(config, block, dropout, previous)
        self.feedforward_norm = norm(config.dim)
        self.feedforward = FeedForward(config, block)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_NTD: Tensor, cache: LayerCache | None = None, patches: int | None = None) -> Tensor:
        branch_NTD = self.dropout(self.attention(self.attention_norm(x_NTD), cache, patches))
        if cache is None and self._can_fuse(x_NTD, branch_NTD):
            return self._feedforward_fused(x_NTD, branch_NTD)
        x_NTD = x_NTD + branch_NTD
        out_NTD: Tensor = x_NTD + self.dropout(self.feedforward(self.feedforward_norm(x_NTD)))
        return out_NTD

    def _can_fuse(self, x_NTD: Tensor, branch_NTD: Tensor) -> bool:
        layer = self.feedforward
        # What replaces a linear layer, such as LoRA, has a forward of its own.
        if type(layer.up) is not nn.Linear or type(layer.down) is not nn.Linear:
            return False
        return fuses(x_NTD, branch_NTD, layer.up.weight, layer.up.bias is not None, self._fused_options())

    def _feedforward_fused(self, x_NTD: Tensor, branch_NTD: Tensor) -> Tensor:
        """What follows attention, as one operation."""
        layer = self.feedforward
        _, norm_D, norm_bias_D, _ = norm_parameters(self.feedforward_norm)
        weights = Weights(norm_D, norm_bias_D, layer.up.weight, layer.up.bias, layer.down.weight, layer.down.bias)
        return fused_feedforward(x_NTD, branch_NTD, weights, self._fused_options())

    def _fused_options(self) -> FeedForwardOptions:
        kind, _, _, epsilon = norm_parameters(self.feedforward_norm)
        dropout = self.dropout.p if self.training else 0.0
        return FeedForwardOptions(kind, epsilon, self.feedforward.activation, dropout)


def norm_parameters(norm: nn.Module) -> tuple[str, Tensor, Tensor | None, float]:
    """The kind of a norm, "layer" or "rms", with weight, bias and epsilon."""
    assert isinstance(norm, nn.LayerNorm | nn.RMSNorm)
    if isinstance(norm, nn.LayerNorm):
        return "layer", norm.weight, norm.bias, norm.eps
    # By default torch takes that of the numbers which it computes with: float32 for bfloat16 and float16.
    computed = torch.promote_types(norm.weight.dtype, torch.float32)
    return "rms", norm.weight, None, torch.finfo(computed).eps if norm.eps is None else norm.eps


def _attention(config: StackConfig, block: BlockConfig, dropout: float, previous: int) -> Attention:
    if previous:
        return CrossPatchAttention(
            config.dim, config.heads, previous, dropout=dropout, bias=block.bias, qk_norm=block.qk_norm
        )
    rotary = block.positions == "rotary"
    return Attention(config.dim, config.heads, dropout, block.bias, qk_norm=block.qk_norm, rotary=rotary)


class Stack(nn.Module):
    """Blocks one after the other, and a last norm.

    previous: positions of the previous patch that attention sees, 0 for independent sequences.
    """

    def __init__(
        self,
        config: StackConfig,
        block: BlockConfig,
        dropout: float = 0.0,
        previous: int = 0,
    ) -> None:
        super().__init__()
        if (previous or block.positions == "rotary") and config.dim // config.heads % 2:
            raise ValueError(f"rotary positions need an even head width; dim {config.dim} over {config.heads} heads")
        self.config, self.block, self.previous = config, block, previous
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
        """(N, T, D) -> (N, T, D). With caches, the T positions follow those held there, and are added to them.

        patches: with cross-patch attention, how many of the N sequences are consecutive patches of one row. recompute:
        keep only the input of each block, and recompute the rest in the backward pass.
        """
        training = torch.is_grad_enabled()
        recompute = training and (recompute or self.always_recompute)
        blocks: Sequence[Callable[..., Tensor]] = list(self.blocks)
        if self._compiled and training:
            blocks = self._compiled
            for attention in self.attentions():
                attention.prepare(x_NTD)
        for i, run in enumerate(blocks):
            arguments = (x_NTD, caches[i] if caches is not None else None, patches)
            x_NTD = checkpoint(run, *arguments, use_reentrant=False) if recompute else run(*arguments)
        out_NTD: Tensor = self.norm(x_NTD)
        return out_NTD

    def compile_blocks(self, mode: str) -> None:
        """Compile the blocks with torch.compile, in one of its modes, for training.

        Blocks of a stack are alike, and share compiled code. Without gradients, as in scoring and generation, the plain
        code still runs: lengths change all the time there, and each would have to be compiled.
        """
        # fallback_random: dropout samples the same numbers as in the plain code.
        options = {**torch._inductor.list_mode_options(mode), "fallback_random": True}
        # Variants are counted over all stacks. Smaller last batches, last chunks and single rows make six of each.
        limit = torch._dynamo.config.recompile_limit
        torch._dynamo.config.recompile_limit = max(limit, COMPILED_VARIANTS)
        # Static shapes: code for any length takes longer, and its conditions are checked at each call.
        self._compiled = [torch.compile(block, options=options, dynamic=False) for block in self.blocks]

    def attentions(self) -> list[Attention]:
        """The attention layers, in order."""
        return [block.get_submodule("attention") for block in self.blocks]  # type: ignore[misc]

    def caches(self, batch: int, capacity: int, dtype: torch.dtype | None = None) -> list[LayerCache]:
        """Empty caches for every block, by default in the weights' dtype, on their device."""
        like = self.norm.weight
        heads, head_dim = self.config.heads, self.config.dim // self.config.heads
        return [LayerCache.empty(batch, heads, capacity, head_dim, like, dtype) for _ in self.blocks]


def init_weights(module: nn.Module, std: float) -> None:
    """Sample matrices and embeddings from a normal truncated at two sigma, and zero the biases (paper, section B)."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Embedding | nn.Conv1d):
            nn.init.trunc_normal_(layer.weight, std=std, a=-2 * std, b=2 * std)
        if isinstance(layer, nn.Linear | nn.Conv1d) and layer.bias is not None:
            nn.init.zeros_(layer.bias)


def stack_activations(config: StackConfig, visible: int) -> int:
    """Bytes that a position of a stack keeps for the backward pass, roughly, in float32.

    visible: positions that each attends to.
    """
    scores = 2 * config.heads * visible if visible <= CPU_EXPLICIT_UP_TO else 0
    return 4 * config.layers * (config.dim * (8 + 2 * config.feedforward) + scores)


def trunc_normal_parameter(*shape: int, std: float) -> nn.Parameter:
    """A learned parameter beside the embeddings, such as a start vector, initialized like the weights."""
    return nn.Parameter(nn.init.trunc_normal_(torch.empty(shape), std=std, a=-2 * std, b=2 * std))
