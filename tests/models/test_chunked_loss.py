"""What is computed in chunks has the results and gradients of what is computed at once, in the memory of one chunk."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from megabyte_mm.models import Megabyte, MegabyteConfig, StackConfig, StepOptions
from megabyte_mm.models.megabyte.chunked_loss import Chunk, in_chunks

CHUNKS = [Chunk(slice(0, 2), slice(0, 4)), Chunk(slice(1, 4), slice(4, 8)), Chunk(slice(3, 5), slice(8, 10))]
STACK = StackConfig(dim=64, layers=2, heads=2)


def small(seed: int = 0, **options: float) -> Megabyte:
    torch.manual_seed(seed)
    return Megabyte(MegabyteConfig(8, 4096, STACK, STACK, init_std=0.1, **options))  # type: ignore[arg-type]


def gradients(model: Megabyte, ids: Tensor, budget: float, mixed: bool) -> dict[str, Tensor]:
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
        nats = model.nll(ids, options=StepOptions(budget))
    nats.mean().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def test_random_numbers_are_drawn_again_and_what_several_chunks_read_gets_all_their_gradients() -> None:
    read, weight = torch.randn(2, 5, 3, requires_grad=True), torch.randn(3, requires_grad=True)

    def compute(chunk: Chunk, part: Tensor | None) -> Tensor:
        assert part is not None
        sums = F.dropout((part * weight).sum(-1), 0.5).sum(1, keepdim=True)
        return sums.expand(-1, chunk.outputs.stop - chunk.outputs.start)

    slopes, found = torch.randn(2, 10), []
    for chunked in (True, False):
        torch.manual_seed(7)
        if chunked:
            results = in_chunks(compute, CHUNKS, read, lambda: [weight], slopes)
        else:
            results = torch.cat([compute(chunk, read[:, chunk.inputs]) for chunk in CHUNKS], dim=1)
        state = torch.get_rng_state()
        found.append((results, *torch.autograd.grad(results, (read, weight), slopes)))
        assert torch.equal(torch.get_rng_state(), state)  # the backward pass leaves them where they were
    torch.testing.assert_close(found[0], found[1])


def test_dropout_in_chunks_has_the_gradients_of_the_nats_that_it_gave() -> None:
    model, ids = small(dropout=0.3).double(), torch.randint(256, (1, 640))
    weight = model.local_symbols.weight

    def loss(moved: float) -> Tensor:
        torch.manual_seed(3)
        with torch.no_grad():
            weight[65] += moved
        return model.nll(ids, options=StepOptions(1.0)).double().mean()

    loss(0.0).backward()
    assert weight.grad is not None
    step = 1e-3  # nats are float32
    slope = (loss(step) - loss(-2 * step)) / (2 * step)
    torch.testing.assert_close(slope, weight.grad[65].sum(), rtol=0.02, atol=1e-4)


def test_many_chunks_lose_no_precision_in_bfloat16() -> None:
    """Gradients of chunks are added up in float32; in bfloat16 they were up to nine times as far off as at once."""
    model, ids = small(), torch.randint(256, (1, 4096))
    exact = gradients(model, ids, 2.0**40, mixed=False)
    error = {}
    for budget in (2.0**40, 1.0):
        found = gradients(model, ids, budget, mixed=True)
        error[budget] = {name: float((found[name] - exact[name]).norm()) for name in exact}
    assert [name for name in exact if error[1.0][name] > 1.2 * error[2.0**40][name] + 1e-7] == []


def test_a_weight_changed_before_the_backward_pass_is_told() -> None:
    model = small()
    nats = model.nll(torch.randint(256, (1, 640)), options=StepOptions(1.0))
    with torch.no_grad():
        model.local_symbols.weight += 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        nats.mean().backward()


RISE = """
import torch
from pathlib import Path
from megabyte_mm.models import Megabyte, MegabyteConfig, StackConfig, StepOptions
from megabyte_mm.training.trainer import best_precision, keep_freed_memory

keep_freed_memory()
bf16 = best_precision("cpu") == "bf16-mixed"  # elsewhere it is ten times slower
large, small = StackConfig(192, 2, 4), StackConfig(256, 2, 4)
model = Megabyte(MegabyteConfig(192, 192 * 256, large, small, cross_patch=48))

def resident(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(field)))

def peak(patches):
    Path("/proc/self/clear_refs").write_text("5")
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        nats = model.nll(torch.randint(256, (1, 192 * patches)), options=StepOptions(2.0**24))
    nats.mean().backward()
    return resident("VmHWM")

peak(2)
before = resident("VmRSS")
print((peak(32) - before) / 1024, (peak(128) - before) / 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the peak of resident memory since a moment")
def test_resident_memory_hardly_grows_with_the_sequence() -> None:
    """Over many chunks the heap must not come apart: four times the length once took twice the memory."""
    program = [sys.executable, "-c", RISE]
    done = subprocess.run(
        program, capture_output=True, text=True, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    short, long = map(float, done.stdout.split())
    assert long < 1.35 * short
