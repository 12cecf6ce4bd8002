"""The models that draw: MEGABYTE in two sizes, and Transformers of equal compute or equal weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import torch

from megabyte_mm.models import BlockConfig, ByteModel, MegabyteConfig, ModelConfig, StackConfig, TransformerConfig
from megabyte_mm.models.flops import multiplied_weights

HEAD_WIDTH = 64
"""Of Transformers that are made equal: that of MEGABYTE's levels."""
WIDEST = 768
DEEPEST = 8
TOLERANCE = 0.05


def small(context: int, toy: bool = False, rotary: bool = False) -> MegabyteConfig:
    """The default sizes with patches of 8 bytes, made for that many bytes."""
    block = BlockConfig(positions="rotary" if rotary else "learned")
    if toy:
        stack = StackConfig(dim=64, layers=1, heads=2)
        return MegabyteConfig(4, context, stack, stack, block=block)
    return MegabyteConfig(8, context, StackConfig(512, 6, 8), StackConfig(256, 4, 4), block=block)


def paper_pair(context: int, toy: bool = False) -> tuple[MegabyteConfig, TransformerConfig]:
    """The models whose generation the paper compares, at sizes for a CPU: the global level three times as wide."""
    if toy:
        return small(context, toy), TransformerConfig(context, StackConfig(dim=64, layers=2, heads=2))
    megabyte = MegabyteConfig(8, context, StackConfig(512, 24, 8), StackConfig(256, 15, 4))
    return megabyte, TransformerConfig(context, StackConfig(256, 24, 4))


@cache
def equal_compute(config: MegabyteConfig) -> TransformerConfig:
    """The Transformer whose training step at this window takes as many operations for a byte."""
    return _equal(config, ByteModel.training_flops_per_byte)


@cache
def equal_weights(config: MegabyteConfig) -> TransformerConfig:
    """The Transformer that multiplies with as many weights."""
    return _equal(config, matrix_weights)


def _equal(config: MegabyteConfig, measure: Callable[[ByteModel], float]) -> TransformerConfig:
    """Of those within `TOLERANCE`, or else of the nearest, the one that is nearest to as deep as the global level."""
    assert config.global_stack is not None
    wanted, depth = measure(unallocated(config)), config.global_stack.layers
    # Long contexts leave so little for each byte that half a head is what fits.
    widths = (HEAD_WIDTH // 2, *range(HEAD_WIDTH, WIDEST + 1, HEAD_WIDTH))
    measured: list[tuple[float, int, TransformerConfig]] = []
    for width in widths:
        sizes = [StackConfig(width, layers, max(width // HEAD_WIDTH, 1)) for layers in range(1, DEEPEST + 1)]
        known = [TransformerConfig(config.max_len, size) for size in sizes]
        first, second = (measure(unallocated(one)) for one in known[:2])  # each further layer adds as much
        measured += [(first + layers * (second - first), layers + 1, one) for layers, one in enumerate(known)]

    def distance(candidate: tuple[float, int, TransformerConfig]) -> tuple[float, int]:
        found, layers, _ = candidate
        return max(abs(found / wanted - 1), TOLERANCE), abs(layers - depth)

    return min(measured, key=distance)[2]


def unallocated(config: ModelConfig) -> ByteModel:
    """The model without memory for its weights, to be asked what it computes."""
    with torch.device("meta"):
        return config.build()


def matrix_weights(model: ByteModel) -> int:
    """All that is multiplied with: linear layers, and the table that makes logits."""
    return sum(multiplied_weights(model).values())


def sizes(config: ModelConfig) -> str:
    """Widths and layers, as in 512x6 + 256x4."""
    stacks = [getattr(config, name, None) for name in ("global_stack", "local_stack", "stack")]
    return " + ".join(f"{stack.dim}x{stack.layers}" for stack in stacks if stack is not None)


def with_window(config: TransformerConfig, window: int) -> TransformerConfig:
    """The same Transformer with that much in sight."""
    return replace(config, max_len=window)
