"""Steps of a Transformer stack: one position of each row, with rows of different lengths, in torch's operations.

A cache holds each position in a slot. Legend: B rows, D model width, H heads, E head width, e = E / 2, K inputs, N
outputs, R rows of a product, of which the first B count, S visible slots, C capacity, V outputs of the head.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial

import torch
from torch import Tensor
from torch.nn import functional as F

from megabyte_mm.models.config import BlockConfig, StackConfig
from megabyte_mm.models.decoding.caches import LayerCache
from megabyte_mm.models.decoding.execution import Execution, stored_weight
from megabyte_mm.models.decoding.fused import FusedProjection, FusedStackSteps, runs_kernels
from megabyte_mm.models.decoding.native import NativeError, NativeProjection, NativeStackSteps, load
from megabyte_mm.models.kernels.support import agree
from megabyte_mm.models.layers import COMPILED_VARIANTS, Block, Stack
from megabyte_mm.models.rotary import apply_rotary

SMALLEST_VIEW = 256
"""Compiled and captured steps look at so many slots, or twice as many, and so on."""
ROUNDING = 5e-3
"""Share of the largest number by which kernels may differ: ten times what TF32 rounds to in a product of torch."""

StepFunction = Callable[[Tensor, Tensor, Tensor, int], Tensor]
"""Inputs (B, D), the first visible slot of each row (B,) int64, its present slot (B,) int64, and the number of slots up
to the last present one -> (B, D), or with a head (B, V)."""

AttentionMask = Tensor | list[tuple[int, int]]
"""The visible slots: (B, S) bool, or the first and the last of each row."""


def native_reason(like: Tensor) -> str | None:
    """The reason that native steps cannot run for such weights; None if they can."""
    if like.device.type != "cpu" or like.dtype != torch.float32:
        return f"native steps are for float32 models on a CPU, this one is {like.dtype} on {like.device.type}"
    try:
        load()
    except NativeError as error:
        return str(error)
    return None


def is_native(execution: Execution, like: Tensor) -> bool:
    """True if steps run natively. Raises ValueError if the execution requires it and they cannot."""
    if execution.backend not in ("auto", "native"):
        return False
    reason = native_reason(like)
    if reason and execution.backend == "native":
        raise ValueError(f"backend native: {reason}")
    return reason is None


def _is_fused(execution: Execution, like: Tensor) -> bool:
    """True for kernels of Triton, which the backend compile does not know."""
    return execution.backend == "auto" and runs_kernels(like)


@dataclass(frozen=True)
class _Shape:
    """What decides which kernels the steps of a stack are compiled to."""

    config: StackConfig
    block: BlockConfig
    previous: int
    capacity: int
    outputs: int | None
    """Of a head."""
    execution: Execution
    dtype: torch.dtype
    """Of caches."""


def _fused_steps_agree(
    stack: Stack, caches: Sequence[LayerCache], execution: Execution, head_VD: Tensor | None
) -> bool:
    """True if fused steps of such a stack are those of torch. They need heads of even width."""
    if stack.config.dim // stack.config.heads % 2:
        return False
    one_layer = replace(stack.config, layers=1)
    capacity, outputs = min(caches[0].capacity, 2 * SMALLEST_VIEW), None if head_VD is None else len(head_VD)
    dtype = caches[0].keys.dtype
    shape = _Shape(one_layer, stack.block, stack.previous, capacity, outputs, execution, dtype)
    return _shape_agrees(shape, stack.norm.weight.device)


@cache
def _shape_agrees(shape: _Shape, device: torch.device) -> bool:
    """Compare fused steps with torch's operations, once in a process."""
    return agree(partial(_compare_steps, shape, device), "generation", device)


@torch.no_grad()
def _compare_steps(shape: _Shape, device: torch.device) -> None:
    """Raise AssertionError where steps of a layer of random weights differ by more than rounding."""
    with torch.device("meta"):
        stack = Stack(shape.config, shape.block, previous=shape.previous)
    stack = stack.to_empty(device=device).eval()
    generator = torch.Generator().manual_seed(0)

    def random(*size: int, spread: float = 1.0) -> Tensor:
        return spread * torch.randn(size, generator=generator).to(device)

    for weight in stack.parameters():
        weight.copy_(random(*weight.shape, spread=2 * shape.config.dim**-0.5))
    head_VD = None if shape.outputs is None else random(shape.outputs, shape.config.dim)
    rows, last = 9, shape.capacity - 1
    caches = stack.caches(rows, shape.capacity, shape.dtype)
    for cached_BHCE in (caches[0].keys, caches[0].values):
        cached_BHCE.copy_(random(*cached_BHCE.shape))
    slot_B = torch.tensor([0, last // 3, last], device=device).repeat(rows // 3)
    start_B, x_BD = slot_B // 5, random(rows, shape.config.dim)
    # In float32, so that only the rounding of queries to the dtype of caches is left to differ.
    exact = replace(shape.execution, exact=True)
    with torch.autocast(device.type, enabled=False):
        fused_BX = FusedStackSteps(stack, caches, exact, head_VD)(x_BD, start_B, slot_B, shape.capacity)
        plain = StackSteps(stack, caches, replace(exact, backend="eager"), head_VD)
        plain_BX = plain(x_BD, start_B, slot_B, shape.capacity)
    _check_close(fused_BX, plain_BX, ROUNDING if shape.dtype == torch.float32 else 0.03)


@cache
def _projection_agrees(inputs: int, outputs: int, bias: bool, execution: Execution, device: torch.device) -> bool:
    compare = partial(_compare_projections, inputs, outputs, bias, execution, device)
    return agree(compare, "generation", device)


@torch.no_grad()
def _compare_projections(inputs: int, outputs: int, bias: bool, execution: Execution, device: torch.device) -> None:
    generator = torch.Generator().manual_seed(0)
    weight_NK, x_RK = (torch.randn(size, inputs, generator=generator).to(device) for size in (outputs, 9))
    exact, bias_N = replace(execution, exact=True), weight_NK[:, 0].contiguous() if bias else None
    with torch.autocast(device.type, enabled=False):
        fused_RN = FusedProjection(weight_NK, bias_N, exact)(x_RK)
        plain_RN = Projection(weight_NK, bias_N, exact)(x_RK)
    _check_close(fused_RN, plain_RN, ROUNDING)


def _check_close(got: Tensor, wanted: Tensor, share: float) -> None:
    """Raise AssertionError where two tensors differ by more than this share of the largest number."""
    torch.testing.assert_close(got, wanted, rtol=0.0, atol=share * float(wanted.abs().max()))


def reads_patches(device: torch.device, execution: Execution) -> bool:
    """True where whole patches are captured in place of steps."""
    return device.type == "cuda" and execution.backend != "eager"


def stack_steps(
    stack: Stack,
    caches: Sequence[LayerCache],
    execution: Execution,
    head_VD: Tensor | None = None,
    captured: bool = False,
) -> StepFunction:
    """Steps of a stack that read and fill these caches.

    head: a last linear layer, (V, D). captured: whole patches of them are captured.
    """
    if is_native(execution, stack.norm.weight):
        return NativeStackSteps(stack, caches, execution.precision, head_VD)
    if _is_fused(execution, stack.norm.weight) and _fused_steps_agree(stack, caches, execution, head_VD):
        return FusedStackSteps(stack, caches, execution, head_VD)
    return StackSteps(stack, caches, execution, head_VD, captured)


def projection(weight_NK: Tensor, bias_N: Tensor | None, execution: Execution) -> Callable[[Tensor], Tensor]:
    """A linear layer, (B, K) -> (B, N), in which the numbers of a row do not depend on the other rows."""
    if is_native(execution, weight_NK):
        return NativeProjection(weight_NK, bias_N, execution.precision)
    if _is_fused(execution, weight_NK) and _projection_agrees(
        weight_NK.shape[1], len(weight_NK), bias_N is not None, execution, weight_NK.device
    ):
        return FusedProjection(weight_NK, bias_N, execution)
    return Projection(weight_NK, bias_N, execution)


def viewed_slots(num_slots: int, capacity: int) -> int:
    """So many slots of a cache, or more: a few numbers over all, each of which is compiled or captured once."""
    view = SMALLEST_VIEW
    while view < num_slots:
        view *= 2
    return min(view, capacity)


@cache
def rows_per_product(device: str, inputs: int, outputs: int) -> tuple[int, int | None]:
    """Return the fewest and the most rows of a product, between which a row's results do not depend on other rows.

    Libraries choose their kernels, and with them the order of their sums, by the number of rows. On most CPUs all
    kernels for 4 and more rows agree. MKL on AVX-512 has others below 16 rows: there, as on a GPU, every product needs
    the same number of rows.
    """
    if device != "cpu":
        return (64, 64) if device == "cuda" else (1, None)
    generator = torch.Generator().manual_seed(0)
    x_BK, weight_NK = (torch.randn(rows, inputs, generator=generator) for rows in (64, outputs))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # on several, sums depend on the number of threads too
    expected_BN = F.linear(x_BK, weight_NK)
    agree = all(torch.equal(F.linear(x_BK[:rows], weight_NK), expected_BN[:rows]) for rows in (4, 5, 8, 12, 16, 24, 48))
    torch.set_num_threads(threads)
    return (4, None) if agree else (8, 8)


class Projection:
    """A linear layer in torch, in which the numbers of a row do not depend on the other rows."""

    def __init__(self, weight_NK: Tensor, bias_N: Tensor | None, execution: Execution) -> None:
        self._dtype = execution.dtype(weight_NK)
        self._weight_NK, self._scale_N = stored_weight(weight_NK, execution.precision)
        self._bias_N = None if bias_N is None else bias_N.detach()
        if weight_NK.device.type == "cuda":  # where no product reads int8: widened once
            self._weight_NK = self._weight_NK.to(self._dtype)
        self.min_rows, self._max_rows = rows_per_product(weight_NK.device.type, weight_NK.shape[1], len(weight_NK))

    def __call__(self, x_BK: Tensor) -> Tensor:
        padded_BK = _filled_up(x_BK, self.min_rows)
        if self._max_rows is None or len(padded_BK) <= self._max_rows:
            return self._product(padded_BK)[: len(x_BK)]
        return torch.cat([self(rows_RK) for rows_RK in torch.split(x_BK, self._max_rows)])

    def _product(self, x_BK: Tensor) -> Tensor:
        if self._weight_NK.dtype == x_BK.dtype and self._scale_N is None:
            return F.linear(x_BK, self._weight_NK, self._bias_N)
        # Widened where it is read; compiled, that happens inside the product.
        y_BN = F.linear(x_BK.to(self._dtype), self._weight_NK.to(self._dtype)).to(x_BK.dtype)
        y_BN = y_BN if self._scale_N is None else y_BN * self._scale_N
        return y_BN if self._bias_N is None else y_BN + self._bias_N


def _filled_up(x_BK: Tensor, rows: int) -> Tensor:
    """The rows with zeros behind them, up to so many."""
    missing = rows - len(x_BK)
    return F.pad(x_BK, (0, 0, 0, missing)) if missing > 0 else x_BK


class StackSteps:
    """Steps in torch, on any device, eager or compiled."""

    def __init__(
        self,
        stack: Stack,
        caches: Sequence[LayerCache],
        execution: Execution,
        head_VD: Tensor | None = None,
        captured: bool = False,
    ) -> None:
        self._blocks = [
            _BlockSteps(block, cache, execution)  # type: ignore[arg-type]
            for block, cache in zip(stack.blocks, caches, strict=True)
        ]
        self._min_rows = max(block.min_rows for block in self._blocks)
        self._norm = stack.norm
        self._head = None if head_VD is None else Projection(head_VD, None, replace(execution, exact=True))
        self._capacity = caches[0].capacity
        # Not kept as an attribute where it is not compiled: caches would only be freed by the collector of cycles.
        self._run: Callable[..., Tensor] | None = None
        self._compiled = execution.backend == "compile"
        device = stack.norm.weight.device.type
        self._attend_per_row = device == "cpu" and not self._compiled
        """True to attend row by row: torch's CPU kernel sums in an order that depends on the number of masked keys."""
        if self._compiled:
            # Variants are counted over all stacks: their views of the cache, and smaller last batches.
            limit = torch._dynamo.config.recompile_limit
            torch._dynamo.config.recompile_limit = max(limit, COMPILED_VARIANTS)
            # Where whole patches are captured, steps must not be graphs of their own.
            own_graphs = device == "cuda" and not captured
            # A CUDA graph may write only to memory that never moves.
            for cache in caches:
                torch._dynamo.mark_static_address(cache.keys)
                torch._dynamo.mark_static_address(cache.values)
            self._run = torch.compile(self._step, dynamic=False, mode="reduce-overhead" if own_graphs else None)

    def __call__(self, x_BD: Tensor, start_B: Tensor, slot_B: Tensor, num_slots: int) -> Tensor:
        if self._run is None:
            return self._step(x_BD, start_B, slot_B, num_slots)
        # A CUDA graph overwrites its result in the next call.
        return self._run(x_BD, start_B, slot_B, viewed_slots(num_slots, self._capacity)).clone()

    def _step(self, x_BD: Tensor, start_B: Tensor, slot_B: Tensor, num_slots: int) -> Tensor:
        mask: AttentionMask
        if self._attend_per_row:
            mask = list(zip(start_B.tolist(), slot_B.tolist(), strict=True))
        else:
            slots_S = torch.arange(num_slots, device=x_BD.device)
            mask = (slots_S >= start_B[:, None]) & (slots_S <= slot_B[:, None])
        # Once for all products, each of which would add rows of its own.
        x_RD = _filled_up(x_BD, self._min_rows)
        for block in self._blocks:
            x_RD = block(x_RD, slot_B, mask)
        normed_RD: Tensor = self._norm(x_RD)
        return (normed_RD if self._head is None else self._head(normed_RD))[: len(x_BD)]


class _BlockSteps:
    def __init__(self, block: Block, cache: LayerCache, execution: Execution) -> None:
        attention, feedforward = block.attention, block.feedforward
        self._block, self._cache = block, cache
        self._qkv, self._out, self._up, self._down = (
            Projection(layer.weight, layer.bias, execution)
            for layer in (attention.qkv, attention.out, feedforward.up, feedforward.down)
        )
        self.min_rows = max(layer.min_rows for layer in (self._qkv, self._out, self._up, self._down))
        rotary = attention.rotary
        self._cos_sin_2Ce = None if rotary is None else rotary.between(0, cache.capacity, like=attention.out.weight)

    def __call__(self, x_RD: Tensor, slot_B: Tensor, mask: AttentionMask) -> Tensor:
        """R >= B rows, of which the first B are there."""
        attended_BD = self._attend(self._block.attention_norm(x_RD), slot_B, mask)
        x_RD = x_RD + self._out(_filled_up(attended_BD, len(x_RD)))
        hidden_RF = self._up(self._block.feedforward_norm(x_RD))
        return x_RD + self._down(self._block.feedforward.activate(hidden_RF))

    def _attend(self, x_RD: Tensor, slot_B: Tensor, mask: AttentionMask) -> Tensor:
        attention, rows = self._block.attention, len(slot_B)
        q_BHE, k_BHE, v_BHE = self._qkv(x_RD)[:rows].view(rows, 3, attention.heads, -1).unbind(1)
        q_BHE, k_BHE = attention.q_norm(q_BHE), attention.k_norm(k_BHE)
        if self._cos_sin_2Ce is not None:
            cos_sin_2B1e = self._cos_sin_2Ce[:, slot_B].unsqueeze(2)
            q_BHE, k_BHE = apply_rotary(q_BHE, cos_sin_2B1e), apply_rotary(k_BHE, cos_sin_2B1e)
        self._cache.put(k_BHE, v_BHE, slot_B)
        if isinstance(mask, list):
            return torch.cat([self._attend_row(row, q_BHE, *span) for row, span in enumerate(mask)])
        num_slots = mask.shape[1]
        keys_BHSE, values_BHSE = (x[:rows, :, :num_slots] for x in (self._cache.keys, self._cache.values))
        q_BH1E = q_BHE.unsqueeze(2).to(keys_BHSE.dtype)
        gathered_BH1E = F.scaled_dot_product_attention(q_BH1E, keys_BHSE, values_BHSE, mask[:, None, None])
        return gathered_BH1E.reshape(rows, -1).to(x_RD.dtype)

    def _attend_row(self, row: int, q_BHE: Tensor, first: int, slot: int) -> Tensor:
        keys_1HSE, values_1HSE = (x[row : row + 1, :, first : slot + 1] for x in (self._cache.keys, self._cache.values))
        q_1H1E = q_BHE[row, None, :, None]
        return F.scaled_dot_product_attention(q_1H1E, keys_1HSE, values_1HSE).flatten(1)
