"""Keeping freed memory in the process while training on a CPU."""

from __future__ import annotations

import ctypes
import platform

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
"""Parameter numbers of glibc's mallopt."""


def keep_freed_memory() -> None:
    """Ask glibc not to give large blocks back to the system; elsewhere, do nothing.

    A training step allocates and frees the same activations over and over. By default each block is mapped anew and
    every page of it faulted in, which cost up to an eighth of a step's time on two cores (benchmarks/memory.py).
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(_M_MMAP_MAX, 0)
    libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
