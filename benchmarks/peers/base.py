"""A peer's network behind the interface of our models: its logits, shifted to our alignment."""

from __future__ import annotations

from abc import abstractmethod
from importlib.metadata import PackageNotFoundError, version
from typing import Any, ClassVar

import torch
from torch import Tensor

from megabyte_mm.models import ByteModel, Decoder, Execution, MegabyteConfig, StackConfig


def level_lengths(config: MegabyteConfig) -> tuple[int, int]:
    """Longest sequence of each level: patches in a window, and bytes in a patch."""
    assert config.patch_size is not None
    assert config.max_len is not None
    return -(-config.max_len // config.patch_size), config.patch_size


def both_stacks(config: MegabyteConfig) -> tuple[StackConfig, StackConfig]:
    """Sizes of the global and of the local level. Raises ValueError where the config lacks one of them."""
    if config.global_stack is None or config.local_stack is None:
        raise ValueError("a peer has both levels: global_stack and local_stack must be given")
    return config.global_stack, config.local_stack


class Peer(ByteModel):
    """A peer's network with the alignment of our models: position t is the distribution of symbol t.

    A peer's logits at position t are of symbol t + 1, so they are shifted by one position and the last are dropped. The
    first symbol's distribution, which neither peer's `forward` returns, is computed beside it as the peer's own loss
    computes it: from the local level's start token, with nothing from the global level. (`forward_empty`, with which
    both start to generate, adds the global level there, unlike in training.)

    Both read P + 1 positions in a patch of P symbols, the start token and all symbols, where ours reads P: the local
    level of a patch also predicts the symbol after it. END pads, and is a symbol like any other: bytes of value 0 are
    not mistaken for padding, and the loss is ours.

    The condition is ignored, for peers have none. They generate with their own package, and count no operations.
    """

    package: ClassVar[str]
    """Name of the package in its registry."""
    own_clip: ClassVar[float | None] = None
    """Norm at which its own training script clips gradients, if it does."""
    config: MegabyteConfig
    network: Any

    def __init__(self, network: Any, config: MegabyteConfig) -> None:
        super().__init__()
        self.network = network
        self.config = config
        _, self.patch_size = level_lengths(config)
        assert config.max_len is not None
        self.max_len = config.max_len

    @classmethod
    def installed(cls) -> str | None:
        """The installed version, or None."""
        try:
            return version(cls.package)
        except PackageNotFoundError:
            return None

    @property
    def max_positions(self) -> int | None:
        patches, patch_size = level_lengths(self.config)
        return patches * patch_size

    def forward(self, ids_BT: Tensor, condition_B: Tensor | None = None) -> Tensor:
        self.check_length(ids_BT.shape[1])
        first_B1V = self._first_logits().expand(len(ids_BT), -1, -1)
        return torch.cat([first_B1V, self._next_logits(ids_BT)[:, :-1]], dim=1)

    @abstractmethod
    def _next_logits(self, ids_BT: Tensor) -> Tensor:
        """The peer's own logits: at t the distribution of symbol t + 1, (B, T) -> (B, T, 257)."""

    def _first_logits(self) -> Tensor:
        """Logits of the first symbol, as in the peer's own loss: (1, 1, 257)."""
        logits_11V: Tensor = self.network.to_logits(self._local_level()(self.network.start_tokens[-1][None, None]))
        return logits_11V

    @abstractmethod
    def _local_level(self) -> Any:
        """The peer's module for the symbols of a patch: (N, Q, L) -> (N, Q, L), causal."""

    @abstractmethod
    def own_loss(self, ids_BT: Tensor) -> Tensor:
        """The loss of the peer's own training script: (B, T) int64 -> scalar."""

    @abstractmethod
    def own_generate(self, prefix_BT: Tensor) -> Tensor:
        """The prefix continued to the end of the window by the peer's own `generate`, without its progress bar."""

    def new_decoder(self, condition_B: Tensor, capacity: int, execution: Execution) -> Decoder:
        raise NotImplementedError("a peer generates with its own package")

    def flops_per_byte(self) -> float:
        raise NotImplementedError("a peer counts no operations")
