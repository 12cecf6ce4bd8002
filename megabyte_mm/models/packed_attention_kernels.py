"""The kernels of packed attention, in Triton. A program computes one head of as many sequences as its tile holds.

Legend: N sequences, T positions of each, D model width, E head width, R rows of a tile.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

ROWS = 64
"""Positions of a tile: little is multiplied in vain, and its scores fit the registers of four warps."""


def forward(qkv_NTX: Tensor, heads: int) -> Tensor:
    """Attention of contiguous projections: (N, T, 3 * D) -> (N, T, D)."""
    out_NTD = qkv_NTX.new_empty(*qkv_NTX.shape[:2], qkv_NTX.shape[2] // 3)
    _launch(_forward, heads, qkv_NTX, out_NTD)
    return out_NTD


def backward(grad_NTD: Tensor, qkv_NTX: Tensor, heads: int) -> Tensor:
    """The gradient of contiguous projections: (N, T, D), (N, T, 3 * D) -> (N, T, 3 * D)."""
    grad_NTX = torch.empty_like(qkv_NTX)
    _launch(_backward, heads, qkv_NTX, grad_NTD, grad_NTX)
    return grad_NTX


def _launch(kernel: triton.JITFunction, heads: int, qkv_NTX: Tensor, *others: Tensor) -> None:
    sequences, length, width = qkv_NTX.shape
    head_width = width // 3 // heads
    grid = (triton.cdiv(sequences, ROWS // length), heads)
    columns = max(16, triton.next_power_of_2(head_width))
    with torch.cuda.device_of(qkv_NTX):
        kernel[grid](qkv_NTX, *others, sequences, head_width**-0.5, length, heads, head_width, ROWS, columns)


@triton.jit
def _place(
    sequences,
    LENGTH: tl.constexpr,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Offsets of the tile's rows in a tensor of width D, (R, E), those of its head, and which of them there are."""
    row = tl.arange(0, ROWS)
    column = tl.arange(0, COLUMNS)
    used = (ROWS // LENGTH) * LENGTH
    position = tl.program_id(0).to(tl.int64) * used + row
    inside = (row < used) & (position < sequences.to(tl.int64) * LENGTH)
    return position[:, None], (tl.program_id(1) * WIDTH + column)[None, :], inside[:, None] & (column < WIDTH)[None, :]


@triton.jit
def _weights(q, k, scale, LENGTH: tl.constexpr, ROWS: tl.constexpr):
    """The weights of attention, (R, R) float32: each row sees its own sequence, up to itself."""
    row = tl.arange(0, ROWS)
    query, key = row[:, None], row[None, :]
    visible = (query // LENGTH == key // LENGTH) & (query >= key)
    scores = tl.where(visible, tl.dot(q, tl.trans(k)) * scale, float("-inf"))
    exponentials = tl.exp(scores - tl.max(scores, 1)[:, None])
    return exponentials / tl.sum(exponentials, 1)[:, None]


@triton.jit(do_not_specialize=["sequences"])
def _forward(
    qkv_pointer,
    out_pointer,
    sequences,
    scale,
    LENGTH: tl.constexpr,
    HEADS: tl.constexpr,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    position, column, inside = _place(sequences, LENGTH, WIDTH, ROWS, COLUMNS)
    model_width = HEADS * WIDTH
    tile = qkv_pointer + position * (3 * model_width) + column
    q = tl.load(tile, inside, 0.0)
    k = tl.load(tile + model_width, inside, 0.0)
    v = tl.load(tile + 2 * model_width, inside, 0.0)
    weights = _weights(q, k, scale, LENGTH, ROWS)
    out = tl.dot(weights.to(v.dtype), v)
    tl.store(out_pointer + position * model_width + column, out.to(v.dtype), inside)


@triton.jit(do_not_specialize=["sequences"])
def _backward(
    qkv_pointer,
    grad_pointer,
    grad_qkv_pointer,
    sequences,
    scale,
    LENGTH: tl.constexpr,
    HEADS: tl.constexpr,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    position, column, inside = _place(sequences, LENGTH, WIDTH, ROWS, COLUMNS)
    model_width = HEADS * WIDTH
    offsets = position * (3 * model_width) + column
    q = tl.load(qkv_pointer + offsets, inside, 0.0)
    k = tl.load(qkv_pointer + offsets + model_width, inside, 0.0)
    v = tl.load(qkv_pointer + offsets + 2 * model_width, inside, 0.0)
    grad = tl.load(grad_pointer + position * model_width + column, inside, 0.0)
    weights = _weights(q, k, scale, LENGTH, ROWS)
    grad_weights = tl.dot(grad, tl.trans(v))
    # Softmax: each score's gradient, less the mean of those of its row.
    mean = tl.sum(weights * grad_weights, 1)[:, None]
    grad_scores = (weights * (grad_weights - mean) * scale).to(q.dtype)
    grad_q = tl.dot(grad_scores, k)
    grad_k = tl.dot(tl.trans(grad_scores), q)
    grad_v = tl.dot(tl.trans(weights.to(v.dtype)), grad)
    tile = grad_qkv_pointer + offsets
    tl.store(tile, grad_q.to(q.dtype), inside)
    tl.store(tile + model_width, grad_k.to(q.dtype), inside)
    tl.store(tile + 2 * model_width, grad_v.to(q.dtype), inside)
