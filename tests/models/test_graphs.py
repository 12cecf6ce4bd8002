"""Each kind of block is one graph for torch.compile: a break would cost launches and guards at every call."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from megabyte_mm.models import (
    BlockConfig,
    MegabyteConfig,
    ModelConfig,
    PerceiverARConfig,
    StackConfig,
    StepOptions,
    TransformerConfig,
)
from megabyte_mm.models.megabyte import PartConfig
from tests.models.layouts import ONE
from tests.triton_interpreter import use_own_kernels

AT_ONCE, IN_CHUNKS = 2.0**31, 1.0  # bytes for activations
STACK = StackConfig(dim=16, layers=2, heads=2)
BASE = MegabyteConfig(4, 32, STACK, STACK)
PARTS: dict[str, Any] = {"parts": (PartConfig(4, 16), PartConfig(2, 16)), "orders": ((0, 1),), "conditions": 1}
VARIANTS: dict[str, tuple[ModelConfig, int]] = {  # each with its kinds of blocks
    "paper": (BASE, 2),
    "across patches": (replace(BASE, cross_patch=4), 2),
    "rotary": (replace(BASE, block=BlockConfig(positions="rotary")), 2),
    "modern": (replace(BASE, block=BlockConfig("rms", "swiglu", "rotary", bias=False, qk_norm=True)), 2),
    "squared relu": (replace(BASE, block=BlockConfig(activation="relu2", qk_norm=True), local_start="byte"), 2),
    "dropout": (replace(BASE, dropout=0.1), 2),
    "neighbourhood": (replace(BASE, neighbourhood=ONE, conv_encoder=True), 2),
    "parts": (replace(BASE, **PARTS), 3),  # local blocks of two patch sizes
    "transformer": (TransformerConfig(max_len=32, stack=STACK), 1),
    "perceiver_ar": (PerceiverARConfig(max_len=32, stack=STACK, latents=32), 1),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")  # of torch's compiler about itself
@pytest.mark.parametrize(
    ("variant", "budget", "own_kernels"),
    [
        *((variant, AT_ONCE, False) for variant in VARIANTS),
        ("dropout", AT_ONCE, True),
        *(
            (variant, IN_CHUNKS, own_kernels)
            for variant in ("paper", "across patches")
            for own_kernels in (False, True)
        ),
    ],
)
def test_each_kind_of_block_is_one_graph(
    variant: str, budget: float, own_kernels: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    compile_module, counter = torch.compile, CompileCounterWithBackend("eager")

    def whole(block: torch.nn.Module, options: dict[str, Any], dynamic: bool) -> Any:
        return compile_module(block, backend=counter, dynamic=dynamic, fullgraph=True)

    torch._dynamo.reset()
    monkeypatch.setattr(torch, "compile", whole)
    if own_kernels:
        use_own_kernels(monkeypatch)
    config, kinds = VARIANTS[variant]
    model = config.build()
    model.compile_blocks("default")
    for batch in (2, 2, 1):
        ids = torch.randint(256, (batch, 32))
        nats, _ = model.training_nll(ids, options=StepOptions(budget))
        nats.mean().backward()
        if batch == 2 and budget == AT_ONCE:
            assert counter.frame_count == kinds
    assert all(weight.grad is not None for name, weight in model.named_parameters() if ".blocks." in name)
