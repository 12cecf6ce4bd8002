"""Kernels of Triton on a CPU: by the interpreter of Triton, or by their definitions."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="Triton comes with torch for CUDA")


def run_interpreted(module: str, function: str) -> None:
    """Call a function in a process of its own: when it is imported, Triton decides whether it interprets."""
    script = f"from {module} import {function}; {function}()"
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parents[1], env=environment, check=True)


def use_own_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let blocks take the operations that have kernels; on a CPU these are computed by their definition."""
    monkeypatch.setattr("megabyte_mm.models.attention.packs", lambda *_: True)
    monkeypatch.setattr("megabyte_mm.models.layers.fuses", lambda *_: True)
