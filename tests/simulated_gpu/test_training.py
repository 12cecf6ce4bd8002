"""Training steps on a GPU: the losses and gradients of a CPU, on one device, without a wait."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from megabyte_mm.metrics import totals
from megabyte_mm.models import (
    BlockConfig,
    ByteModel,
    MegabyteConfig,
    ModelConfig,
    PerceiverARConfig,
    StackConfig,
    StepOptions,
    TransformerConfig,
)
from megabyte_mm.models.megabyte import PartConfig
from megabyte_mm.training.optim import OptimizerConfig, build_optimizer
from tests.models.layouts import EACH
from tests.simulated_gpu.device import SimulatedGpu, on_gpu, to_cpu, to_gpu
from tests.triton_interpreter import use_own_kernels

WINDOW, AT_ONCE, IN_CHUNKS = 12, 2.0**31, 1.0
STACK = StackConfig(dim=16, layers=1, heads=2)
MODERN = BlockConfig("rms", "swiglu", "rotary", bias=False, qk_norm=True)
BASE = MegabyteConfig(4, WINDOW, STACK, STACK, conditions=3, init_std=0.2)
PARTS: dict[str, Any] = {
    "patch_size": 2,
    "parts": (PartConfig(2, 4), PartConfig(4, 8), PartConfig(1, 4)),
    "orders": ((0, 1), (1, 2), (2, 0, 2)),
}
SEQUENCE: dict[str, Any] = {"max_len": WINDOW, "stack": STACK, "conditions": 3, "init_std": 0.2}
MODELS: dict[str, tuple[ModelConfig, float]] = {
    "paper": (BASE, AT_ONCE),
    "dropout": (replace(BASE, dropout=0.2), AT_ONCE),
    "extended": (replace(BASE, cross_patch=4, conv_encoder=True, local_start="byte", block=MODERN), AT_ONCE),
    "chunks": (replace(BASE, cross_patch=1, dropout=0.2, block=MODERN), IN_CHUNKS),
    "neighbourhood": (replace(BASE, neighbourhood=EACH, block=BlockConfig(activation="relu2")), AT_ONCE),
    "no global model": (replace(BASE, global_stack=None), AT_ONCE),
    "no local model": (replace(BASE, local_stack=None), AT_ONCE),
    "parts": (replace(BASE, **PARTS, neighbourhood=EACH), AT_ONCE),
    "transformer": (TransformerConfig(**SEQUENCE, context=5), AT_ONCE),
    "perceiver_ar": (PerceiverARConfig(**SEQUENCE, latents=4), AT_ONCE),
}


def step(model: ByteModel, ids: Tensor, budget: float) -> tuple[Tensor, list[Tensor]]:
    """The loss and gradients of a step with the conditions on the CPU, where a loader has them."""
    torch.manual_seed(1)
    optimizer = build_optimizer(model, OptimizerConfig(lr=1e-30), fused=True)
    nats, span = model.training_nll(ids, torch.tensor([0, 2]), StepOptions(budget, num_filled=WINDOW))
    sums = totals(nats, ids, span)
    loss = sums.nats / sums.symbols
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    gradients = [to_cpu(weight.grad) for weight in model.parameters() if weight.grad is not None]
    model.zero_grad()
    return to_cpu(loss.detach()), gradients


@pytest.mark.parametrize("name", MODELS)
def test_a_step_is_that_of_the_cpu_and_waits_for_nothing(name: str) -> None:
    config, budget = MODELS[name]
    torch.manual_seed(0)
    model = config.build()
    ids = torch.randint(257, (2, WINDOW))
    wanted = step(model, ids, budget)
    with SimulatedGpu() as gpu:
        model, ids = on_gpu(model), to_gpu(ids)
        step(model, ids, budget)  # makes tables of rotations
        gpu.reset()
        got = step(model, ids, budget)
    assert not gpu.waits
    torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize("name", ["paper", "neighbourhood", "parts"])
def test_a_step_with_operations_that_have_kernels_is_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config, budget = MODELS[name]
    torch.manual_seed(0)
    model = config.build()
    ids = torch.randint(257, (2, WINDOW))
    wanted = step(model, ids, budget)
    use_own_kernels(monkeypatch)
    with SimulatedGpu() as gpu:
        model, ids = on_gpu(model), to_gpu(ids)
        got = step(model, ids, budget)
    assert not gpu.waits
    torch.testing.assert_close(got, wanted)


def test_a_batch_of_unknown_length_costs_perceiver_ar_one_wait() -> None:
    config, _ = MODELS["perceiver_ar"]
    with SimulatedGpu() as gpu:
        model, ids = on_gpu(config.build()), to_gpu(torch.randint(257, (2, WINDOW)))
        model.training_nll(ids)
    assert [wait.split(" at ")[1].split(":")[0] for wait in gpu.waits] == ["megabyte_mm/alphabet.py"]
