"""mblm, IBM's Multiscale Byte Language Model (a fork of MEGABYTE-pytorch 0.3.5), at the sizes of one of our configs."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.peers.base import Peer, both_stacks, level_lengths
from megabyte_mm.alphabet import END, SYMBOLS
from megabyte_mm.models import MegabyteConfig, StackConfig


class Mblm(Peer):
    """The peer as a byte model; on a GPU with its fused attention.

    The embedding of its padding symbol, here END, is not trained and stays 0.
    """

    package = "mblm"

    def __init__(self, config: MegabyteConfig, device: torch.device, own_defaults: bool = False) -> None:
        build = build_with_defaults if own_defaults else build_network
        super().__init__(build(config, device), config)
        from mblm import MBLMReturnType

        self._logits, self._loss = MBLMReturnType.LOGITS, MBLMReturnType.LOSS

    def own_loss(self, ids_BT: Tensor) -> Tensor:
        nats: Tensor = self.network(ids_BT, return_type=self._loss)
        return nats

    @torch.no_grad()
    def own_generate(self, prefix_BT: Tensor) -> Tensor:
        """As of every peer; its package generates one row at a time."""
        rows = [self.network.generate(prefix_T, enable_progress=False) for prefix_T in prefix_BT]
        return torch.stack(rows)

    def _next_logits(self, ids_BT: Tensor) -> Tensor:
        logits_BTV: Tensor = self.network(ids_BT, return_type=self._logits)
        return logits_BTV

    def _local_level(self) -> Any:
        return self.network.stage_models[-1]


def build_network(config: MegabyteConfig, device: torch.device) -> Any:
    """The peer's untrained model with the config's widths, layers, heads, patch size and window.

    Positions as in its own examples: learned ones for each level, and rotary ones in attention.
    """

    def settings(stack: StackConfig) -> dict[str, Any]:
        return {
            "attn_dropout": config.dropout,
            "ff_multiplier": stack.feedforward,
            "ff_dropout": config.dropout,
            "use_flash_attn": device.type == "cuda",
            "pos_emb_type": "fixed",
        }

    return _build(config, device, settings)


def build_with_defaults(config: MegabyteConfig, device: torch.device) -> Any:
    """The same sizes with the defaults of its blocks: feed-forward layers half as wide, no dropout, ..."""
    return _build(config, device, lambda stack: {})


def _build(config: MegabyteConfig, device: torch.device, settings: Callable[[StackConfig], dict[str, Any]]) -> Any:
    with warnings.catch_warnings():
        # Without mamba_ssm it falls back to another Mamba, which is not used here.
        warnings.filterwarnings("ignore", "Failed to import Mamba2")
        from mblm import MBLM, MBLMModelConfig, TransformerBlock

    stacks = both_stacks(config)
    blocks = [
        TransformerBlock(
            attn_head_dims=stack.dim // stack.heads,
            attn_num_heads=stack.heads,
            attn_use_rot_embs=True,
            **settings(stack),
        )
        for stack in stacks
    ]
    network_config = MBLMModelConfig(
        num_tokens=SYMBOLS,
        pad_token_id=END,
        hidden_dims=[stack.dim for stack in stacks],
        num_layers=[stack.layers for stack in stacks],
        seq_lens=list(level_lengths(config)),
        train_checkpoint_chunks=None,
        block=blocks,
    )
    return MBLM(network_config).to(device)
