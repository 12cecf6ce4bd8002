"""Explicit against fused causal attention, forward and backward: what `CPU_EXPLICIT_UP_TO` stands on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.harness.report import Table
from benchmarks.harness.timing import side_by_side
from benchmarks.harness.workloads import Workload
from benchmarks.peers.base import both_stacks
from megabyte_mm.models.attention import _attend_explicitly

LONGER = (128, 256, 512, 1024, 2048)
"""Lengths around the constant, beyond those of the shipped configs."""
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Shape:
    """What one attention layer sees: `rows` sequences of `length` positions, `heads` of `width` each."""

    name: str
    rows: int
    heads: int
    length: int
    width: int


def time_attention(workloads: list[Workload], device: torch.device, seconds: float, toy: bool) -> list[Table]:
    """One row for each shape and precision; "fused / explicit" above 1 speaks for explicit attention."""
    columns = ("shape", "rows", "heads", "length", "width", "precision")
    table = Table("Attention, forward and backward", (*columns, "explicit ms", "fused ms", "fused / explicit"))
    shapes = [*_of_configs(workloads), *([] if toy else _longer())]
    for shape in shapes:
        for precision, dtype in PRECISIONS.items():
            forms = {"explicit": _explicit, "fused": _fused}
            candidates = {name: _call(attend, shape, dtype, device) for name, attend in forms.items()}
            times = side_by_side(candidates, seconds / len(shapes) / len(PRECISIONS), device)
            sizes = (shape.name, shape.rows, shape.heads, shape.length, shape.width, precision)
            milliseconds = (1e3 * times.median(name) for name in candidates)
            table.rows.append((*sizes, *milliseconds, times.ratio("fused", to="explicit")))
    return [table]


def _explicit(q_BHTE: Tensor, k_BHTE: Tensor, v_BHTE: Tensor) -> Tensor:
    return _attend_explicitly(q_BHTE, k_BHTE, v_BHTE, dropout=0.0)


def _fused(q_BHTE: Tensor, k_BHTE: Tensor, v_BHTE: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q_BHTE, k_BHTE, v_BHTE, is_causal=True)


def _of_configs(workloads: list[Workload]) -> Iterator[Shape]:
    for workload in workloads:
        patches = workload.window // workload.patch_size
        global_stack, local_stack = both_stacks(workload.config)
        for level, stack, rows, length in (
            ("global", global_stack, workload.batch, patches),
            ("local", local_stack, workload.batch * patches, workload.patch_size),
        ):
            yield Shape(f"{workload.name}, {level}", rows, stack.heads, length, stack.dim // stack.heads)


def _longer() -> Iterator[Shape]:
    for length in LONGER:
        yield Shape("longer", rows=2, heads=4, length=length, width=64)


def _call(
    attend: Callable[[Tensor, Tensor, Tensor], Tensor], shape: Shape, dtype: torch.dtype, device: torch.device
) -> Callable[[], object]:
    """Attention and its gradients on random input, under autocast where training would be."""
    sizes = (shape.rows, shape.heads, shape.length, shape.width)
    q, k, v = (torch.randn(sizes, device=device, dtype=dtype, requires_grad=True) for _ in range(3))
    gradient = torch.randn(sizes, device=device, dtype=dtype)

    def run() -> object:
        # The explicit form makes its mask on the default device; naming one costs time where there is no need to.
        with (
            device if device.type == "cuda" else nullcontext(),
            torch.autocast(device.type, torch.bfloat16, enabled=dtype == torch.bfloat16),
        ):
            mixed = attend(q, k, v)
        return torch.autograd.grad(mixed, (q, k, v), gradient)

    return run
