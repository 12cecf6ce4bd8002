"""MEGABYTE-pytorch, the implementation by Phil Wang, at the sizes of one of our configs."""

from __future__ import annotations

import io
from contextlib import redirect_stderr
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.peers.base import Peer, both_stacks, level_lengths
from megabyte_mm.alphabet import END, SYMBOLS
from megabyte_mm.models import MegabyteConfig


class MegabytePytorch(Peer):
    """The peer as a byte model; on a GPU with its fused attention."""

    package = "MEGABYTE-pytorch"
    own_clip = 0.5

    def __init__(self, config: MegabyteConfig, device: torch.device, own_defaults: bool = False) -> None:
        build = build_with_defaults if own_defaults else build_network
        super().__init__(build(config, device), config)

    def own_loss(self, ids_BT: Tensor) -> Tensor:
        nats: Tensor = self.network(ids_BT, return_loss=True)
        return nats

    @torch.no_grad()
    def own_generate(self, prefix_BT: Tensor) -> Tensor:
        with redirect_stderr(io.StringIO()):
            ids_BKP: Tensor = self.network.generate(prefix_BT)
        return ids_BKP.flatten(1)

    def _next_logits(self, ids_BT: Tensor) -> Tensor:
        logits_BTV: Tensor = self.network(ids_BT)
        return logits_BTV

    def _local_level(self) -> Any:
        return self.network.transformers[-1]


def build_network(config: MegabyteConfig, device: torch.device) -> Any:
    """The peer's untrained model with the config's widths, layers, heads, patch size and window.

    Its constructor takes one number of heads for both levels, so each level's Transformer is replaced by one of the
    package's own class with the heads of that level. Everything else stays: token shift, matrices between the levels
    where ours splits vectors, an output matrix of its own. So it has more parameters.
    """
    from MEGABYTE_pytorch import MEGABYTE
    from MEGABYTE_pytorch.megabyte import Transformer

    stacks = both_stacks(config)
    fused = device.type == "cuda"  # on a CPU its explicit attention is faster, as ours is
    network = MEGABYTE(
        num_tokens=SYMBOLS,
        dim=tuple(stack.dim for stack in stacks),
        depth=tuple(stack.layers for stack in stacks),
        max_seq_len=level_lengths(config),
        pad_id=END,
        pos_emb=True,
        flash_attn=fused,
    )
    network.transformers = nn.ModuleList(
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
    return network.to(device)


def build_with_defaults(config: MegabyteConfig, device: torch.device) -> Any:
    """The network of the package's constructor at the config's sizes, with its defaults otherwise.

    Both levels have the global level's number of heads, each 64 wide; attention is explicit, on a GPU too.
    """
    from MEGABYTE_pytorch import MEGABYTE

    stacks = both_stacks(config)
    network = MEGABYTE(
        num_tokens=SYMBOLS,
        dim=tuple(stack.dim for stack in stacks),
        depth=tuple(stack.layers for stack in stacks),
        max_seq_len=level_lengths(config),
        heads=stacks[0].heads,
        dim_head=64,
        pad_id=END,
        pos_emb=True,
    )
    return network.to(device)
