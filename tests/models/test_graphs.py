"""Blocks are whole graphs for torch.compile: a break would cost launches and guards at every call."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from megabyte_mm.models import BlockConfig, MegabyteConfig, StackConfig, StepOptions

AT_ONCE, IN_CHUNKS = 2.0**31, 1.0  # bytes for activations
STACK = StackConfig(dim=16, layers=2, heads=2)
VARIANTS: dict[str, dict[str, Any]] = {
    "paper": {},
    "across patches": {"cross_patch": 4},
    "rotary": {"block": BlockConfig(positions="rotary")},
    "modern": {"block": BlockConfig("rms", "swiglu", "rotary", bias=False, qk_norm=True)},
    "squared relu": {"block": BlockConfig(activation="relu2", qk_norm=True), "local_start": "byte"},
    "dropout": {"dropout": 0.1},
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")  # of torch's compiler about itself
@pytest.mark.parametrize(
    ("variant", "budget"),
    [*((variant, AT_ONCE) for variant in VARIANTS), ("paper", IN_CHUNKS), ("across patches", IN_CHUNKS)],
)
def test_no_block_falls_into_several_graphs(variant: str, budget: float, monkeypatch: pytest.MonkeyPatch) -> None:
    compile_module = torch.compile

    def whole(block: torch.nn.Module, options: dict[str, Any], dynamic: bool) -> Any:
        return compile_module(block, backend="aot_eager", dynamic=dynamic, fullgraph=True)

    torch._dynamo.reset()
    monkeypatch.setattr(torch, "compile", whole)
    model = MegabyteConfig(4, 32, STACK, STACK, **VARIANTS[variant]).build()
    model.compile_blocks("default")
    for batch in (2, 2, 1):
        ids = torch.randint(256, (batch, 32))
        model.nll(ids, options=StepOptions(budget)).mean().backward()
    assert all(weight.grad is not None for name, weight in model.named_parameters() if ".blocks." in name)
