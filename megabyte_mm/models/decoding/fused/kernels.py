"""The kernels of fused steps, in Triton: a linear layer with what surrounds it, and attention to a cache.

A row's results are sums in an order that depends neither on the number of rows nor on the other rows.

Legend: B rows, K inputs, N outputs; R rows, C columns, k inputs and S slots of a tile; D model width, H heads, E head
width, e = E / 2.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

ROWS, COLUMNS = 8, 8
"""Of a tile. The same for any number of rows, since they decide in which order a sum is added up."""
STEP = 128
"""Inputs of a product at a time."""
MOST_SLOTS = 64
"""Slots of a cache at a time."""


def linear(
    x_BK: Tensor,
    weight_NK: Tensor,
    bias_N: Tensor | None,
    scale_N: Tensor | None = None,
    residual_BN: Tensor | None = None,
    norm: tuple[str, Tensor, Tensor | None, float] | None = None,
    activation: str = "none",
    gated: bool = False,
) -> Tensor:
    """residual + activation(norm(x) @ weight.T * scale + bias): (B, K) -> (B, N) float32.

    weight: of any dtype; products and sums are float32. norm: "layer" or "rms", with weight, bias and epsilon. gated:
    the weight has 2 * N rows; the activation of the first half multiplies the second.
    """
    rows, inputs = x_BK.shape
    outputs = len(weight_NK) // (2 if gated else 1)
    out_BN = x_BK.new_empty(rows, outputs)
    kind, norm_weight_K, norm_bias_K, epsilon = norm or ("none", None, None, 0.0)
    grid = (triton.cdiv(rows, ROWS), triton.cdiv(outputs, COLUMNS))
    with torch.cuda.device_of(x_BK):
        _linear[grid](
            x_BK,
            # Those that are not there are not read.
            *(x_BK if other is None else other for other in (norm_weight_K, norm_bias_K, weight_NK, scale_N, bias_N)),
            x_BK if residual_BN is None else residual_BN,
            out_BN,
            rows,
            outputs,
            epsilon,
            INPUTS=inputs,
            NORM=kind,
            NORM_BIASED=norm_bias_K is not None,
            ACTIVATION=activation,
            GATED=gated,
            SCALED=scale_N is not None,
            BIASED=bias_N is not None,
            ADDS=residual_BN is not None,
            ROWS=ROWS,
            COLUMNS=COLUMNS,
            STEP=min(STEP, triton.next_power_of_2(max(inputs, 16))),
        )
    return out_BN


def attend(
    qkv_BX: Tensor,
    keys_BHCE: Tensor,
    values_BHCE: Tensor,
    start_B: Tensor,
    slot_B: Tensor,
    norms_E: tuple[Tensor, Tensor] | None = None,
    cos_sin_2Ce: Tensor | None = None,
    epsilon: float = 0.0,
) -> Tensor:
    """Write a position's keys and values into the slot of each row, and attend to those from `start` on: (B, D).

    qkv: contiguous queries, keys and values, (B, 3 * D). norms: weights of the RMS norms of queries and keys. cos_sin:
    rotations of each slot.
    """
    rows, (_, heads, capacity, width) = len(qkv_BX), keys_BHCE.shape
    out_BD = qkv_BX.new_empty(rows, heads * width)
    with torch.cuda.device_of(qkv_BX):
        _attend[(rows, heads)](
            qkv_BX,
            keys_BHCE,
            values_BHCE,
            start_B,
            slot_B,
            *(norms_E or (qkv_BX, qkv_BX)),
            qkv_BX if cos_sin_2Ce is None else cos_sin_2Ce[0],
            qkv_BX if cos_sin_2Ce is None else cos_sin_2Ce[1],
            out_BD,
            width**-0.5,
            epsilon,
            capacity,
            HEADS=heads,
            WIDTH=width,
            NORMED=norms_E is not None,
            ROTARY=cos_sin_2Ce is not None,
            HALF_COLUMNS=triton.next_power_of_2(width // 2),
            SLOTS=min(MOST_SLOTS, max(16, triton.next_power_of_2(capacity))),
        )
    return out_BD


@triton.jit
def _activated(x, ACTIVATION: tl.constexpr):
    if ACTIVATION == "relu":
        return tl.maximum(x, 0.0, propagate_nan=tl.PropagateNan.ALL)
    if ACTIVATION == "relu2":
        x = tl.maximum(x, 0.0, propagate_nan=tl.PropagateNan.ALL)
        return x * x
    if ACTIVATION == "gelu":
        return 0.5 * x * (1.0 + tl.erf(x * 0.7071067811865476))
    if ACTIVATION == "swiglu":
        return x / (1.0 + tl.exp(-x))
    return x


@triton.jit
def _products(x, weight_pointer, column, depth, outputs, INPUTS: tl.constexpr):
    """Of inputs, (R, k), and the weights of some columns: (R, C, k)."""
    mask = (column < outputs)[:, None] & (depth < INPUTS)[None, :]
    weight = tl.load(weight_pointer + column[:, None] * INPUTS + depth[None, :], mask, 0.0)
    return x[:, None, :] * weight.to(tl.float32)[None, :, :]


@triton.jit(do_not_specialize=["rows"])
def _linear(
    x_pointer,
    norm_weight_pointer,
    norm_bias_pointer,
    weight_pointer,
    scale_pointer,
    bias_pointer,
    residual_pointer,
    out_pointer,
    rows,
    outputs,
    epsilon,
    INPUTS: tl.constexpr,
    NORM: tl.constexpr,
    NORM_BIASED: tl.constexpr,
    ACTIVATION: tl.constexpr,
    GATED: tl.constexpr,
    SCALED: tl.constexpr,
    BIASED: tl.constexpr,
    ADDS: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    STEP: tl.constexpr,
):
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    step = tl.arange(0, STEP)
    inside = (row < rows)[:, None]
    tile = x_pointer + row[:, None] * INPUTS
    mean = tl.zeros([ROWS], tl.float32)
    spread = tl.zeros([ROWS], tl.float32)
    if NORM == "layer":
        for first in tl.static_range(0, INPUTS, STEP):
            mean += tl.sum(tl.load(tile + first + step[None, :], inside & (first + step < INPUTS)[None, :], 0.0), 1)
        mean /= INPUTS
    if NORM != "none":
        for first in tl.static_range(0, INPUTS, STEP):
            valid = (first + step < INPUTS)[None, :]
            values = tl.load(tile + first + step[None, :], inside & valid, 0.0)
            centred = tl.where(valid, values - mean[:, None], 0.0)
            spread += tl.sum(centred * centred, 1)
        spread = tl.rsqrt(spread / INPUTS + epsilon)
    products = tl.zeros([ROWS, COLUMNS, STEP], tl.float32)
    second_products = tl.zeros([ROWS, COLUMNS, STEP], tl.float32)
    for first in range(0, INPUTS, STEP):
        depth = first + step
        there = depth < INPUTS
        x = tl.load(tile + depth[None, :], inside & there[None, :], 0.0)
        if NORM != "none":
            x = (x - mean[:, None]) * spread[:, None] * tl.load(norm_weight_pointer + depth, there, 0.0)[None, :]
            if NORM_BIASED:
                x += tl.load(norm_bias_pointer + depth, there, 0.0)[None, :]
        products += _products(x, weight_pointer, column, depth, outputs, INPUTS)
        if GATED:
            gated_pointer = weight_pointer + outputs * INPUTS
            second_products += _products(x, gated_pointer, column, depth, outputs, INPUTS)
    total = tl.sum(products, 2)
    second = tl.sum(second_products, 2)
    kept = column < outputs
    if SCALED:
        total *= tl.load(scale_pointer + column, kept, 0.0)[None, :]
        if GATED:
            second *= tl.load(scale_pointer + outputs + column, kept, 0.0)[None, :]
    if BIASED:
        total += tl.load(bias_pointer + column, kept, 0.0)[None, :]
        if GATED:
            second += tl.load(bias_pointer + outputs + column, kept, 0.0)[None, :]
    total = _activated(total, ACTIVATION)
    if GATED:
        total *= second
    place = row[:, None] * outputs + column[None, :]
    stored = inside & kept[None, :]
    if ADDS:
        total += tl.load(residual_pointer + place, stored, 0.0)
    tl.store(out_pointer + place, total, stored)


@triton.jit
def _scaled_halves(first, second, weight_pointer, epsilon, column, there, WIDTH: tl.constexpr):
    """An RMS norm of a head's queries or keys."""
    factor = tl.rsqrt((tl.sum(first * first, 0) + tl.sum(second * second, 0)) / WIDTH + epsilon)
    first *= factor * tl.load(weight_pointer + column, there, 0.0)
    second *= factor * tl.load(weight_pointer + WIDTH // 2 + column, there, 0.0)
    return first, second


@triton.jit
def _attend(
    qkv_pointer,
    keys_pointer,
    values_pointer,
    start_pointer,
    slot_pointer,
    query_norm_pointer,
    key_norm_pointer,
    cos_pointer,
    sin_pointer,
    out_pointer,
    scale,
    epsilon,
    capacity,
    HEADS: tl.constexpr,
    WIDTH: tl.constexpr,
    NORMED: tl.constexpr,
    ROTARY: tl.constexpr,
    HALF_COLUMNS: tl.constexpr,
    SLOTS: tl.constexpr,
):
    row = tl.program_id(0)
    head = tl.program_id(1)
    start = tl.load(start_pointer + row)
    slot = tl.load(slot_pointer + row)
    column = tl.arange(0, HALF_COLUMNS)
    there = column < WIDTH // 2
    own = qkv_pointer + row * (3 * HEADS * WIDTH) + head * WIDTH + column
    q1, q2 = tl.load(own, there, 0.0), tl.load(own + WIDTH // 2, there, 0.0)
    own += HEADS * WIDTH
    k1, k2 = tl.load(own, there, 0.0), tl.load(own + WIDTH // 2, there, 0.0)
    own += HEADS * WIDTH
    v1, v2 = tl.load(own, there, 0.0), tl.load(own + WIDTH // 2, there, 0.0)
    if NORMED:
        q1, q2 = _scaled_halves(q1, q2, query_norm_pointer, epsilon, column, there, WIDTH)
        k1, k2 = _scaled_halves(k1, k2, key_norm_pointer, epsilon, column, there, WIDTH)
    if ROTARY:
        cos = tl.load(cos_pointer + slot * (WIDTH // 2) + column, there, 0.0)
        sin = tl.load(sin_pointer + slot * (WIDTH // 2) + column, there, 0.0)
        q1, q2 = q1 * cos - q2 * sin, q2 * cos + q1 * sin
        k1, k2 = k1 * cos - k2 * sin, k2 * cos + k1 * sin
    # The head's first slot; a cache of many rows is longer than 32 bits count.
    cached = (row.to(tl.int64) * HEADS + head) * (capacity * WIDTH)
    keys, values = keys_pointer + cached, values_pointer + cached
    dtype = keys_pointer.dtype.element_ty
    k1, k2, v1, v2 = k1.to(dtype), k2.to(dtype), v1.to(dtype), v2.to(dtype)
    place = slot * WIDTH + column
    tl.store(keys + place, k1, there)
    tl.store(keys + place + WIDTH // 2, k2, there)
    tl.store(values + place, v1, there)
    tl.store(values + place + WIDTH // 2, v2, there)
    q1, q2 = q1 * scale, q2 * scale
    # The position's own, which the others in front of it follow: softmax as it goes.
    most = tl.sum(q1 * k1.to(tl.float32), 0) + tl.sum(q2 * k2.to(tl.float32), 0)
    total = most * 0.0 + 1.0
    out1, out2 = v1.to(tl.float32), v2.to(tl.float32)
    for first in range(start, slot, SLOTS):
        seen = first + tl.arange(0, SLOTS)
        tile = seen[:, None] * WIDTH + column[None, :]
        mask = (seen < slot)[:, None] & there[None, :]
        key1 = tl.load(keys + tile, mask, 0.0).to(tl.float32)
        key2 = tl.load(keys + tile + WIDTH // 2, mask, 0.0).to(tl.float32)
        scores = tl.sum(key1 * q1[None, :] + key2 * q2[None, :], 1)
        scores = tl.where(seen < slot, scores, float("-inf"))
        larger = tl.maximum(most, tl.max(scores, 0))
        weights, kept = tl.exp(scores - larger), tl.exp(most - larger)
        most, total = larger, total * kept + tl.sum(weights, 0)
        value1 = tl.load(values + tile, mask, 0.0).to(tl.float32)
        value2 = tl.load(values + tile + WIDTH // 2, mask, 0.0).to(tl.float32)
        out1 = out1 * kept + tl.sum(weights[:, None] * value1, 0)
        out2 = out2 * kept + tl.sum(weights[:, None] * value2, 0)
    out = out_pointer + row * (HEADS * WIDTH) + head * WIDTH + column
    tl.store(out, out1 / total, there)
    tl.store(out + WIDTH // 2, out2 / total, there)
