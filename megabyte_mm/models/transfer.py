"""From the CPU to the device of a model, without waiting for what runs there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def to_device(x: Tensor, device: torch.device) -> Tensor:
    """The tensor on that device. To a GPU it is copied behind the work that was started there before.

    The memory of `x` may be reused at once, unless it is pinned: CUDA first copies what is not pinned to a buffer.
    """
    return x.to(device, non_blocking=device.type == "cuda")


def numbers_to_device(numbers: Sequence[Any], device: torch.device) -> Tensor:
    """A tensor of Python numbers, as of `torch.tensor`, on that device."""
    return to_device(torch.tensor(numbers, device="cpu"), device)
