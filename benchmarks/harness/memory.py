"""The peak memory of a process while it computes something."""

from __future__ import annotations

from pathlib import Path

import torch

MEBIBYTE = 2**20
GIBIBYTE = 2**30

_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"
"""Written to clear_refs, it has Linux set a process's peak to the memory that it holds now."""


class PeakMemory:
    """How far memory rises above a baseline: by default what the process holds when this is created.

    On a CPU that is resident memory as Linux counts it, on a GPU the memory that torch has allocated. Freed memory that
    the process has not returned counts as held.
    """

    def __init__(self, device: torch.device, baseline: int | None = None) -> None:
        self._gpu = device if device.type == "cuda" else None
        self._baseline = self._present() if baseline is None else baseline

    def reset(self) -> None:
        """Forget earlier peaks."""
        if self._gpu is not None:
            torch.cuda.reset_peak_memory_stats(self._gpu)
        elif _CLEAR_REFS.exists():
            _CLEAR_REFS.write_text(_RESET_PEAK, encoding="ascii")

    def rise(self) -> int | None:
        """Bytes of the peak since `reset` above the baseline; None where the system counts none."""
        if self._gpu is not None:
            return torch.cuda.max_memory_allocated(self._gpu) - (self._baseline or 0)
        peak = _status("VmHWM")
        return None if peak is None or self._baseline is None else peak - self._baseline

    def _present(self) -> int | None:
        return torch.cuda.memory_allocated(self._gpu) if self._gpu is not None else _status("VmRSS")


def _status(field: str) -> int | None:
    if not (_STATUS.exists() and _CLEAR_REFS.exists()):
        return None
    for line in _STATUS.read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    return None
