"""The sizes at which steps are timed: text, pictures and sound, on a GPU the paper's text model too."""

from __future__ import annotations

from dataclasses import replace

import torch

from benchmarks.harness.workloads import CONFIGS, Workload, workloads
from benchmarks.peers.base import both_stacks
from megabyte_mm.cli.config import read_config
from megabyte_mm.models import MegabyteConfig, StackConfig, TransformerConfig

GLOBAL = StackConfig(dim=512, layers=6, heads=8)
LOCAL = StackConfig(dim=256, layers=4, heads=4)
SHAPES = (
    Workload("text-2048", MegabyteConfig(8, 2048, GLOBAL, LOCAL), batch=4),
    Workload("text-8192", MegabyteConfig(8, 8192, GLOBAL, LOCAL), batch=1),
    Workload("image-64", MegabyteConfig(48, 64 * 64 * 3, StackConfig(dim=576, layers=6, heads=9), LOCAL), batch=1),
    Workload("audio-16k", MegabyteConfig(32, 16384, GLOBAL, LOCAL), batch=1),
)
PAPER_TEXT = "paper-text"
LONGEST_IN_ONE = 8192
"""The baseline's attention spans the whole window up to this length."""
CONTEXT = 2048
"""Above it, blocks of so many bytes."""


def shapes(device: torch.device, toy: bool) -> list[Workload]:
    """All shapes for the device, or one so small that it takes a moment."""
    if toy:
        return workloads(toy=True)
    return [*SHAPES, *([paper_text()] if device.type == "cuda" else [])]


def paper_text() -> Workload:
    """The paper's text model with one window in a step, without dropout."""
    return Workload(PAPER_TEXT, replace(paper_config("text_megabyte"), dropout=0.0), batch=1)


def paper_config(name: str) -> MegabyteConfig:
    """The model of configs/paper/NAME.yaml."""
    net = read_config(str(CONFIGS / "paper" / f"{name}.yaml")).resolve_net()
    assert isinstance(net, MegabyteConfig)
    return net


def baseline(shape: Workload) -> TransformerConfig:
    """A Transformer over the same bytes, of the size of the shape's global model."""
    stack, _ = both_stacks(shape.config)
    context = None if shape.window <= LONGEST_IN_ONE else CONTEXT
    return TransformerConfig(max_len=shape.window, stack=stack, context=context)
