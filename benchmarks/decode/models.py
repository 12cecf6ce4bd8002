"""The models that generate: MEGABYTE in two sizes, and Transformers of equal compute or equal weights."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch

from megabyte_mm.models import BlockConfig, ByteModel, MegabyteConfig, ModelConfig, StackConfig, TransformerConfig
from megabyte_mm.models.flops import multiplied_weights

HEAD_WIDTH = 64
"""Of the equal Transformers, as in MEGABYTE's levels."""
MAX_WIDTH = 768
MAX_LAYERS = 8
TOLERANCE = 0.05


def small(context: int, tiny: bool = False, rotary: bool = False) -> MegabyteConfig:
    """The default sizes with patches of 8 bytes and a window of `context` bytes."""
    block = BlockConfig(positions="rotary" if rotary else "learned")
    if tiny:
        stack = StackConfig(dim=64, layers=1, heads=2)
        return MegabyteConfig(4, context, stack, stack, block=block)
    return MegabyteConfig(8, context, StackConfig(512, 6, 8), StackConfig(256, 4, 4), block=block)


def paper_pair(context: int, tiny: bool = False) -> tuple[MegabyteConfig, TransformerConfig]:
    """The models whose generation the paper compares, scaled down to a CPU."""
    if tiny:
        return small(context, tiny), TransformerConfig(context, StackConfig(dim=64, layers=2, heads=2))
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
    """Nearest in `measure`; of those within `TOLERANCE`, the one nearest in depth to the global level."""
    assert config.global_stack is not None
    target, depth = measure(meta_model(config)), config.global_stack.layers
    # Long contexts leave so little compute for each byte that half a head is what fits.
    widths = (HEAD_WIDTH // 2, *range(HEAD_WIDTH, MAX_WIDTH + 1, HEAD_WIDTH))
    choices: list[tuple[float, int, TransformerConfig]] = []
    for width in widths:
        stacks = [StackConfig(width, layers, max(width // HEAD_WIDTH, 1)) for layers in range(1, MAX_LAYERS + 1)]
        configs = [TransformerConfig(config.max_len, stack) for stack in stacks]
        one, two = (measure(meta_model(config)) for config in configs[:2])  # each further layer adds as much
        choices += [(one + number * (two - one), number + 1, config) for number, config in enumerate(configs)]

    def distance(choice: tuple[float, int, TransformerConfig]) -> tuple[float, int]:
        measured, layers, _ = choice
        return max(abs(measured / target - 1), TOLERANCE), abs(layers - depth)

    return min(choices, key=distance)[2]


def meta_model(config: ModelConfig) -> ByteModel:
    """The model without memory for its weights, for its arithmetic."""
    with torch.device("meta"):
        return config.build()


def matrix_weights(model: ByteModel) -> int:
    """Number of weights in products: linear layers, and the table of the logits."""
    return sum(multiplied_weights(model).values())


def sizes(config: ModelConfig) -> str:
    """Widths and layers, as in 512x6 + 256x4."""
    stacks = [getattr(config, name, None) for name in ("global_stack", "local_stack", "stack")]
    return " + ".join(f"{stack.dim}x{stack.layers}" for stack in stacks if stack is not None)
