"""Sequences in whole patches, and as long again as they were.

Legend: B rows, T symbols, K patches, P symbols in a patch.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from megabyte_mm.alphabet import END


def whole_patches(ids_BT: Tensor, size: int) -> Tensor:
    """The symbols with END up to the end of the last patch: (B, T) int64 -> (B, K * P)."""
    length = ids_BT.shape[1]
    if not torch.compiler.is_exporting():
        return F.pad(ids_BT, (0, -length % size), value=END)
    position_X = torch.arange((length + size - 1) // size * size, device=ids_BT.device)
    return ids_BT.index_select(1, position_X.clamp_max(length - 1)).masked_fill(position_X >= length, END)


def first_positions(x_BXV: Tensor, length: int) -> Tensor:
    """The first positions of sequences in whole patches: (B, K * P, V) -> (B, T, V).

    An exported program copies them: a slice is one kind of tensor if it leaves something out, and another if not.
    """
    if not torch.compiler.is_exporting():
        return x_BXV[:, :length]
    return x_BXV.index_select(1, torch.arange(length, device=x_BXV.device))
