"""Other implementations of MEGABYTE as byte models: optional, unchanged, at the sizes of one of our configs."""

from __future__ import annotations

import torch

from benchmarks.peers.base import Peer
from benchmarks.peers.mblm import Mblm
from benchmarks.peers.megabyte_pytorch import MegabytePytorch
from megabyte_mm.models import MegabyteConfig

__all__ = ["PEERS", "Peer", "build_peer", "peer_versions"]

PEERS: dict[str, type[MegabytePytorch] | type[Mblm]] = {"megabyte-pytorch": MegabytePytorch, "mblm": Mblm}
"""What an experiment calls a peer, and its class."""


def build_peer(name: str, config: MegabyteConfig, device: torch.device, as_it_comes: bool = False) -> Peer:
    """The untrained peer at the config's sizes, its own initial weights drawn from torch's global generator.

    as_it_comes: of the config only widths, layers, patch size and window, and the package's defaults otherwise.
    """
    return PEERS[name](config, device, as_it_comes)


def peer_versions() -> dict[str, str | None]:
    """The version of each peer's package that is installed, or None."""
    return {peer.package: peer.installed() for peer in PEERS.values()}
