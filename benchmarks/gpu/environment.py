"""The card, its measured limits, and the kernels that run on it."""

from __future__ import annotations

import platform
import subprocess
import sys
import warnings
from importlib.util import find_spec
from itertools import product
from pathlib import Path

import torch
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.gpu.settings import Row, Settings
from benchmarks.peers import peer_versions
from megabyte_mm.models.kernels.feedforward import FeedForwardOptions
from megabyte_mm.models.kernels.feedforward_selection import Layer, compare_kernels, kernel_times
from megabyte_mm.models.kernels.support import runs_triton

ROOT = Path(__file__).resolve().parents[2]
"""The repository, where the tests run: they and pytest's settings are found from any folder."""
PYTEST = ["-m", "pytest", "-v", "--tb=short", "-m", "gpu", "-p", "no:cacheprovider"]
TESTS = "tests/models/test_cuda.py"
"""Tests that need a GPU; they import torch, numpy, pytest and hypothesis alone."""
FIT_TESTS = "tests/training/test_fit_on_gpu.py"
"""Tests of commands on a GPU, which need the package's dependencies."""
DEPENDENCIES = ("lightning", "jsonargparse", "soundfile", "soxr", "PIL", "constriction", "torchmetrics")
BACKENDS = (SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.CUDNN_ATTENTION, SDPBackend.MATH)

CANNOT_RUN = ("No viable backend", "No available kernel")
"""How torch's errors start where a kernel of attention is not for the device or the shapes."""

WIDTHS = (64, 128, 256, 512)
FEEDFORWARD = {
    "relu, layer norm, biases": ("relu", "layer", True),
    "relu2, rms norm, no biases": ("relu2", "rms", False),
}
"""Layers, each with its activation, its norm, and whether it has biases."""


def environment(settings: Settings) -> None:
    """Versions, the speed of products and of memory, and the kernels of attention and of feed-forward layers."""
    settings.add(
        {
            "device": settings.device.type,
            "tiny": settings.tiny,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "cuda": torch.version.cuda,
            "gpu": torch.cuda.get_device_name() if settings.on_gpu else None,
            "memory bytes": torch.cuda.get_device_properties(0).total_memory if settings.on_gpu else None,
            **peer_versions(),
        }
    )
    settings.attempt({"what": "products, bfloat16"}, lambda: {"TFLOP/s": peak_flops(settings) / 1e12})
    settings.attempt({"what": "copy"}, lambda: {"GB/s": bandwidth(settings) / 1e9})
    for shape, keys in (((4096, 4, 8, 64), 8), ((4096, 4, 8, 64), 16), ((8, 8, 1024, 64), 1024)):
        for backend in BACKENDS:
            row: Row = {"attention": f"{shape[2]} queries, {keys} keys", "kernel": backend.name}
            settings.attempt(row, lambda s=shape, k=keys, b=backend: _attend(settings, s, k, b))  # type: ignore[misc]
    for layer, width in product(FEEDFORWARD, WIDTHS) if settings.on_gpu else ():
        row = {"feed-forward": f"{width} x {4 * width}", "layer": layer, "kernel": "own"}
        settings.attempt(row, lambda w=width, n=layer: _feed_forward(settings, w, *FEEDFORWARD[n]))  # type: ignore[misc]


def run_tests(settings: Settings) -> int:
    """The tests marked `gpu`, in a process of their own, whose output is in OUT/tests.log as far as it came.

    0 where all pass or are skipped, and without pytest; 1 where some fail, or none are found.
    """
    if find_spec("pytest") is None:
        settings.add({"error": "pytest is not installed: put its wheels into the folder of --wheels"})
        return 0
    missing = [name for name in DEPENDENCIES if find_spec(name) is None]
    if missing:
        settings.add({"left out": FIT_TESTS, "not installed": ", ".join(missing)})
    files = [TESTS, *([] if missing else [FIT_TESTS])]
    log = settings.path.with_suffix(".log")
    with log.open("w", encoding="utf-8") as output:
        command = [sys.executable, *PYTEST, *files]
        done = subprocess.run(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, check=False)
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or [""]
    settings.add({"exit code": done.returncode, "result": lines[-1]})
    for line in lines:
        if line.startswith(("FAILED", "ERROR")):
            settings.add({"failed": line})
    return int(done.returncode != 0)


def peak_flops(settings: Settings) -> float:
    """Operations a second of a product of square matrices in bfloat16."""
    size = 64 if settings.tiny else 8192
    x = torch.randn(size, size, device=settings.device, dtype=torch.bfloat16)
    return 2 * size**3 / settings.seconds(lambda: x @ x, 20)


def bandwidth(settings: Settings) -> float:
    """Bytes a second that a copy reads and writes."""
    x = torch.ones(10**4 if settings.tiny else 2**29, device=settings.device)
    y = torch.empty_like(x)
    return 2 * x.numel() * x.element_size() / settings.seconds(lambda: y.copy_(x), 20)


def _feed_forward(settings: Settings, width: int, activation: str, norm: str, biased: bool) -> Row:
    """Forward and backward, in the project's own kernels, and in a stand-in for compiled code: see `kernel_times`."""
    from megabyte_mm.models.kernels.feedforward_triton import fits

    if not runs_triton(settings.device) or not fits(settings.device, width):
        raise RuntimeError("there is no kernel for this card")
    dtypes = torch.bfloat16, torch.float32, torch.float32
    options = FeedForwardOptions(norm, 1e-5, activation)
    layer = Layer(settings.device, *dtypes, width, 4 * width, biased, options)
    compare_kernels(layer)
    own, stand_in = kernel_times(layer)
    return {"ms": own, "stand-in ms": stand_in}


def _attend(settings: Settings, shape: tuple[int, int, int, int], keys: int, backend: SDPBackend) -> Row:
    rows, heads, length, width = (2, 2, shape[2], 8) if settings.tiny else shape
    q = torch.randn(rows, heads, length, width, device=settings.device, dtype=torch.bfloat16)
    k = torch.randn(rows, heads, keys, width, device=settings.device, dtype=torch.bfloat16)
    # As `attend` asks for it: causal where the lengths are equal, else with a mask.
    mask = (
        None
        if keys == length
        else torch.ones(length, keys, dtype=torch.bool, device=settings.device).tril(keys - length)
    )
    with sdpa_kernel(backend), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that others are left out
        try:
            seconds = settings.seconds(lambda: F.scaled_dot_product_attention(q, k, k, mask, 0.0, mask is None), 20)
        except RuntimeError as error:
            if str(error).startswith(CANNOT_RUN):
                raise RuntimeError("does not run here") from error
            raise
    return {"ms": 1e3 * seconds}
