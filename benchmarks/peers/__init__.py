"""Other implementations of MEGABYTE as byte models: optional packages, unchanged, at the sizes of our configs."""

from __future__ import annotations

import torch

from benchmarks.peers.base import Peer
from benchmarks.peers.mblm import Mblm
from benchmarks.peers.megabyte_pytorch import MegabytePytorch
from megabyte_mm.models import MegabyteConfig

__all__ = ["PEERS", "Peer", "build_peer", "peer_versions"]

PEERS: dict[str, type[MegabytePytorch] | type[Mblm]] = {"megabyte-pytorch": MegabytePytorch, "mblm": Mblm}
"""Class of each peer, by its name in experiments."""


def build_peer(name: str, config: MegabyteConfig, device: torch.device, own_defaults: bool = False) -> Peer:
    """The untrained peer at the config's sizes, with its package's own initial weights.

    own_defaults: take only widths, layers, patch size and window from the config, and the package's defaults otherwise.
    """
    return PEERS[name](config, device, own_defaults)


def peer_versions() -> dict[str, str | None]:
    """The installed version of each peer's package, or None."""
    return {peer.package: peer.installed() for peer in PEERS.values()}
