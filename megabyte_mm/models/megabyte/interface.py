"""The layers between symbols and the two stacks that depend on the patch size.

Legend: P symbols in a patch, G global width, E = G / P, L local width.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import nn

from megabyte_mm.models.megabyte.config import MegabyteConfig
from megabyte_mm.models.megabyte.embedders import PatchEmbedder


class PatchLayers(NamedTuple):
    """The layers of one patch size: symbols to patches, a patch's global output to local inputs, positions in it."""

    patch_size: int
    embedder: PatchEmbedder
    to_local: nn.Linear
    local_positions: nn.Embedding


class PatchInterface(nn.Module):
    """The layers of a patch size beside the model's first, whose stacks and table of symbols they share."""

    def __init__(self, config: MegabyteConfig, patch_size: int) -> None:
        super().__init__()
        assert config.global_stack is not None
        assert config.local_stack is not None
        self.embedder = patch_embedder(config, patch_size)
        self.to_local = nn.Linear(config.global_stack.dim // patch_size, config.local_stack.dim, bias=False)
        self.local_positions = nn.Embedding(patch_size, config.local_stack.dim)


def patch_embedder(config: MegabyteConfig, patch_size: int) -> PatchEmbedder:
    """The embedder of a patch size; learned positions count from the beginning of a part."""
    assert config.global_stack is not None
    positions = most_symbols(config, patch_size) if config.block.positions == "learned" else 0
    return PatchEmbedder(patch_size, config.global_stack.dim, positions, config.conv_encoder, config.patch_scale)


def most_symbols(config: MegabyteConfig, patch_size: int) -> int:
    """Symbols of the longest part of that patch size, in whole patches."""
    if config.parts is not None:
        return max(part.max_len for part in config.parts if part.patch_size == patch_size)
    assert config.max_len is not None
    return -(config.max_len // -patch_size) * patch_size


def most_patches(config: MegabyteConfig) -> int:
    """Patches of the longest row."""
    if config.orders is not None:
        return max(sum(part.patches for part in config.order(number)) for number in range(len(config.orders)))
    assert config.max_len is not None
    assert config.patch_size is not None
    return -(config.max_len // -config.patch_size)
