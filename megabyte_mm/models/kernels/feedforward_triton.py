"""The kernels of the fused feed-forward layer, in Triton. A program computes some positions, a block of hidden
activations after the other.

What a norm needs of whole positions is computed a few columns at a time, and goes to and from the products through the
memory, whose caches hold it: in float32, whole positions would not fit the registers beside the sums of products.

Legend: M positions, D model width, F hidden width; R positions of a program, C columns (D filled up to a power of two),
c columns of a norm at a time, f hidden activations of a block.
"""

from __future__ import annotations

from functools import cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from megabyte_mm.models.kernels.feedforward import FeedForwardOptions, Gradients, Weights

CHUNK = 64
"""Columns of a norm at a time."""
AMPLE = 220 * 1024
"""Bytes of shared memory of a program for 128 positions, and for widths above 256. An H100 has 227 KiB."""
ENOUGH = 110 * 1024
"""The same for widths above 128, with 64 positions. An A100 has 163 KiB, most cards for desktops 99."""


def fits(device: torch.device, width: int) -> bool:
    """True if the tiles of such a layer fit the shared memory of a program."""
    needed = 0 if width <= 128 else ENOUGH if width <= 256 else AMPLE
    return _shared_memory(device) >= needed


def forward(
    x_MD: Tensor,
    branch_MD: Tensor,
    weights: Weights,
    kept_MD: Tensor | None,
    options: FeedForwardOptions,
) -> tuple[Tensor, Tensor, Tensor]:
    """See `megabyte_mm.models.kernels.feedforward._feedforward`; x and branch are contiguous."""
    positions = len(x_MD)
    out_MD, normed_MD = torch.empty_like(x_MD), torch.empty_like(branch_MD)
    statistics_2M = x_MD.new_empty(2, positions, dtype=torch.float32)
    sizes = _sizes(x_MD.device, *weights.up.shape)
    with torch.cuda.device_of(x_MD):
        _forward[(triton.cdiv(positions, sizes["ROWS"]),)](
            x_MD,
            branch_MD,
            *(x_MD if tensor is None else tensor for tensor in weights),  # those that are not there are not read
            x_MD if kept_MD is None else kept_MD,
            _in_float32(out_MD),
            out_MD,
            normed_MD,
            statistics_2M,
            positions,
            options.epsilon,
            1.0 / (1.0 - options.dropout),
            DROPS=kept_MD is not None,
            NORM_BIASED=weights.norm_bias is not None,
            DOWN_BIASED=weights.down_bias is not None,
            UP_BIASED=weights.up_bias is not None,
            NORM=options.norm,
            ACTIVATION=options.activation,
            **sizes,
        )
    return out_MD, normed_MD, statistics_2M


def backward(
    grad_MD: Tensor,
    x_MD: Tensor,
    branch_MD: Tensor,
    normed_MD: Tensor,
    statistics_2M: Tensor,
    weights: Weights,
    kept_MD: Tensor | None,
    options: FeedForwardOptions,
) -> Gradients:
    """See `megabyte_mm.models.kernels.feedforward._feedforward_backward`; all inputs are contiguous."""
    (positions, width), hidden = x_MD.shape, len(weights.up)
    sizes = _sizes(x_MD.device, hidden, width)
    programs = triton.cdiv(positions, sizes["ROWS"])
    grad_x_MD, grad_branch_MD, rounded_MD = (
        torch.empty_like(x_MD),
        torch.empty_like(branch_MD),
        torch.empty_like(branch_MD),
    )
    hidden_MF, grad_before_MF = (branch_MD.new_empty(positions, hidden) for _ in range(2))
    sums_GX = branch_MD.new_empty(programs, 3 * width + hidden, dtype=torch.float32)
    with torch.cuda.device_of(x_MD):
        _backward[(programs,)](
            grad_MD,
            x_MD,
            branch_MD,
            normed_MD,
            statistics_2M,
            weights.norm,
            weights.up,
            x_MD if weights.up_bias is None else weights.up_bias,
            weights.down,
            x_MD if kept_MD is None else kept_MD,
            _in_float32(grad_x_MD),
            grad_x_MD,
            grad_branch_MD,
            rounded_MD,
            hidden_MF,
            grad_before_MF,
            sums_GX,
            positions,
            1.0 / (1.0 - options.dropout),
            DROPS=kept_MD is not None,
            UP_BIASED=weights.up_bias is not None,
            NORM=options.norm,
            ACTIVATION=options.activation,
            **sizes,
        )
    return grad_x_MD, grad_branch_MD, rounded_MD, hidden_MF, grad_before_MF, sums_GX.sum(0)


def _in_float32(out_MD: Tensor) -> Tensor:
    """Where sums of products are kept on the way to a result: in the place of the result, if they fit there."""
    return out_MD if out_MD.dtype == torch.float32 else torch.empty_like(out_MD, dtype=torch.float32)


def _sizes(device: torch.device, hidden: int, width: int) -> dict[str, int]:
    """Tiles as large as the registers and the shared memory of a program hold, without registers in memory."""
    columns = max(CHUNK, triton.next_power_of_2(width))
    rows = 128 if columns <= 256 and _shared_memory(device) >= AMPLE else 64
    return {
        "WIDTH": width,
        "HIDDEN": hidden,
        "ROWS": rows,
        "COLUMNS": columns,
        "CHUNK": CHUNK,
        "BLOCK": min(64, 8192 // columns),
        "num_warps": 4 if rows * columns <= 64 * 64 else 8,
        "num_stages": 2,
    }


@cache
def _shared_memory(device: torch.device) -> int:
    properties = torch.cuda.get_device_properties(device)
    return int(getattr(properties, "shared_memory_per_block_optin", properties.shared_memory_per_block))


@triton.jit
def _residual(x_pointer, branch_pointer, place, inside):
    """x + branch, (R, c)."""
    x = tl.load(x_pointer + place, inside, 0.0).to(tl.float32)
    return x + tl.load(branch_pointer + place, inside, 0.0).to(tl.float32)


@triton.jit
def _activated(x, ACTIVATION: tl.constexpr):
    """The activation and the derivative."""
    if ACTIVATION == "gelu":
        below = 0.5 * (1.0 + tl.erf(x * 0.7071067811865476))
        return x * below, below + x * tl.exp(-0.5 * x * x) * 0.3989422804014327
    rectified = tl.maximum(x, 0.0, propagate_nan=tl.PropagateNan.ALL)
    if ACTIVATION == "relu2":
        return rectified * rectified, 2.0 * rectified
    return rectified, tl.where(x > 0.0, 1.0, 0.0)


@triton.jit
def _hidden(
    normed,
    up_pointer,
    up_bias_pointer,
    down_pointer,
    unit,
    column,
    valid,
    UP_BIASED: tl.constexpr,
    ACTIVATION: tl.constexpr,
    WIDTH: tl.constexpr,
    HIDDEN: tl.constexpr,
):
    """A block of hidden activations and their derivatives, (R, f), and the weights before and behind them, (f, C)."""
    up = tl.load(up_pointer + unit[:, None] * WIDTH + column, valid, 0.0)
    down = tl.load(down_pointer + tl.trans(column) * HIDDEN + unit[None, :], tl.trans(valid), 0.0)
    sums = tl.dot(normed, tl.trans(up))
    if UP_BIASED:
        sums += tl.load(up_bias_pointer + unit).to(tl.float32)[None, :]
    hidden, slope = _activated(sums, ACTIVATION)
    return hidden, slope, up, tl.trans(down)


@triton.jit(do_not_specialize=["positions"])
def _forward(
    x_pointer,
    branch_pointer,
    norm_pointer,
    norm_bias_pointer,
    up_pointer,
    up_bias_pointer,
    down_pointer,
    down_bias_pointer,
    kept_pointer,
    product_pointer,
    out_pointer,
    normed_pointer,
    statistics_pointer,
    positions,
    epsilon,
    raised,
    WIDTH: tl.constexpr,
    HIDDEN: tl.constexpr,
    NORM: tl.constexpr,
    NORM_BIASED: tl.constexpr,
    UP_BIASED: tl.constexpr,
    DOWN_BIASED: tl.constexpr,
    DROPS: tl.constexpr,
    ACTIVATION: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    CHUNK: tl.constexpr,
    BLOCK: tl.constexpr,
):
    program = tl.program_id(0).to(tl.int64)
    row = tl.arange(0, ROWS)[:, None]
    inside_row = row < positions - program * ROWS
    first = program * (ROWS * WIDTH)
    x_pointer += first
    branch_pointer += first
    kept_pointer += first
    product_pointer += first
    out_pointer += first
    normed_pointer += first
    statistics_pointer += program * ROWS
    dtype = branch_pointer.dtype.element_ty
    chunk = tl.arange(0, CHUNK)[None, :]
    mean = tl.zeros([ROWS, 1], tl.float32)
    square = tl.zeros([ROWS, 1], tl.float32)
    if NORM == "layer":
        for start in range(0, WIDTH, CHUNK):
            inside = inside_row & (start + chunk < WIDTH)
            r = _residual(x_pointer, branch_pointer, row * WIDTH + start + chunk, inside)
            mean += tl.sum(r, 1, keep_dims=True)
        mean /= WIDTH
    for start in range(0, WIDTH, CHUNK):
        inside = inside_row & (start + chunk < WIDTH)
        r = tl.where(inside, _residual(x_pointer, branch_pointer, row * WIDTH + start + chunk, inside) - mean, 0.0)
        square += tl.sum(r * r, 1, keep_dims=True)
    factor = tl.rsqrt(square / WIDTH + epsilon)
    tl.store(statistics_pointer + row, mean, inside_row)
    tl.store(statistics_pointer + positions + row, factor, inside_row)
    for start in range(0, WIDTH, CHUNK):
        there = start + chunk < WIDTH
        place = row * WIDTH + start + chunk
        r = _residual(x_pointer, branch_pointer, place, inside_row & there)
        normed = (r - mean) * factor * tl.load(norm_pointer + start + chunk, there, 0.0).to(tl.float32)
        if NORM_BIASED:
            normed += tl.load(norm_bias_pointer + start + chunk, there, 0.0).to(tl.float32)
        tl.store(normed_pointer + place, normed.to(dtype), inside_row & there)
    tl.debug_barrier()  # other threads of the program wrote what each reads now
    column = tl.arange(0, COLUMNS)[None, :]
    valid = column < WIDTH
    tile = row * WIDTH + column
    normed = tl.load(normed_pointer + tile, inside_row & valid, 0.0)
    product = tl.zeros([ROWS, COLUMNS], tl.float32)
    for start in range(0, HIDDEN, BLOCK):
        unit = start + tl.arange(0, BLOCK)
        hidden, _slope, _up, down = _hidden(
            normed,
            up_pointer,
            up_bias_pointer,
            down_pointer,
            unit,
            column,
            valid,
            UP_BIASED,
            ACTIVATION,
            WIDTH,
            HIDDEN,
        )
        product = tl.dot(hidden.to(dtype), down, product)
    tl.store(product_pointer + tile, product, inside_row & valid)
    tl.debug_barrier()
    for start in range(0, WIDTH, CHUNK):
        there = start + chunk < WIDTH
        inside = inside_row & there
        place = row * WIDTH + start + chunk
        out = tl.load(product_pointer + place, inside, 0.0)
        if DOWN_BIASED:
            out += tl.load(down_bias_pointer + start + chunk, there, 0.0).to(tl.float32)
        if DROPS:
            out *= tl.load(kept_pointer + place, inside, 0).to(tl.float32) * raised
        out += _residual(x_pointer, branch_pointer, place, inside)
        tl.store(out_pointer + place, out.to(out_pointer.dtype.element_ty), inside)


@triton.jit(do_not_specialize=["positions"])
def _backward(
    grad_pointer,
    x_pointer,
    branch_pointer,
    normed_pointer,
    statistics_pointer,
    norm_pointer,
    up_pointer,
    up_bias_pointer,
    down_pointer,
    kept_pointer,
    grad_normed_pointer,
    grad_x_pointer,
    grad_branch_pointer,
    rounded_pointer,
    hidden_pointer,
    grad_before_pointer,
    sums_pointer,
    positions,
    raised,
    WIDTH: tl.constexpr,
    HIDDEN: tl.constexpr,
    NORM: tl.constexpr,
    UP_BIASED: tl.constexpr,
    DROPS: tl.constexpr,
    ACTIVATION: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    CHUNK: tl.constexpr,
    BLOCK: tl.constexpr,
):
    program = tl.program_id(0).to(tl.int64)
    row = tl.arange(0, ROWS)[:, None]
    inside_row = row < positions - program * ROWS
    first = program * (ROWS * WIDTH)
    grad_pointer += first
    kept_pointer += first
    x_pointer += first
    branch_pointer += first
    normed_pointer += first
    grad_normed_pointer += first
    grad_x_pointer += first
    grad_branch_pointer += first
    rounded_pointer += first
    hidden_pointer += program * (ROWS * HIDDEN)
    grad_before_pointer += program * (ROWS * HIDDEN)
    statistics_pointer += program * ROWS
    sums_pointer += program * (3 * WIDTH + HIDDEN)
    dtype = branch_pointer.dtype.element_ty
    chunk = tl.arange(0, CHUNK)[None, :]
    for start in range(0, WIDTH, CHUNK):
        there = start + chunk < WIDTH
        place = row * WIDTH + start + chunk
        outer = tl.load(grad_pointer + place, inside_row & there, 0.0).to(tl.float32)
        if DROPS:
            outer *= tl.load(kept_pointer + place, inside_row & there, 0).to(tl.float32) * raised
        rounded = outer.to(dtype)
        tl.store(rounded_pointer + place, rounded, inside_row & there)
        tl.store(sums_pointer + 2 * WIDTH + start + chunk, tl.sum(rounded.to(tl.float32), 0, keep_dims=True), there)
    tl.debug_barrier()  # other threads of the program wrote what each reads now
    column = tl.arange(0, COLUMNS)[None, :]
    valid = column < WIDTH
    tile = row * WIDTH + column
    normed = tl.load(normed_pointer + tile, inside_row & valid, 0.0)
    rounded_tile = tl.load(rounded_pointer + tile, inside_row & valid, 0.0)
    grad_normed = tl.zeros([ROWS, COLUMNS], tl.float32)
    for start in range(0, HIDDEN, BLOCK):
        unit = start + tl.arange(0, BLOCK)
        hidden, slope, up, down = _hidden(
            normed,
            up_pointer,
            up_bias_pointer,
            down_pointer,
            unit,
            column,
            valid,
            UP_BIASED,
            ACTIVATION,
            WIDTH,
            HIDDEN,
        )
        # Rows behind the last have a gradient of 0.
        grad = tl.dot(rounded_tile, tl.trans(down)) * slope
        tl.store(sums_pointer + 3 * WIDTH + unit, tl.sum(grad, 0))
        block = row * HIDDEN + unit[None, :]
        tl.store(hidden_pointer + block, hidden.to(dtype), inside_row)
        tl.store(grad_before_pointer + block, grad.to(dtype), inside_row)
        grad_normed = tl.dot(grad.to(dtype), up, grad_normed)
    tl.store(grad_normed_pointer + tile, grad_normed, inside_row & valid)
    tl.debug_barrier()
    # The gradients of x and of the norm may share their memory: each element is read once before it is written.
    mean = tl.load(statistics_pointer + row, inside_row, 0.0)
    factor = tl.load(statistics_pointer + positions + row, inside_row, 0.0)
    along = tl.zeros([ROWS, 1], tl.float32)
    total = tl.zeros([ROWS, 1], tl.float32)
    for start in range(0, WIDTH, CHUNK):
        there = start + chunk < WIDTH
        inside = inside_row & there
        place = row * WIDTH + start + chunk
        standard = (_residual(x_pointer, branch_pointer, place, inside) - mean) * factor
        inner = tl.load(grad_normed_pointer + place, inside, 0.0)
        tl.store(sums_pointer + start + chunk, tl.sum(inner * standard, 0, keep_dims=True), there)
        tl.store(sums_pointer + WIDTH + start + chunk, tl.sum(inner, 0, keep_dims=True), there)
        scaled = inner * tl.load(norm_pointer + start + chunk, there, 0.0).to(tl.float32)
        along += tl.sum(scaled * standard, 1, keep_dims=True)
        total += tl.sum(scaled, 1, keep_dims=True)
    for start in range(0, WIDTH, CHUNK):
        there = start + chunk < WIDTH
        inside = inside_row & there
        place = row * WIDTH + start + chunk
        standard = (_residual(x_pointer, branch_pointer, place, inside) - mean) * factor
        inner = tl.load(grad_normed_pointer + place, inside, 0.0)
        inner *= tl.load(norm_pointer + start + chunk, there, 0.0).to(tl.float32)
        inner -= standard * (along / WIDTH)
        if NORM == "layer":
            inner -= total / WIDTH
        outer = tl.load(grad_pointer + place, inside, 0.0).to(tl.float32)
        outer += inner * factor
        tl.store(grad_x_pointer + place, outer.to(grad_x_pointer.dtype.element_ty), inside)
        tl.store(grad_branch_pointer + place, outer.to(dtype), inside)
