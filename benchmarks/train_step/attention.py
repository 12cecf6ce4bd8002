"""Part `attention`: explicit against fused causal attention with gradients, the basis of `CPU_EXPLICIT_UP_TO`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.harness.report import Table
from benchmarks.harness.timing import Conditions, calls_lasting, interleave, timed
from benchmarks.harness.workloads import SHIPPED, Workload, shipped, toy
from benchmarks.peers.base import both_stacks
from megabyte_mm.models.attention import _attend_explicitly

Attention = Callable[[Tensor, Tensor, Tensor], Tensor]

LENGTHS = (128, 256, 512, 1024, 2048)
"""Lengths around the constant, beyond those of the shipped configs."""
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
MIN_SECONDS = 0.1
"""A measurement takes at least so long."""


@dataclass(frozen=True)
class Shape:
    """Input of an attention layer: `rows` sequences of `length` positions, `heads` of `width` each."""

    name: str
    rows: int
    heads: int
    length: int
    width: int


def measure_attention(conditions: Conditions, tiny: bool) -> list[Table]:
    """One row for each shape and precision; "fused / explicit" above 1 means that explicit attention is faster."""
    torch.manual_seed(0)
    columns = ("shape", "rows", "heads", "length", "width", "precision")
    table = Table("Attention, forward and backward", (*columns, "explicit ms", "fused ms", "fused / explicit"))
    for shape in _toy_shapes() if tiny else _shapes():
        for precision, dtype in DTYPES.items():
            measure = {
                "explicit": _measure(_explicit, shape, dtype, conditions.device),
                "fused": _measure(_fused, shape, dtype, conditions.device),
            }
            times = interleave(measure, conditions.rounds)
            sizes = (shape.name, shape.rows, shape.heads, shape.length, shape.width, precision)
            milliseconds = (1e3 * times.median(name) for name in measure)
            table.rows.append((*sizes, *milliseconds, times.ratio("fused", to="explicit")))
    return [table]


def _explicit(q_BHTE: Tensor, k_BHTE: Tensor, v_BHTE: Tensor) -> Tensor:
    return _attend_explicitly(q_BHTE, k_BHTE, v_BHTE, dropout=0.0)


def _fused(q_BHTE: Tensor, k_BHTE: Tensor, v_BHTE: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q_BHTE, k_BHTE, v_BHTE, is_causal=True)


def _toy_shapes() -> Iterator[Shape]:
    yield from _levels(toy())


def _shapes() -> Iterator[Shape]:
    for name in SHIPPED:
        yield from _levels(shipped(name))
    for length in LENGTHS:
        yield Shape("longer", rows=2, heads=4, length=length, width=64)


def _levels(workload: Workload) -> Iterator[Shape]:
    """Attention at both levels of a workload."""
    patches = workload.window // workload.patch_size
    global_stack, local_stack = both_stacks(workload.config)
    for level, stack, rows, length in (
        ("global", global_stack, workload.batch, patches),
        ("local", local_stack, workload.batch * patches, workload.patch_size),
    ):
        yield Shape(f"{workload.name}, {level}", rows, stack.heads, length, stack.dim // stack.heads)


def _measure(attend: Attention, shape: Shape, dtype: torch.dtype, device: torch.device) -> Callable[[], float]:
    """Warm: returns the seconds of attention with its gradients on random input, under autocast as in training."""
    sizes = (shape.rows, shape.heads, shape.length, shape.width)
    q, k, v = (torch.randn(sizes, device=device, dtype=dtype, requires_grad=True) for _ in range(3))
    gradient = torch.randn(sizes, device=device, dtype=dtype)

    def run() -> object:
        # The explicit form creates its mask on the default device; naming a device costs time where none is needed.
        with (
            device if device.type == "cuda" else nullcontext(),
            torch.autocast(device.type, torch.bfloat16, enabled=dtype == torch.bfloat16),
        ):
            attended = attend(q, k, v)
        return torch.autograd.grad(attended, (q, k, v), gradient)

    calls = calls_lasting(MIN_SECONDS, lambda calls: timed(run, calls, device))
    return partial(timed, run, calls, device)
