"""MEGABYTE-pytorch, the other implementation of the architecture, at the sizes of one of our configs."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from torch import nn

from megabyte_mm.alphabet import END, SYMBOLS
from megabyte_mm.models import MegabyteConfig

PEER = "MEGABYTE-pytorch"
MISSING = f"{PEER} is not installed, so nothing is compared with it: pip install -e '.[bench]', or use make bench."


def peer_version() -> str | None:
    """The version that is installed, or None."""
    try:
        return version(PEER)
    except PackageNotFoundError:
        return None


def build_peer(config: MegabyteConfig, device: torch.device) -> Any:
    """The peer's untrained model with the config's widths, layers, heads, patch size and window.

    Its constructor takes one number of heads for both levels, so that each level's Transformer is made anew, by the
    package's own class, with the heads of that level. It keeps what else it does its own way: token shift, matrices
    between the levels where ours cuts vectors, an output matrix of its own. So it has more parameters.
    """
    from MEGABYTE_pytorch import MEGABYTE
    from MEGABYTE_pytorch.megabyte import Transformer

    assert config.patch_size is not None
    assert config.max_len is not None
    stacks = (config.global_stack, config.local_stack)
    fused = device.type == "cuda"  # on a CPU its explicit attention is the faster one, as ours is
    peer = MEGABYTE(
        num_tokens=SYMBOLS,
        dim=tuple(stack.dim for stack in stacks),
        depth=tuple(stack.layers for stack in stacks),
        max_seq_len=(config.max_len // config.patch_size, config.patch_size),
        pad_id=END,
        pos_emb=True,
        flash_attn=fused,
    )
    peer.transformers = nn.ModuleList(
        Transformer(
            dim=stack.dim,
            layers=stack.layers,
            heads=stack.heads,
            dim_head=stack.dim // stack.heads,
            ff_mult=stack.feedforward,
            attn_dropout=config.dropout,
            ff_dropout=config.dropout,
            rel_pos=False,
            flash_attn=fused,
        )
        for stack in stacks
    )
    return peer.to(device)
