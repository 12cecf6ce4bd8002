"""Attention of many short sequences as one operation: values and gradients are those of separate operations."""

from __future__ import annotations

import importlib
import math
import sys
from dataclasses import replace
from itertools import product
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from megabyte_mm.models import BlockConfig, MegabyteConfig, StackConfig
from megabyte_mm.models import attention as attention_module
from megabyte_mm.models.kernels import packed_attention as packed_module
from megabyte_mm.models.kernels.packed_attention import (
    Kind,
    PackedOptions,
    packed_attention,
    plain,
    plain_backward,
)
from megabyte_mm.models.kernels.support import kept_by_dropout
from tests.models.gradients import nats_and_gradients
from tests.triton_interpreter import needs_triton, run_interpreted

SHAPES = [(5, 8, 2, 16), (1, 8, 1, 8), (3, 12, 2, 24), (9, 16, 4, 4), (33, 2, 2, 8)]
"""Sequences, positions, heads and the width of a head."""
CASES = [
    *((shape, 1, 0, False) for shape in SHAPES[2:]),
    ((9, 8, 1, 16), 1, 0, True),
    ((18, 8, 1, 20), 9, 8, True),
    ((12, 12, 1, 8), 4, 5, True),
    ((4, 3, 2, 4), 2, 1, False),
]
"""Shapes with the sequences of a row, the positions that are seen of the sequence before, and whether heads rotate."""


def by_definition(qkv: Tensor, options: PackedOptions) -> Tensor:
    """One sequence, one head and one position after the other."""
    (sequences, length, width), heads = qkv.shape, options.heads
    q, k, v = qkv.view(sequences, length, 3, heads, -1).unbind(2)
    out = []
    for n in range(sequences):
        for t in range(length):
            for head in range(heads):
                scores = k[n, : t + 1, head] @ q[n, t, head] / math.sqrt(width // 3 // heads)
                out.append(scores.softmax(0) @ v[n, : t + 1, head])
    return torch.cat(out).view(sequences, length, -1)


def inputs(shape: tuple[int, int, int, int], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    sequences, length, heads, width = shape
    generator = torch.Generator().manual_seed(0)
    qkv, grad = (torch.randn(sequences, length, n * heads * width, generator=generator) for n in (3, 1))
    return qkv.to(dtype), grad.to(dtype)


@pytest.mark.parametrize("shape", SHAPES[:3])
def test_values_and_gradients_are_those_of_the_definition(shape: tuple[int, int, int, int]) -> None:
    qkv, grad = inputs(shape, torch.float64)
    results = []
    for attend in (packed_attention, by_definition):
        leaf = qkv.clone().requires_grad_()
        out = attend(leaf, PackedOptions(shape[2]))
        results.append((out.detach(), *torch.autograd.grad(out, leaf, grad)))
    torch.testing.assert_close(*results)


def test_dropped_weights_are_those_of_the_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a sequence of 3 positions and the last 2 of the one before, of every two sequences."""
    torch.manual_seed(0)
    sequences, length, previous, heads, width = 4, 3, 2, 2, 4
    qkv, grad = (torch.randn(sequences, length, n * heads * width, dtype=torch.float64) for n in (3, 1))
    kept = torch.rand(sequences, length, heads, previous + length) < 0.5
    monkeypatch.setattr(packed_module, "kept_by_dropout", lambda *_: kept)

    def one_by_one(qkv: Tensor, options: PackedOptions) -> Tensor:
        q, k, v = qkv.view(sequences, length, 3, heads, width).unbind(2)
        out = []
        for n in range(sequences):
            first = [] if n % options.patches == 0 else [n - 1]
            for t, head in product(range(length), range(heads)):
                keys = torch.cat([*(k[m, -previous:, head] for m in first), k[n, : t + 1, head]])
                values = torch.cat([*(v[m, -previous:, head] for m in first), v[n, : t + 1, head]])
                places = [*range(previous if first else 0), *range(previous, previous + t + 1)]
                weights = (keys @ q[n, t, head] / math.sqrt(width)).softmax(0) * kept[n, t, head, places] * 2
                out.append(weights @ values)
        return torch.cat(out).view(sequences, length, -1)

    results = []
    for attend in (packed_attention, one_by_one):
        leaf = qkv.clone().requires_grad_()
        out = attend(leaf, PackedOptions(heads, 2, previous, dropout=0.5))
        results.append((out.detach(), *torch.autograd.grad(out, leaf, grad)))
    torch.testing.assert_close(*results)


def test_it_is_an_operation_that_torch_can_trace() -> None:
    qkv, _ = inputs(SHAPES[0], torch.float32)
    sequences, length, heads, _ = SHAPES[0]
    kept = torch.rand(sequences, length, heads, length) < 0.5
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    arguments = (qkv.requires_grad_(), kept, *PackedOptions(heads, dropout=0.5))
    torch.library.opcheck(packed_module._packed_attention, arguments, test_utils=checks)


def test_kernels_that_fail_or_differ_are_not_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    kernels = ModuleType("packed_attention_triton")
    kernels.forward, kernels.backward = plain, plain_backward  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "megabyte_mm.models.kernels.packed_attention_triton", kernels)
    monkeypatch.setattr("megabyte_mm.models.kernels.packed_attention_triton", kernels, raising=False)
    monkeypatch.setattr(packed_module, "runs_triton", lambda device: True)
    settled = packed_module._settled.__wrapped__
    kinds = [Kind(torch.device("cpu"), torch.bfloat16, 8, 16, *others) for others in ((0, False, 0.0), (8, True, 0.2))]
    assert all(settled(kind) for kind in kinds)
    kernels.backward = lambda *inputs: plain_backward(*inputs) * 1.2  # type: ignore[attr-defined]
    assert not any(settled(kind) for kind in kinds)
    reason = "attention inside patches of 8 positions does without its own kernels on cpu: Tensor-likes are not close!"
    assert reason in caplog.text
    del kernels.forward
    assert not any(settled(kind) for kind in kinds)


@needs_triton
def test_kernels_compute_the_same() -> None:
    run_interpreted(__name__, "check_kernels")


def check_kernels() -> None:
    """Triton's interpreter runs kernels on the CPU; it has no products in bfloat16."""
    kernels: Any = importlib.import_module("megabyte_mm.models.kernels.packed_attention_triton")
    precisions = ((torch.float32, 1e-5), (torch.float16, 5e-3))
    for case, dropout, (dtype, tolerance) in product(CASES, (0.0, 0.3), precisions):
        shape, patches, previous, rotary = case
        sequences, length, heads, _ = shape
        qkv, grad = inputs(shape, dtype)
        options = PackedOptions(heads, patches, previous, rotary, dropout)
        kept = kept_by_dropout((sequences, length, heads, previous + length), dropout, qkv.device)
        wanted = plain(qkv.double(), kept, options), plain_backward(grad.double(), qkv.double(), kept, options)
        got = kernels.forward(qkv, kept, options), kernels.backward(grad, qkv, kept, options)
        torch.testing.assert_close([x.double() for x in got], list(wanted), rtol=tolerance, atol=tolerance)


STACK = StackConfig(dim=16, layers=2, heads=2)
BASE = MegabyteConfig(4, 24, STACK, STACK, init_std=0.2)
MODERN = BlockConfig("rms", "swiglu", "rotary", bias=False, qk_norm=True)
MODELS = {
    "paper": BASE,
    "rotary": replace(BASE, block=BlockConfig(positions="rotary")),
    "modern": replace(BASE, block=MODERN),
    "across patches": replace(BASE, cross_patch=3),
    "across patches, modern": replace(BASE, cross_patch=4, local_start="byte", block=MODERN),
}


@pytest.mark.parametrize("budget", [2.0**31, 1.0], ids=["at once", "in chunks"])
@pytest.mark.parametrize("name", MODELS)
def test_a_model_computes_the_same_with_it(name: str, budget: float, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = MODELS[name].build().double()
    ids = torch.randint(257, (2, 24))
    calls: list[int] = []

    def noted(*arguments: Any) -> Tensor:
        calls.append(len(arguments[0]))
        return packed_attention(*arguments)

    results = []
    for short in (0, 4):  # the second time for the local model alone, whose sequences are patches of 4
        monkeypatch.setattr(attention_module, "packs", lambda projected, _, short=short: projected.shape[1] == short)
        monkeypatch.setattr(attention_module, "packed_attention", noted)
        results.append(nats_and_gradients(model, ids, budget))
    assert sum(calls) >= 24
    torch.testing.assert_close(*results, rtol=1e-6, atol=1e-6)
