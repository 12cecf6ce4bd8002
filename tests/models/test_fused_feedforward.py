"""The second half of a block as one operation: values and gradients are those of separate modules."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import product
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from megabyte_mm.models import BlockConfig, MegabyteConfig, StackConfig
from megabyte_mm.models import layers as layers_module
from megabyte_mm.models.kernels import feedforward
from megabyte_mm.models.kernels import feedforward_selection as selection
from megabyte_mm.models.kernels.feedforward import (
    FeedForwardOptions,
    Weights,
    _feedforward,
    fused_feedforward,
    plain,
    plain_backward,
)
from megabyte_mm.models.kernels.feedforward_selection import Layer, example, fuses
from megabyte_mm.models.kernels.support import kept_by_dropout
from megabyte_mm.models.layers import Block
from tests.models.gradients import nats_and_gradients
from tests.triton_interpreter import needs_triton, run_interpreted

CPU = torch.device("cpu")
RELU = FeedForwardOptions("layer", 1e-5, "relu")
BLOCKS = {
    "paper": BlockConfig(),
    "gelu": BlockConfig(activation="gelu"),
    "squared ReLU, RMS norm, no biases": BlockConfig(norm="rms", activation="relu2", bias=False),
}
KERNEL_CASES = [
    (64, 256, "layer", "relu", True),
    (48, 192, "rms", "relu2", False),
    (144, 64, "layer", "gelu", True),
]
"""Widths, norms, activations, and whether there are biases."""


def assert_same(
    block: Block, separate: Callable[[Tensor, Tensor], Tensor], x: Tensor, branch: Tensor, grad: Tensor
) -> None:
    """The fused operation gives the values and gradients of a function."""
    weights = [*block.feedforward_norm.parameters(), *block.feedforward.parameters()]
    results = []
    for run in (block._feedforward_fused, separate):
        leaves = [x.clone().requires_grad_(), branch.clone().requires_grad_()]
        out = run(*leaves)
        results.append((out.detach(), *torch.autograd.grad(out, [*leaves, *weights], grad)))
    torch.testing.assert_close(*results)


@pytest.mark.parametrize("name", BLOCKS)
def test_values_and_gradients_are_those_of_the_modules(name: str) -> None:
    torch.manual_seed(0)
    block = Block(StackConfig(16, 1, 2), BLOCKS[name], dropout=0.0, previous=0).double()
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter)
    x, branch, grad = (torch.randn(3, 5, 16, dtype=torch.float64) for _ in range(3))

    def separate(x: Tensor, branch: Tensor) -> Tensor:
        r = x + branch
        return r + block.feedforward(block.feedforward_norm(r))

    assert_same(block, separate, x, branch, grad)


def test_dropout_keeps_the_same_elements_forward_and_backward(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    block = Block(StackConfig(16, 1, 2), BLOCKS["paper"], dropout=0.4, previous=0).double()
    x, branch, grad = (torch.randn(3, 5, 16, dtype=torch.float64) for _ in range(3))
    kept = torch.rand(15, 16) < 0.6
    monkeypatch.setattr(feedforward, "kept_by_dropout", lambda *_: kept)

    def separate(x: Tensor, branch: Tensor) -> Tensor:
        r = x + branch
        return r + block.feedforward(block.feedforward_norm(r)) * kept.view_as(r) / 0.6

    assert_same(block, separate, x, branch, grad)


def test_dropout_keeps_its_share_and_follows_the_seed() -> None:
    masks = []
    for _ in range(2):
        torch.manual_seed(3)
        masks.append(kept_by_dropout((200, 100), 0.3, CPU))
    torch.testing.assert_close(*masks)
    assert masks[0] is not None
    assert 0.68 < masks[0].double().mean() < 0.72
    assert kept_by_dropout((2, 3), 0.0, CPU) is None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_an_rms_norm_of_halves_has_the_epsilon_of_torch(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    block = Block(StackConfig(16, 1, 2), BLOCKS["squared ReLU, RMS norm, no biases"], dropout=0.0, previous=0).to(dtype)
    x, branch = (0.01 * torch.randn(3, 5, 16, dtype=dtype) for _ in range(2))
    r = x + branch
    torch.testing.assert_close(
        block._feedforward_fused(x, branch) - r, block.feedforward(block.feedforward_norm(r)), rtol=0.05, atol=0.01
    )


def test_it_is_an_operation_that_torch_can_trace() -> None:
    layer = Layer(CPU, torch.float32, torch.float32, torch.float32, 16, 64, True, RELU)
    x, branch, _, weights = example(layer, positions=6)
    tensors = [tensor.requires_grad_() for tensor in (x, branch, *weights) if tensor is not None]
    kept = torch.rand(6, 16) < 0.5
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(_feedforward, (*tensors, kept, *RELU._replace(dropout=0.5)), test_utils=checks)


def test_it_needs_what_the_kernels_can_do(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Layer] = []

    def settled(layer: Layer) -> bool:
        asked.append(layer)
        return True

    monkeypatch.setattr(selection, "_settled", settled)
    x, up = torch.zeros(128, 65, 64), torch.zeros(256, 64)
    options = True, RELU
    assert not fuses(x, x.bfloat16(), up, *options)
    monkeypatch.setattr(selection, "DEVICES", ("cpu",))
    assert fuses(x, x.bfloat16(), up, *options)
    assert asked == [Layer(CPU, torch.bfloat16, torch.float32, torch.float32, 64, 256, *options)]
    assert not fuses(x, x, up, *options)
    assert not fuses(x, x.bfloat16(), up, True, RELU._replace(activation="swiglu"))
    assert not fuses(x, x.bfloat16(), up[1:], *options)
    assert not fuses(x[2:], x[2:].bfloat16(), up, *options)
    with torch.no_grad():
        assert not fuses(x, x.bfloat16(), up, *options)
    torch.use_deterministic_algorithms(True)
    try:
        assert not fuses(x, x.bfloat16(), up, *options)
    finally:
        torch.use_deterministic_algorithms(False)
    assert len(asked) == 1


@pytest.mark.parametrize("dropout", [0.0, 0.15])
def test_compiled_code_takes_it_too(dropout: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "DEVICES", ("cpu",))
    monkeypatch.setattr(selection, "MIN_POSITIONS", 16)
    block = Block(StackConfig(16, 1, 2), BlockConfig(), dropout, previous=0)
    x = torch.randn(2, 8, 16)
    codes: list[str] = []

    def noted(graph: torch.fx.GraphModule, _: Any) -> Any:
        codes.append(graph.code)
        return graph

    for suits in (False, True):
        monkeypatch.setattr(selection, "_settled", lambda layer, suits=suits: suits)
        torch._dynamo.reset()
        results = []
        for run in (block, torch.compile(block, backend=noted, fullgraph=True)):
            torch.manual_seed(1)
            block.zero_grad()
            with torch.autocast("cpu", torch.bfloat16):
                out = run(x)
            out.sum().backward()
            results.append([out.detach(), *(parameter.grad for parameter in block.parameters())])
        torch.testing.assert_close(*results)
    assert ["megabyte_mm.feedforward" in code for code in codes] == [False, True]


def one_wrong_element(run: Any, *inputs: Any) -> Any:
    out, *others = run(*inputs)
    out[99, 9] += 1.0
    return out, *others


def few(make: Any, layer: Layer, positions: int) -> Any:
    return make(layer, positions=min(positions, 2000))


def test_kernels_that_fail_differ_or_take_longer_are_not_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    layer = Layer(CPU, torch.bfloat16, torch.float32, torch.float32, 16, 64, True, RELU)
    monkeypatch.setattr(selection, "example", partial(few, example))
    kernels = ModuleType("feedforward_triton")
    kernels.forward, kernels.backward = plain, plain_backward  # type: ignore[attr-defined]
    kernels.fits = lambda device, width: True  # type: ignore[attr-defined]
    times = [1.0, 2.0]
    testing = SimpleNamespace(do_bench=lambda run, return_mode: (run(), times.pop(0))[1])
    monkeypatch.setitem(sys.modules, "megabyte_mm.models.kernels.feedforward_triton", kernels)
    monkeypatch.setattr("megabyte_mm.models.kernels.feedforward_triton", kernels, raising=False)
    monkeypatch.setitem(sys.modules, "triton", SimpleNamespace(testing=testing))
    monkeypatch.setitem(sys.modules, "triton.testing", testing)
    monkeypatch.setattr(selection, "runs_triton", lambda device: True)
    settled = selection._settled.__wrapped__
    state = torch.get_rng_state()
    assert settled(layer._replace(options=RELU._replace(dropout=0.2)))
    times[:] = [1.0, 2.0]
    assert settled(layer)
    # Recomputed activations start from the state that was there before: masks must be the same again.
    assert torch.equal(torch.get_rng_state(), state)
    times[:] = [0.99, 1.0]
    assert not settled(layer)
    assert not [record for record in caplog.records if record.levelname == "WARNING"]
    kernels.backward = lambda *inputs: tuple(1.1 * each for each in plain_backward(*inputs))  # type: ignore[attr-defined]
    assert not settled(layer)
    reason = "a feed-forward layer of 16 x 64 does without its own kernels on cpu: gradient of x differs by 0.100"
    assert reason in caplog.text
    kernels.backward = plain_backward  # type: ignore[attr-defined]
    kernels.forward = partial(one_wrong_element, plain)  # type: ignore[attr-defined]
    assert not settled(layer)
    assert "an element of output or norm differs by" in caplog.text
    del kernels.forward
    assert not settled(layer)
    kernels.fits = lambda device, width: False  # type: ignore[attr-defined]
    assert not settled(layer)


@needs_triton
def test_kernels_compute_the_same() -> None:
    run_interpreted(__name__, "check_kernels")


def check_kernels() -> None:
    """Triton's interpreter runs kernels on the CPU; it has no products in bfloat16."""
    kernels: Any = importlib.import_module("megabyte_mm.models.kernels.feedforward_triton")
    types = (
        (torch.float32, torch.float32, 1e-5),
        (torch.float16, torch.float32, 2e-3),
        (torch.float16, torch.float16, 2e-3),
    )
    for (width, hidden, norm, activation, biased), (dtype, residual, most) in product(KERNEL_CASES, types):
        # Programs of 64 positions and of 128.
        kernels._shared_memory = {CPU: 0 if dtype == residual else kernels.AMPLE}.get
        options = FeedForwardOptions(norm, 1e-5, activation, dropout=0.0 if activation == "relu" else 0.3)
        layer = Layer(CPU, dtype, residual, residual, width, hidden, biased, options)
        x, branch, grad, weights = example(layer, positions=70)
        wide = Weights(*(None if weight is None else weight.double() for weight in weights))  # type: ignore[arg-type]
        kept = kept_by_dropout(tuple(x.shape), options.dropout, CPU)
        values = kernels.forward(x, branch, weights, kept, options)
        gradients = kernels.backward(grad, x, branch, *values[1:], weights, kept, options)
        x, branch, grad, normed, statistics = (each.double() for each in (x, branch, grad, *values[1:]))
        wanted = (
            *plain(x, branch, wide, kept, options),
            *plain_backward(grad, x, branch, normed, statistics, wide, kept, options),
        )
        for got, want in zip((*values, *gradients), wanted, strict=True):
            assert (got.double() - want).norm() <= most * want.norm()


STACK = StackConfig(dim=16, layers=2, heads=2)
BASE = MegabyteConfig(4, 24, STACK, STACK, init_std=0.2)
MODELS = {
    "paper": BASE,
    "modern": replace(BASE, block=BlockConfig("rms", "relu2", "rotary", bias=False, qk_norm=True)),
    "across patches": replace(BASE, cross_patch=3),
}


@pytest.mark.parametrize("budget", [2.0**31, 1.0], ids=["at once", "in chunks"])
@pytest.mark.parametrize("name", MODELS)
def test_a_model_computes_the_same_with_it(name: str, budget: float, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = MODELS[name].build().double()
    ids = torch.randint(257, (2, 24))
    calls: list[int] = []

    def noted(x: Tensor, *others: Any) -> Tensor:
        calls.append(x.shape[1])
        return fused_feedforward(x, *others)

    monkeypatch.setattr(layers_module, "fused_feedforward", noted)
    results = []
    for used in (False, True):
        monkeypatch.setattr(layers_module, "fuses", lambda *_, used=used: used)
        torch.manual_seed(1)
        results.append(nats_and_gradients(model, ids, budget))
    assert set(calls) == {4, 6}
    torch.testing.assert_close(*results, rtol=1e-6, atol=1e-6)
