"""On a GPU: fused kernels for any number of patches, results as on a CPU, bounded memory, compiled code."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from megabyte_mm.generation.engine import row_seeds, stream_symbols
from megabyte_mm.generation.patches import CAPTURES, Replay, captured
from megabyte_mm.generation.sampling import SamplingParams
from megabyte_mm.models import (
    BlockConfig,
    CompileMode,
    Execution,
    Megabyte,
    MegabyteConfig,
    PartConfig,
    StackConfig,
    StepOptions,
)
from megabyte_mm.models.attention import FUSED_ROWS, attend
from megabyte_mm.models.decoding.execution import Precision
from megabyte_mm.models.decoding.fused import FusedStackSteps
from megabyte_mm.models.decoding.steps import stack_steps
from megabyte_mm.models.kernels import feedforward_selection
from megabyte_mm.models.kernels.feedforward import FeedForwardOptions
from megabyte_mm.models.kernels.feedforward_selection import Layer, compare_kernels
from megabyte_mm.models.kernels.packed_attention import PackedOptions, packed_attention, packs
from megabyte_mm.models.layers import Stack
from tests.models.layouts import ONE

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")]

COMPILER_WARNS = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")  # about itself
FUSED = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.CUDNN_ATTENTION]
STACK = StackConfig(dim=64, layers=2, heads=2)
CONFIG = MegabyteConfig(patch_size=8, max_len=2048, global_stack=STACK, local_stack=STACK, init_std=0.1)
VARIANTS: dict[str, dict[str, Any]] = {
    "paper": {},
    "across patches": {"cross_patch": 4, "local_start": "byte"},
    "neighbourhood": {"neighbourhood": ONE, "block": BlockConfig(positions="rotary")},
    "parts": {"parts": (PartConfig(8, 32), PartConfig(16, 2016)), "orders": ((0, 1),), "conditions": 1},
}


def make(seed: int = 0) -> Megabyte:
    torch.manual_seed(seed)
    return Megabyte(CONFIG)


def nats_and_gradients(
    model: Megabyte, ids: torch.Tensor, mixed: bool = False, budget: float = 2.0**31
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    model.zero_grad()
    with torch.autocast(ids.device.type, torch.bfloat16, enabled=mixed):
        nats = model.nll(ids, options=StepOptions(budget))
    nats.mean().backward()
    found = [p.grad for p in model.parameters() if p.grad is not None]
    return nats.detach().float().cpu(), [gradient.detach().cpu() for gradient in found]


@pytest.mark.parametrize("seen", [32, 40], ids=["inside patches", "across patches"])
def test_hundreds_of_thousands_of_patches_are_attended_by_fused_kernels(seen: int) -> None:
    patches = 3 * FUSED_ROWS["cuda"] + 5
    shapes = ((patches, 2, size, 64) for size in (32, seen, seen))
    q, k, v = (torch.randn(shape, device="cuda", dtype=torch.bfloat16, requires_grad=True) for shape in shapes)
    with sdpa_kernel(FUSED):  # raises where none of them would do
        mixed = attend(q, k, v)
        mixed.sum().backward()
    last_q, last_k, last_v = (x[-7:].detach().float().cpu() for x in (q, k, v))
    wanted = attend(last_q, last_k, last_v)
    torch.testing.assert_close(mixed[-7:].detach().float().cpu(), wanted, rtol=0.02, atol=0.02)


@pytest.mark.parametrize(
    ("shape", "patches", "previous", "rotary"),
    [
        ((4099, 8, 4, 64), 1, 0, False),
        ((1, 8, 2, 64), 1, 0, False),
        ((70, 12, 2, 24), 1, 0, True),
        ((2050, 8, 4, 64), 41, 8, True),
        ((60, 16, 2, 32), 20, 5, True),
    ],
)
def test_packed_attention_is_that_of_its_definition(
    shape: tuple[int, int, int, int], patches: int, previous: int, rotary: bool
) -> None:
    sequences, length, heads, width = shape
    qkv, grad = (
        torch.randn(sequences, length, parts * heads * width, device="cuda", dtype=torch.bfloat16) for parts in (3, 1)
    )
    options = PackedOptions(heads, patches, previous, rotary)
    assert packs(qkv, options)
    assert packs(qkv, options._replace(dropout=0.1))  # compared with the definition too
    results = []
    for x in (qkv, qkv.double().cpu()):
        leaf = x.requires_grad_()
        out = packed_attention(leaf, options)
        results.append([out.detach(), *torch.autograd.grad(out, leaf, grad.to(out))])
    torch.testing.assert_close([x.double().cpu() for x in results[0]], results[1], rtol=0.03, atol=0.03)


@pytest.mark.parametrize("activation", ["relu", "gelu", "relu2"])
@pytest.mark.parametrize("width", [64, 144, 256, 512])
def test_fused_feedforward_is_that_of_its_definition(width: int, activation: str) -> None:
    from megabyte_mm.models.kernels.feedforward_triton import fits

    for dtype, residual, norm in ((torch.bfloat16, torch.float32, "layer"), (torch.float16, torch.float16, "rms")):
        options = FeedForwardOptions(norm, 1e-5, activation, dropout=0.0 if norm == "layer" else 0.1)
        layer = Layer(torch.device("cuda"), dtype, residual, residual, width, 4 * width, norm == "layer", options)
        if fits(layer.device, width):
            compare_kernels(layer)


@COMPILER_WARNS
@pytest.mark.parametrize("mode", [None, "default", "reduce-overhead"])
def test_training_with_fused_feedforward_is_that_without(
    mode: CompileMode | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from megabyte_mm.models.kernels import feedforward_triton

    positions: set[int] = set()  # of the global model and of the local one
    forward = feedforward_triton.forward

    def noted(x: torch.Tensor, *others: Any) -> Any:
        positions.add(len(x))
        return forward(x, *others)

    monkeypatch.setattr(feedforward_triton, "forward", noted)
    ids = torch.randint(257, (16, 2048), device="cuda")
    monkeypatch.setattr(feedforward_selection, "MIN_POSITIONS", 4096)
    results = []
    for suits in (False, True):
        torch._dynamo.reset()
        monkeypatch.setattr(feedforward_selection, "_settled", lambda layer, suits=suits: suits)
        model = make().cuda()
        if mode is not None:
            model.compile_blocks(mode)
        for _ in range(3):  # reduce-overhead records in the second, and replays in the third
            torch.compiler.cudagraph_mark_step_begin()
            nats, gradients = nats_and_gradients(model, ids, mixed=True)
        assert positions == ({16 * 256, 16 * 2048} if suits else set())
        results.append((nats, [gradient / gradient.norm().clamp(min=1e-9) for gradient in gradients]))
    torch.testing.assert_close(*results, rtol=0.05, atol=0.05)


def test_nats_and_gradients_are_those_of_a_cpu() -> None:
    ids = torch.randint(257, (2, 999))
    wanted = nats_and_gradients(make(), ids)
    got = nats_and_gradients(make().cuda(), ids.cuda())
    torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-4)
    rounded, _ = nats_and_gradients(make().cuda(), ids.cuda(), mixed=True)
    torch.testing.assert_close(rounded, wanted[0], rtol=0.05, atol=0.1)


def test_activations_keep_to_their_budget() -> None:
    model, ids = make().cuda(), torch.randint(256, (32, 2048), device="cuda")
    peaks = []
    for budget in (2.0**40, 2.0**24):
        nats_and_gradients(model, ids, budget=budget)
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        nats_and_gradients(model, ids, budget=budget)
        peaks.append(torch.cuda.max_memory_allocated() - before)
    assert peaks[1] < peaks[0] / 3


@contextmanager
def no_waits() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that this mode is a prototype
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("variant", VARIANTS)
def test_training_steps_and_decoder_steps_wait_for_nothing(variant: str) -> None:
    torch.manual_seed(0)
    model = replace(CONFIG, **VARIANTS[variant]).build().cuda()
    ids, conditions = torch.randint(256, (2, 64), device="cuda"), torch.zeros(2, dtype=torch.long)
    model.nll(ids, conditions).mean().backward()
    decoder = model.eval().decoder(2)
    decoder.prefill(ids[:, :16])
    for t in range(16, 32):  # tables of rotations at the first end of a patch
        decoder.step(ids[:, t])
    with no_waits():
        model.train().nll(ids, conditions).mean().backward()
        for t in range(32, 56):
            logits = decoder.step(ids[:, t])
    expected = model.eval()(ids, conditions)[:, 56]
    torch.testing.assert_close(logits, expected, rtol=1e-3, atol=1e-4)


@COMPILER_WARNS
@pytest.mark.parametrize("budget", [2.0**31, 1.0], ids=["at once", "in chunks"])
@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])  # the others only try more kernels, for minutes
def test_compiled_blocks_give_the_plain_results_step_after_step(mode: CompileMode, budget: float) -> None:
    model, compiled = make().cuda(), make().cuda()
    compiled.compile_blocks(mode)
    for batch in (4, 4, 3, 4):
        ids = torch.randint(256, (batch, 2048), device="cuda")
        torch.compiler.cudagraph_mark_step_begin()
        got, wanted = (nats_and_gradients(one, ids, budget=budget) for one in (compiled, model))
        torch.testing.assert_close(got[0], wanted[0], rtol=1e-3, atol=1e-4)
        # Rounding may move the input of a ReLU across 0, and so one position's share of a gradient.
        for gradient, plain in zip(got[1], wanted[1], strict=True):
            assert (gradient - plain).norm() <= 3e-3 * plain.norm()


@COMPILER_WARNS
@pytest.mark.parametrize(
    ("name", "execution"),
    [
        *((name, Execution()) for name in (*VARIANTS, "convolutions")),
        ("across patches", Execution(precision="bfloat16")),
        ("paper", Execution(precision="int8")),
        ("paper", Execution("compile")),
    ],
    ids=str,
)
def test_captured_patches_have_the_symbols_of_steps(
    name: str, execution: Execution, monkeypatch: pytest.MonkeyPatch
) -> None:
    graphs = []

    def capture(run: Callable[[], None], device: torch.device) -> Replay:
        graphs.append(captured(run, device))
        return graphs[-1]

    monkeypatch.setitem(CAPTURES, "cuda", capture)
    torch.manual_seed(0)
    model = replace(CONFIG, **VARIANTS.get(name, {"conv_encoder": True})).build().eval().cuda()
    prefix, condition = torch.randint(256, (3, 40), device="cuda"), torch.zeros(3, dtype=torch.long, device="cuda")
    sampling, seeds = SamplingParams(0.9, top_p=0.95), row_seeds(0, 3)
    found = [
        torch.stack(list(islice(stream_symbols(model, prefix, 120, sampling, seeds, condition, None, how), 112)))
        for how in (execution, replace(execution, backend="eager"))
    ]
    assert graphs
    # Other code and precisions round differently, and a row goes other ways behind the first symbol that differs.
    count, least = (112, 1.0) if execution == Execution() else (8, 0.8)
    assert (found[0][:count] == found[1][:count]).float().mean() >= least


@pytest.mark.parametrize("precision", [None, "bfloat16", "int8"])
@pytest.mark.parametrize("block", [BlockConfig(), BlockConfig("rms", "swiglu", "rotary", bias=False, qk_norm=True)])
@torch.no_grad()
def test_fused_steps_give_each_row_the_same_numbers_alone_and_among_others(
    block: BlockConfig, precision: Precision | None
) -> None:
    torch.manual_seed(0)
    stack, execution = Stack(STACK, block).cuda(), Execution(precision=precision)
    x_3BD, results = torch.randn(3, 70, 64, device="cuda"), []
    for rows in (70, 1):
        run = stack_steps(stack, stack.caches(rows, 100, execution.dtype(stack.norm.weight)), execution)
        assert isinstance(run, FusedStackSteps)
        start_B = torch.zeros(rows, dtype=torch.long, device="cuda")
        results.append([run(x_BD[:rows], start_B, start_B + step, step + 1)[0] for step, x_BD in enumerate(x_3BD)])
    assert torch.equal(torch.stack(results[0]), torch.stack(results[1]))
