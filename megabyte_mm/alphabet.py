"""The 257 symbols that every model reads and writes: the bytes 0..255, and END after a stream's last byte."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch._C._functorch import is_functorch_wrapped_tensor

BYTES = 256
END = 256
SYMBOLS = 257


def scored(ids_BT: Tensor) -> Tensor:
    """Mask of the scored positions: every byte and the first END; what follows it is padding.

    ids: (B, T) int64, 0..256 -> (B, T) bool.
    """
    ends_BT = (ids_BT == END).cumsum(dim=1)
    return (ends_BT == 0) | ((ends_BT == 1) & (ids_BT == END))


def check_ids(ids: Tensor) -> None:
    """Check that numbers are symbols: int64 of any shape. Raises ValueError for one outside 0..256.

    A GPU is not waited for: without gradients it stops itself at the first such number, and in a training step its
    tables do. Code that torch.compile, torch.export or torch.func traces has no numbers to look at.
    """
    if ids.dtype not in (torch.int64, torch.int32):
        raise ValueError(f"ids are {ids.dtype}; symbols are integers, such as torch.int64")
    if not ids.numel() or torch.compiler.is_compiling() or is_functorch_wrapped_tensor(ids):
        return
    if ids.device.type == "cpu":
        low, high = (int(number) for number in ids.aminmax())
        if low < 0 or high > END:
            raise ValueError(f"ids are {low} to {high}; symbols are 0 to {END}: the bytes, and {END} for END")
    elif ids.device.type == "cuda" and not torch.is_grad_enabled():
        torch._assert_async(((ids >= 0) & (ids <= END)).all(), f"ids outside 0 to {END}")


def num_filled(ids_BT: Tensor) -> int:
    """The number of positions at which some row has a byte: (B, T) int64, 0..256."""
    return int((ids_BT != END).any(0).sum())


def fill_window(data: NDArray[np.uint8], window: int) -> NDArray[np.int64]:
    """The bytes as symbols, followed by END up to `window` symbols: (n,) uint8 with n <= window -> (window,) int64."""
    ids = np.empty(window, dtype=np.int64)
    fill_parts(ids, [data], [window])
    return ids


def fill_parts(ids: NDArray[np.int64], parts: Sequence[NDArray[np.uint8]], sizes: Sequence[int]) -> None:
    """Set a row to parts, each in a window of its own: its bytes, and END up to the next part or the end of the row.

    ids: (T,) int64, to be filled; parts: (n,) uint8 each; sizes: symbols of each window. Raises ValueError for a part
    that is longer than its window.
    """
    start = 0
    for data, size in zip(parts, sizes, strict=True):
        if len(data) > size:
            raise ValueError(f"{len(data)} bytes do not fit into a window of {size}")
        ids[start : start + len(data)] = data
        ids[start + len(data) : start + size] = END
        start += size
    ids[start:] = END


def to_ids(data: NDArray[np.uint8]) -> Tensor:
    """A stream's bytes as symbols: (n,) uint8 -> (n,) int64 tensor."""
    return torch.from_numpy(data.astype(np.int64))


def to_bytes(ids: Tensor) -> NDArray[np.uint8]:
    """The bytes before the first END: (T,) int64 -> (n,) uint8."""
    symbols = ids.cpu().numpy()
    ends = np.flatnonzero(symbols == END)
    return symbols[: ends[0] if len(ends) else len(symbols)].astype(np.uint8)
