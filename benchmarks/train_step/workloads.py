"""The sizes at which steps are timed: text, pictures and sound, and on a GPU the paper's text model."""

from __future__ import annotations

from dataclasses import replace

import torch

from benchmarks.harness.workloads import Workload, paper_config, toy
from benchmarks.peers.base import both_stacks
from megabyte_mm.models import MegabyteConfig, StackConfig, TransformerConfig

GLOBAL = StackConfig(dim=512, layers=6, heads=8)
LOCAL = StackConfig(dim=256, layers=4, heads=4)
WORKLOADS = (
    Workload("text-2048", MegabyteConfig(8, 2048, GLOBAL, LOCAL), batch=4),
    Workload("text-8192", MegabyteConfig(8, 8192, GLOBAL, LOCAL), batch=1),
    Workload("image-64", MegabyteConfig(48, 64 * 64 * 3, StackConfig(dim=576, layers=6, heads=9), LOCAL), batch=1),
    Workload("audio-16k", MegabyteConfig(32, 16384, GLOBAL, LOCAL), batch=1),
)
PAPER_TEXT = "paper-text"
FULL_ATTENTION_UP_TO = 8192
"""Longest window that the Transformer attends to as a whole."""
BLOCK = 2048
"""Bytes of the blocks in which it reads longer windows."""


def workloads_for(device: torch.device, tiny: bool) -> list[Workload]:
    """All workloads for the device, or a toy."""
    if tiny:
        return [toy()]
    return [*WORKLOADS, *([paper_text()] if device.type == "cuda" else [])]


def paper_text() -> Workload:
    """The paper's text model with one window in a step, without dropout."""
    return Workload(PAPER_TEXT, replace(paper_config("text_megabyte"), dropout=0.0), batch=1)


def transformer(workload: Workload) -> TransformerConfig:
    """A Transformer over the same bytes, of the size of the workload's global model."""
    stack, _ = both_stacks(workload.config)
    context = None if workload.window <= FULL_ATTENTION_UP_TO else BLOCK
    return TransformerConfig(max_len=workload.window, stack=stack, context=context)
