"""The parts of `make gpu` on a simulated GPU: figures mean nothing, and code is not compiled."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch.profiler import ProfilerActivity

from benchmarks.gpu import environment
from benchmarks.gpu import program as gpu
from megabyte_mm.generation.patches import CAPTURES
from megabyte_mm.models.kernels.feedforward_selection import Layer
from tests.simulated_gpu.device import SimulatedGpu
from tests.simulated_gpu.graphs import recorded

PROPERTIES = SimpleNamespace(total_memory=2**34, major=9, minor=0)
STAND_INS: dict[str, Any] = {
    "torch.cuda.get_device_name": lambda *_: "simulated",
    "torch.cuda.get_device_properties": lambda *_: PROPERTIES,
    "torch.cuda.get_device_capability": lambda *_: (9, 0),
    "torch.cuda.synchronize": lambda *_: None,
    "torch.cuda.empty_cache": lambda: None,
    "torch.cuda.reset_peak_memory_stats": lambda *_: None,
    "torch.cuda.max_memory_allocated": lambda *_: 2**20,
    "torch.compile": lambda function, **_: function,
    "benchmarks.gpu.training.ProfilerActivity": SimpleNamespace(CPU=ProfilerActivity.CPU, CUDA=ProfilerActivity.CPU),
    "benchmarks.gpu.training._activities": lambda _: [ProfilerActivity.CPU],
}


@pytest.fixture(autouse=True)
def simulated(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, value in STAND_INS.items():
        monkeypatch.setattr(name, value)
    monkeypatch.setitem(CAPTURES, "cuda", lambda run, device: recorded(run))
    with SimulatedGpu():
        yield


@pytest.mark.filterwarnings("ignore:CUDA is not available:UserWarning", "ignore:.*torch.jit.*:DeprecationWarning")
@pytest.mark.parametrize(
    ("part", "names"),
    [
        ("environment", {"gpu", "TFLOP/s", "GB/s"}),
        ("training", {"ms", "of peak", "peak bytes"}),
        ("decoding", {"bytes/s", "of bandwidth"}),
        ("memory", {"ms", "peak bytes"}),
        ("profile", {"operation", "calls"}),
    ],
)
def test_a_part_runs_from_start_to_end(part: str, names: set[str], tmp_path: Path) -> None:
    gpu.measure(part, tmp_path, torch.device("cuda"), tiny=True)
    rows = json.loads((tmp_path / f"{part}.json").read_text(encoding="utf-8"))
    assert not [row for row in rows if "error" in row and "kernel" not in row]
    assert names <= set().union(*rows)
    if part == "decoding":
        assert {row["backend"] for row in rows} == {"eager", "auto", "compile"}
    if part == "training":
        assert {row["code"] for row in rows} == {"eager", "default", "reduce-overhead"}


def test_feed_forward_layers_stand_beside_a_stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layers: list[Layer] = []
    module = ModuleType("megabyte_mm.models.kernels.feedforward_triton")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(module, "fits", lambda *_: True, raising=False)
    monkeypatch.setattr(environment, "runs_triton", lambda *_: True)
    monkeypatch.setattr(environment, "compare_kernels", layers.append)
    monkeypatch.setattr(environment, "kernel_times", lambda layer: (1.0, 2.0))
    gpu.measure("environment", tmp_path, torch.device("cuda"), tiny=True)
    rows = json.loads((tmp_path / "environment.json").read_text(encoding="utf-8"))
    rows = [row for row in rows if "feed-forward" in row]
    assert [(row["feed-forward"], row["layer"]) for row in rows[3:5]] == [
        ("512 x 2048", "relu, layer norm, biases"),
        ("64 x 256", "relu2, rms norm, no biases"),
    ]
    assert all((row["ms"], row["stand-in ms"]) == (1.0, 2.0) for row in rows)
    kinds = [(layer.options.activation, layer.options.norm, layer.biased) for layer in layers]
    assert kinds == [("relu", "layer", True)] * 4 + [("relu2", "rms", False)] * 4
