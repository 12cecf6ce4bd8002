"""What both decoders do where one patch ends and the next begins.

Legend: n rows, P symbols in a patch, G global width, L local width.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from megabyte_mm.models.megabyte.model import Megabyte

PATCHES_AT_ONCE = 512
"""Patches of a prefix that are read at a time, so that memory grows with it only by the caches."""


def first_inputs(model: Megabyte, before_n: Tensor, follows_n: Tensor) -> Tensor:
    """The first input of the local model in the open patch of each row: (n,) int64, (n,) bool -> (n, L).

    before: the symbol in front of the patch. follows: whether it counts: not in a row's or a part's first patch.
    """
    start_nL = model.local_start_L.expand(len(before_n), -1)
    if model.config.local_start == "learned":
        return start_nL
    return torch.where(follows_n[:, None], model.local_bytes(before_n), start_nL)


def local_contexts(project: Callable[[Tensor], Tensor], global_nG: Tensor, positions_PL: Tensor) -> Tensor:
    """The inputs of the local model that do not depend on a patch's bytes: (n, G) -> (n, P, L).

    project: a position's share of the global output, (n * P, G / P) -> (n * P, L).
    """
    rows, size = len(global_nG), len(positions_PL)
    context_NL = project(global_nG.reshape(rows * size, -1))
    return context_NL.view(rows, size, -1) + positions_PL


def reading_in(dtype: torch.dtype, like: Tensor) -> AbstractContextManager[object]:
    """Products of a prefix in the dtype of those of steps, for such weights."""
    return nullcontext() if dtype == like.dtype else torch.autocast(like.device.type, dtype)
