"""Four methods to score the same symbols with a model: plain, sliding, strided, sliding+strided.

Sliding scores in overlapping windows (`megabyte_mm.windows`). Strided reads each window twice, the second time shifted
by half a patch, and keeps for each symbol the pass that predicts it in the first half of a patch, where the paper's
models err least (Yu et al. 2023, section 2.3.3).
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from megabyte_mm.models import DEFAULT_STEP, ByteModel, StepOptions
from megabyte_mm.models.transfer import to_device

Method = Literal["plain", "sliding", "strided", "sliding+strided"]

METHODS: tuple[Method, ...] = get_args(Method)


def is_sliding(method: Method) -> bool:
    """Return True if the windows overlap."""
    return "sliding" in method


def is_strided(method: Method) -> bool:
    """Return True if each window is read twice."""
    return "strided" in method


def check_method(method: str, model: ByteModel, unit: int = 1) -> None:
    """Raise ValueError for an unknown method, or one that the model does not support."""
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}; known: {', '.join(METHODS)}")
    if method.endswith("strided"):
        stride_offset(model.patch_size, unit)


def stride_offset(patch_size: int, unit: int = 1) -> int:
    """Return the shift of the second pass in symbols: half a patch, rounded down to whole units.

    Raises ValueError for patches of less than two units.
    """
    offset = patch_size // 2 // unit * unit
    if not offset:
        held = "this one has none" if patch_size == 1 else f"this one's hold {patch_size} bytes"
        raise ValueError(f"strided needs a model with patches of at least {2 * unit} bytes, and {held}")
    return offset


def method_nll(
    method: Method,
    model: ByteModel,
    ids_BT: Tensor,
    condition_B: Tensor | None = None,
    unit: int = 1,
    options: StepOptions = DEFAULT_STEP,
) -> Tensor:
    """Return the nats of each symbol of the windows by a method: (B, T) int64 -> (B, T) float32."""
    if is_strided(method):
        return strided_nll(model, ids_BT, condition_B, unit, options)
    return model.nll(ids_BT, condition_B, options)


@torch.no_grad()
def strided_nll(
    model: ByteModel,
    ids_BT: Tensor,
    condition_B: Tensor | None = None,
    unit: int = 1,
    options: StepOptions = DEFAULT_STEP,
) -> Tensor:
    """Return the nats of each symbol, from the second patch on predicted in the first half of a patch.

    Each prediction depends only on earlier symbols, so the sum is a code length like any other.
    ids: (B, T) int64, 0..256; unit: bytes that stay together -> (B, T) float32. Raises ValueError as `stride_offset`.
    """
    offset = stride_offset(model.patch_size, unit)
    nats_BT = model.nll(ids_BT, condition_B, options)
    if ids_BT.shape[1] <= model.patch_size:
        return nats_BT
    second_BT = model.nll(ids_BT[:, offset:], condition_B, options)
    shifted_BT = torch.cat([nats_BT[:, :offset], second_BT], dim=1)
    shifted_T = to_device(in_shifted_pass(ids_BT.shape[1], model.patch_size, offset), ids_BT.device)
    return nats_BT.where(~shifted_T, shifted_BT)


def in_shifted_pass(length: int, patch_size: int, offset: int) -> Tensor:
    """Return the mask of the symbols of a window that the shifted pass scores: (T,) bool."""
    positions_T = torch.arange(length)
    return (positions_T >= patch_size) & (positions_T % patch_size >= offset)


def patch_positions(method: Method, length: int, patch_size: int, unit: int = 1) -> Tensor:
    """Return the position of each symbol of a window in its patch, in the pass that scores it: (T,) int64."""
    positions_T = torch.arange(length)
    if not is_strided(method):
        return positions_T % patch_size
    offset = stride_offset(patch_size, unit)
    shifted_T = in_shifted_pass(length, patch_size, offset) * offset
    return (positions_T - shifted_T) % patch_size
