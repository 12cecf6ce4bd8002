"""The most memory that a process holds while it does something."""

from __future__ import annotations

from pathlib import Path

import torch

STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")
PEAK_TO_PRESENT = "5"
"""What Linux takes, written to `CLEAR`, for setting a process's peak to what it holds now."""


class PeakMemory:
    """How far memory rises above what the process held when this was made.

    On a CPU that is resident memory, as Linux tells it; on a GPU what torch has allocated. Freed memory that the
    process keeps counts as held.
    """

    def __init__(self, device: torch.device, above: int | None = None) -> None:
        """above: bytes to count from instead."""
        self._gpu = device if device.type == "cuda" else None
        self._before = self._present() if above is None else above

    def begin(self) -> None:
        """Forget the peaks of the past."""
        if self._gpu is not None:
            torch.cuda.reset_peak_memory_stats(self._gpu)
        elif CLEAR.exists():
            CLEAR.write_text(PEAK_TO_PRESENT, encoding="ascii")

    def rise(self) -> int | None:
        """Bytes at the peak since `begin`, less those before; None where the system does not tell."""
        if self._gpu is not None:
            return torch.cuda.max_memory_allocated(self._gpu) - (self._before or 0)
        peak = _status("VmHWM")
        return None if peak is None or self._before is None else peak - self._before

    def _present(self) -> int | None:
        return torch.cuda.memory_allocated(self._gpu) if self._gpu is not None else _status("VmRSS")


def _status(field: str) -> int | None:
    if not (STATUS.exists() and CLEAR.exists()):
        return None
    for line in STATUS.read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    return None
