"""The kernels of packed attention, in Triton. A program computes one head of as many sequences as its tile holds.

With positions of the sequence before, tiles overlap: the first sequence of a tile only serves the next one, and in the
backward pass the last one only serves the one before. So no two programs write the same gradient.

Legend: N sequences, T positions of each, D model width, E head width, e = E / 2, R rows of a tile.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from megabyte_mm.models.kernels.packed_attention import PackedOptions
from megabyte_mm.models.rotary import BASE


def forward(qkv_NTX: Tensor, kept_NTHS: Tensor | None, options: PackedOptions) -> Tensor:
    """Attention of contiguous projections: (N, T, 3 * D) -> (N, T, D)."""
    out_NTD = qkv_NTX.new_empty(*qkv_NTX.shape[:2], qkv_NTX.shape[2] // 3)
    _launch(_forward, 1, options, qkv_NTX, kept_NTHS, out_NTD)
    return out_NTD


def backward(grad_NTD: Tensor, qkv_NTX: Tensor, kept_NTHS: Tensor | None, options: PackedOptions) -> Tensor:
    """The gradient of contiguous projections: (N, T, D), (N, T, 3 * D) -> (N, T, 3 * D)."""
    grad_NTX = torch.empty_like(qkv_NTX)
    _launch(_backward, 2, options, qkv_NTX, kept_NTHS, grad_NTD, grad_NTX)
    return grad_NTX


def _launch(
    kernel: triton.JITFunction,
    overlap: int,
    options: PackedOptions,
    qkv_NTX: Tensor,
    kept_NTHS: Tensor | None,
    *others: Tensor,
) -> None:
    heads, patches, previous, rotary, dropout = options
    sequences, length, width = qkv_NTX.shape
    head_width = width // 3 // heads
    # A tile of 64 rows fits the registers; of long sequences more must fit beside those that overlap.
    rows = 128 if previous and length > 8 else 64
    columns = max(16, triton.next_power_of_2(head_width))
    stored = rows // length - (overlap if previous else 0)
    sizes = {
        "LENGTH": length,
        "HEADS": heads,
        "WIDTH": head_width,
        "PREVIOUS": previous,
        "DROPS": kept_NTHS is not None,
        "RATE": -math.log2(BASE) / (head_width // 2) if rotary else 0.0,
        "STORED": stored,
        "ROWS": rows,
        "COLUMNS": columns,
        "HALF_COLUMNS": max(16, triton.next_power_of_2(head_width // 2)),
    }
    with torch.cuda.device_of(qkv_NTX):
        grid = (triton.cdiv(sequences, stored), heads)
        kernel[grid](
            qkv_NTX,
            qkv_NTX if kept_NTHS is None else kept_NTHS,  # not read if there is none
            *others,
            sequences,
            patches,
            head_width**-0.5,
            1.0 / (1.0 - dropout),
            **sizes,
            num_warps=rows * max(columns, 64) // 1024,
        )


@triton.jit
def _rows(sequences, LENGTH: tl.constexpr, PREVIOUS: tl.constexpr, STORED: tl.constexpr, ROWS: tl.constexpr):
    """The positions of a tile's rows, (R, 1) int64, which of them there are, and which are stored."""
    row = tl.arange(0, ROWS)[:, None]
    before: tl.constexpr = LENGTH if PREVIOUS else 0
    position = tl.program_id(0).to(tl.int64) * (STORED * LENGTH) - before + row
    inside = (row < (ROWS // LENGTH) * LENGTH) & (position >= 0) & (position < sequences.to(tl.int64) * LENGTH)
    return position, inside, inside & (row >= before) & (row < before + STORED * LENGTH)


@triton.jit
def _load_halves(tile, inside, WIDTH: tl.constexpr, HALF_COLUMNS: tl.constexpr):
    """Queries or keys of the tile: (R, e) twice."""
    column = tl.arange(0, HALF_COLUMNS)[None, :]
    mask = inside & (column < WIDTH // 2)
    return tl.load(tile + column, mask, 0.0), tl.load(tile + WIDTH // 2 + column, mask, 0.0)


@triton.jit
def _store_halves(tile, first, second, stored, WIDTH: tl.constexpr, HALF_COLUMNS: tl.constexpr):
    column = tl.arange(0, HALF_COLUMNS)[None, :]
    mask = stored & (column < WIDTH // 2)
    tl.store(tile + column, first.to(tile.dtype.element_ty), mask)
    tl.store(tile + WIDTH // 2 + column, second.to(tile.dtype.element_ty), mask)


@triton.jit
def _rotate(first, second, direction: tl.constexpr, RATE: tl.constexpr, ROWS: tl.constexpr, HALF_COLUMNS: tl.constexpr):
    """Rotate pairs by the row of the tile, which differs from the position of a sequence by the same for all keys."""
    if RATE == 0.0:
        return first, second
    angle = tl.arange(0, ROWS)[:, None] * tl.exp2(tl.arange(0, HALF_COLUMNS)[None, :] * RATE)
    cos, sin = tl.cos(angle), tl.sin(angle) * direction
    a, b = first.to(tl.float32), second.to(tl.float32)
    return (a * cos - b * sin).to(first.dtype), (b * cos + a * sin).to(first.dtype)


@triton.jit
def _weights(
    q1, q2, k1, k2, position, patches, scale, LENGTH: tl.constexpr, PREVIOUS: tl.constexpr, ROWS: tl.constexpr
):
    """The weights of attention, (R, R) float32: each row sees its own sequence up to itself, and some of the former."""
    row = tl.arange(0, ROWS)
    query, key = row[:, None], row[None, :]
    distance = query // LENGTH - key // LENGTH
    visible = (distance == 0) & (query >= key)
    if PREVIOUS:
        follows = (position // LENGTH) % patches != 0
        visible = visible | ((distance == 1) & (key % LENGTH >= LENGTH - PREVIOUS) & follows)
    scores = tl.dot(q1, tl.trans(k1)) + tl.dot(q2, tl.trans(k2))
    scores = tl.where(visible, scores * scale, float("-inf"))
    exponentials = tl.exp(scores - tl.max(scores, 1)[:, None])
    return exponentials / tl.sum(exponentials, 1)[:, None]


@triton.jit
def _kept(kept, inside, LENGTH: tl.constexpr, PREVIOUS: tl.constexpr, ROWS: tl.constexpr):
    """1 where dropout keeps a weight, (R, R) float32: keys of the sequence before come first."""
    row = tl.arange(0, ROWS)
    query, key = row[:, None], row[None, :]
    distance = query // LENGTH - key // LENGTH
    slot = key % LENGTH + PREVIOUS - distance * LENGTH
    seen = inside & (distance >= 0) & (distance <= 1) & (slot >= 0)
    return tl.load(kept + slot, seen, 0).to(tl.float32)


@triton.jit(do_not_specialize=["sequences", "patches"])
def _forward(
    qkv_pointer,
    kept_pointer,
    out_pointer,
    sequences,
    patches,
    scale,
    raised,
    LENGTH: tl.constexpr,
    HEADS: tl.constexpr,
    WIDTH: tl.constexpr,
    PREVIOUS: tl.constexpr,
    DROPS: tl.constexpr,
    RATE: tl.constexpr,
    STORED: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    HALF_COLUMNS: tl.constexpr,
):
    position, inside, stored = _rows(sequences, LENGTH, PREVIOUS, STORED, ROWS)
    head = tl.program_id(1) * WIDTH
    model_width = HEADS * WIDTH
    column = tl.arange(0, COLUMNS)[None, :]
    tile = qkv_pointer + position * (3 * model_width) + head
    q1, q2 = _load_halves(tile, inside, WIDTH, HALF_COLUMNS)
    k1, k2 = _load_halves(tile + model_width, inside, WIDTH, HALF_COLUMNS)
    v = tl.load(tile + 2 * model_width + column, inside & (column < WIDTH), 0.0)
    q1, q2 = _rotate(q1, q2, 1, RATE, ROWS, HALF_COLUMNS)
    k1, k2 = _rotate(k1, k2, 1, RATE, ROWS, HALF_COLUMNS)
    weights = _weights(q1, q2, k1, k2, position, patches, scale, LENGTH, PREVIOUS, ROWS)
    if DROPS:
        kept = kept_pointer + (position * HEADS + tl.program_id(1)) * (PREVIOUS + LENGTH)
        weights *= _kept(kept, inside, LENGTH, PREVIOUS, ROWS) * raised
    out = tl.dot(weights.to(v.dtype), v)
    tl.store(out_pointer + position * model_width + head + column, out.to(v.dtype), stored & (column < WIDTH))


@triton.jit(do_not_specialize=["sequences", "patches"])
def _backward(
    qkv_pointer,
    kept_pointer,
    grad_pointer,
    grad_qkv_pointer,
    sequences,
    patches,
    scale,
    raised,
    LENGTH: tl.constexpr,
    HEADS: tl.constexpr,
    WIDTH: tl.constexpr,
    PREVIOUS: tl.constexpr,
    DROPS: tl.constexpr,
    RATE: tl.constexpr,
    STORED: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    HALF_COLUMNS: tl.constexpr,
):
    position, inside, stored = _rows(sequences, LENGTH, PREVIOUS, STORED, ROWS)
    head = tl.program_id(1) * WIDTH
    model_width = HEADS * WIDTH
    column = tl.arange(0, COLUMNS)[None, :]
    offset = position * (3 * model_width) + head
    tile = qkv_pointer + offset
    q1, q2 = _load_halves(tile, inside, WIDTH, HALF_COLUMNS)
    k1, k2 = _load_halves(tile + model_width, inside, WIDTH, HALF_COLUMNS)
    v = tl.load(tile + 2 * model_width + column, inside & (column < WIDTH), 0.0)
    grad = tl.load(grad_pointer + position * model_width + head + column, inside & (column < WIDTH), 0.0)
    q1, q2 = _rotate(q1, q2, 1, RATE, ROWS, HALF_COLUMNS)
    k1, k2 = _rotate(k1, k2, 1, RATE, ROWS, HALF_COLUMNS)
    weights = _weights(q1, q2, k1, k2, position, patches, scale, LENGTH, PREVIOUS, ROWS)
    grad_weights = tl.dot(grad, tl.trans(v))
    dropped = weights
    if DROPS:
        kept = kept_pointer + (position * HEADS + tl.program_id(1)) * (PREVIOUS + LENGTH)
        factors = _kept(kept, inside, LENGTH, PREVIOUS, ROWS) * raised
        grad_weights *= factors
        dropped = weights * factors
    # Softmax: each score's gradient, less the mean of those of its row.
    mean = tl.sum(weights * grad_weights, 1)[:, None]
    grad_scores = (weights * (grad_weights - mean) * scale).to(q1.dtype)
    grad_tile = grad_qkv_pointer + offset
    # The inverse rotation; sums of products stay float32 until they are stored.
    dq1, dq2 = _rotate(tl.dot(grad_scores, k1), tl.dot(grad_scores, k2), -1, RATE, ROWS, HALF_COLUMNS)
    _store_halves(grad_tile, dq1, dq2, stored, WIDTH, HALF_COLUMNS)
    grad_scores = tl.trans(grad_scores)
    dk1, dk2 = _rotate(tl.dot(grad_scores, q1), tl.dot(grad_scores, q2), -1, RATE, ROWS, HALF_COLUMNS)
    _store_halves(grad_tile + model_width, dk1, dk2, stored, WIDTH, HALF_COLUMNS)
    grad_v = tl.dot(tl.trans(dropped.to(v.dtype)), grad)
    tl.store(grad_tile + 2 * model_width + column, grad_v.to(v.dtype), stored & (column < WIDTH))
