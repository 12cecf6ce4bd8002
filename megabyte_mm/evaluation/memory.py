"""The memory of a training step: activations kept for the backward pass, and the state of the optimizer.

Per position, a block of width D keeps (r: positions of the previous patch, P: of a patch, F: the feed-forward width):

| kept                                                          | numbers          |
|---------------------------------------------------------------|------------------|
| input of both norms                                           | 2 D              |
| output of both norms; RMSNorm: before scaling too             | 2 D; 4 D         |
| queries, keys, values, and the output of attention            | 4 D              |
| rotated queries and keys, with rotary positions               | 2 D              |
| normalized queries and keys, before and after scaling         | 4 D              |
| cross-patch: rotated queries, longer keys and values          | 3 D + 3 D r / P  |
| and their mask, as numbers                                    | P + r            |
| output of ReLU; gelu, relu2: its input too                    | F; 2 F           |
| swiglu, of two thirds: gate before and after, factor, product | 4 F              |
| dropout masks, at two places                                  | 2 D truth values |

In 32-true a number has 4 bytes. In bf16-mixed it has 2, but for the residual stream, the input of both norms, which
stays in 4, and a copy of the matrices in 2 is kept. Attention is assumed to be fused, so it keeps no scores.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import singledispatch

from megabyte_mm.alphabet import SYMBOLS
from megabyte_mm.models import BlockConfig, ByteModel, Megabyte, PerceiverAR, StackConfig, StepOptions, Transformer
from megabyte_mm.models.flops import multiplied_weights
from megabyte_mm.models.layers import GATED
from megabyte_mm.models.megabyte.chunked_loss import patches_at_once

FULL, HALF = 4, 2
"""Bytes of a float32 and of a bfloat16."""


@dataclass(frozen=True)
class Kept:
    """Numbers that a training step on one row keeps, by kind.

    Args:
        stream: Numbers of the residual stream and of the loss: always float32.
        inner: All other numbers.
        small: Bytes that do not depend on the precision: symbols and dropout masks.
    """

    stream: float = 0.0
    inner: float = 0.0
    small: float = 0.0

    def __add__(self, other: Kept) -> Kept:
        return Kept(self.stream + other.stream, self.inner + other.inner, self.small + other.small)

    def __mul__(self, times: float) -> Kept:
        return Kept(self.stream * times, self.inner * times, self.small * times)

    def num_bytes(self, inner: int) -> float:
        """All of it in bytes. inner: bytes of each inner number."""
        return FULL * self.stream + inner * self.inner + self.small


def state_bytes(model: ByteModel) -> int:
    """Weights, gradients and AdamW's two moments, all in float32."""
    return 4 * FULL * model.num_parameters


def activation_bytes(
    model: ByteModel, batch: int, mixed: bool, activation_budget: float = StepOptions.activation_budget
) -> float:
    """The most that a training step on `batch` full windows holds for its backward pass at a time.

    mixed: in bf16-mixed, else 32-true. Activations that the budget makes the step recompute are counted once.
    """
    kept = kept_by(model, batch, activation_budget)
    if not mixed:
        return kept.num_bytes(FULL)
    return (kept + Kept(inner=sum(multiplied_weights(model).values()))).num_bytes(HALF)


@singledispatch
def kept_by(model: ByteModel, batch: int, activation_budget: float) -> Kept:
    """Numbers kept for that many full windows. Raises ValueError for an architecture that is not known here."""
    raise ValueError(f"no costs are known for {type(model).__name__}")


@kept_by.register
def _(model: Transformer, batch: int, activation_budget: float) -> Kept:
    config = model.config
    stack = _stack(config.stack, config.block, config.dropout)
    return (stack + SYMBOL + PREDICTION) * (model.max_len * batch)


@kept_by.register
def _(model: Megabyte, batch: int, activation_budget: float) -> Kept:
    config, symbols = model.config, model.max_len * batch
    kept = Kept(stream=1.0) * symbols
    if config.global_stack is not None:
        recomputed = model.recomputes_global(batch, activation_budget)
        stack = _stack(config.global_stack, config.block, config.dropout, recomputed=recomputed)
        kept += stack * (symbols / model.patch_size) + SYMBOL * symbols
        if config.conv_encoder:  # three times what goes in, and what ReLU makes of what comes out
            kept += Kept(inner=6 * config.global_stack.dim / model.patch_size) * symbols
    at_once = min(batch * patches_at_once(model, batch, activation_budget) * model.patch_size, symbols)
    if config.local_stack is None:
        return kept + LOGITS * at_once
    stack = _stack(config.local_stack, config.block, config.dropout, model.patch_size, config.cross_patch)
    return kept + (stack + SYMBOL + PREDICTION) * at_once


@kept_by.register
def _(model: PerceiverAR, batch: int, activation_budget: float) -> Kept:
    """The most that a step may keep: at the last span of the window."""
    config, length = model.config, model.max_len
    latents, dim = min(config.latents, length), config.stack.dim
    turned = 1 if config.block.positions == "rotary" else 0
    kinds = 2 + _normed(config.block) + turned + (2 if config.block.qk_norm else 0)
    seen = min(config.context or length, length)
    # Everything before is embedded; of what the latents see, the norm's output, keys and values are kept too.
    read = (Kept(stream=dim) + SYMBOL) * length + Kept(inner=kinds * dim) * seen
    # Of the reader's block that is not kept for every position: one norm's output, queries, what attention gives.
    reader = Kept(stream=config.stack.heads, inner=kinds * dim + seen)
    reader += _feedforward(config.stack, config.block) + _dropped(dim, config.dropout)
    stack = _stack(config.stack, config.block, config.dropout)
    return (read + (reader + stack + PREDICTION) * latents) * batch


def _stack(
    config: StackConfig,
    block: BlockConfig,
    dropout: float,
    patch_size: int = 1,
    previous: int = 0,
    recomputed: bool = False,
) -> Kept:
    """Numbers that each position of a stack keeps: of all blocks, and the input and output of the last norm.

    recomputed: keep only the input of all blocks but one.
    """
    one = _attention(config, block, patch_size, previous) + _feedforward(config, block) + _dropped(config.dim, dropout)
    blocks = one + Kept(stream=config.dim) * (config.layers - 1) if recomputed else one * config.layers
    return blocks + Kept(stream=config.dim, inner=_normed(block) * config.dim)


def _attention(config: StackConfig, block: BlockConfig, patch_size: int, previous: int) -> Kept:
    dim = config.dim
    inner: float = (_normed(block) + 3 + 1 + (4 if block.qk_norm else 0)) * dim
    if previous:  # the mask too is kept, as numbers that are added to the scores
        inner += (3 + 3 * previous / patch_size) * dim + patch_size + previous
    elif block.positions == "rotary":
        inner += 2 * dim
    return Kept(stream=dim + config.heads, inner=inner)


def _feedforward(config: StackConfig, block: BlockConfig) -> Kept:
    hidden = config.feedforward * config.dim
    if block.activation in GATED:  # of two thirds the width: gate, activated gate, what it multiplies, the product
        wide = 4 * hidden * 2 / 3
    else:
        wide = hidden if block.activation == "relu" else 2 * hidden
    return Kept(stream=config.dim, inner=_normed(block) * config.dim + wide)


def _normed(block: BlockConfig) -> int:
    """Numbers kept behind a norm, as a multiple of the width: its output, of an RMSNorm also before scaling."""
    return 2 if block.norm == "rms" else 1


def _dropped(dim: int, dropout: float) -> Kept:
    return Kept(small=2 * dim if dropout else 0)


SYMBOL = Kept(small=8)
"""An embedded symbol."""
PREDICTION = Kept(stream=1, small=8)
"""A symbol predicted from the table: the logsumexp of its logits, and its id."""
LOGITS = Kept(stream=SYMBOLS, small=8)
"""A symbol predicted by the heads: 257 log-probabilities, and its id."""
