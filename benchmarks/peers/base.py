"""What both peers need to stand where one of our models does: their logits, moved to where ours are."""

from __future__ import annotations

from abc import abstractmethod
from importlib.metadata import PackageNotFoundError, version
from typing import Any, ClassVar

import torch
from torch import Tensor

from megabyte_mm.models import ByteModel, Decoder, Execution, MegabyteConfig, StackConfig


def installed_version(package: str) -> str | None:
    """The version of a package that is installed, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def sizes(config: MegabyteConfig) -> tuple[int, int]:
    """The longest sequences of the two levels: patches in a window, and bytes in a patch."""
    assert config.patch_size is not None
    assert config.max_len is not None
    return -(-config.max_len // config.patch_size), config.patch_size


def both_stacks(config: MegabyteConfig) -> tuple[StackConfig, StackConfig]:
    """The sizes of the global and of the local level. Raises ValueError where the config leaves one of them out."""
    if config.global_stack is None or config.local_stack is None:
        raise ValueError("a peer has both levels: global_stack and local_stack must be given")
    return config.global_stack, config.local_stack


class Peer(ByteModel):
    """A peer's network with the alignment of our models: position t is the distribution of symbol t.

    A peer says at position t what follows symbol t. So its logits move by one place, and the last are dropped. The
    first symbol has a distribution as well, which neither peer's `forward` returns: the one that its own loss scores,
    of the local level's start token with nothing from the global level, is computed beside it. (With `forward_empty`,
    where both begin to generate, they add the global level there, and differ from what they were trained on.)

    Both read P + 1 positions in a patch of P symbols, the start token and all symbols, where ours reads P: what follows
    a patch's last symbol is said by the local level of that patch. END pads, and is a symbol like any other: bytes of
    value 0 are not mistaken for padding, and the loss is ours.

    The condition is ignored, for peers have none. They generate with their own package, and count no operations.
    """

    package: ClassVar[str]
    """What the package is called where it is installed from."""
    own_clip: ClassVar[float | None] = None
    """The norm at which its own training program clips gradients, if it does."""
    config: MegabyteConfig
    network: Any

    def __init__(self, network: Any, config: MegabyteConfig) -> None:
        super().__init__()
        self.network = network
        self.config = config
        _, self.patch_size = sizes(config)
        assert config.max_len is not None
        self.max_len = config.max_len

    @classmethod
    def installed(cls) -> str | None:
        """The installed version, or None."""
        return installed_version(cls.package)

    @property
    def max_positions(self) -> int | None:
        patches, patch_size = sizes(self.config)
        return patches * patch_size

    def forward(self, ids_BT: Tensor, condition_B: Tensor | None = None) -> Tensor:
        self.check_length(ids_BT.shape[1])
        first_B1V = self._first_logits().expand(len(ids_BT), -1, -1)
        return torch.cat([first_B1V, self._following_logits(ids_BT)[:, :-1]], dim=1)

    @abstractmethod
    def _following_logits(self, ids_BT: Tensor) -> Tensor:
        """What the peer returns: at t the distribution of symbol t + 1, (B, T) -> (B, T, 257)."""

    def _first_logits(self) -> Tensor:
        """The distribution of the first symbol, as the peer's own loss has it: (1, 1, 257)."""
        logits_11V: Tensor = self.network.to_logits(self._local_level()(self.network.start_tokens[-1][None, None]))
        return logits_11V

    @abstractmethod
    def _local_level(self) -> Any:
        """The peer's module for the symbols of a patch: (N, Q, L) -> (N, Q, L), causal."""

    @abstractmethod
    def own_loss(self, ids_BT: Tensor) -> Tensor:
        """The loss that the peer's own training program takes: (B, T) int64 -> scalar."""

    @abstractmethod
    def own_continuation(self, prefix_BT: Tensor) -> Tensor:
        """The prefix continued to the end of the window by the peer's own `generate`, without its progress bar."""

    def new_decoder(self, condition_B: Tensor, capacity: int, execution: Execution) -> Decoder:
        raise NotImplementedError("a peer generates with its own package")

    def flops_per_byte(self) -> float:
        raise NotImplementedError("a peer does not say how much it computes")
