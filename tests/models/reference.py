"""MEGABYTE as the paper's equations say it, one symbol at a time, with no batching, caching or shared code.

It borrows a Megabyte's weights and is slow on purpose: the executable definition that the real model is held against.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from megabyte_mm.models import Megabyte


def logits(model: Megabyte, ids: list[int], condition: int = 0) -> Tensor:
    """(T, 257) logits; row t is computed from ids[:t] alone."""
    return torch.stack([next_logits(model, ids[:t], condition) for t in range(len(ids))])


def next_logits(model: Megabyte, seen: list[int], condition: int) -> Tensor:
    """The logits of the symbol that follows `seen`."""
    size = model.patch_size
    patch, place = divmod(len(seen), size)
    world = [model.start_CG[condition]] + [patch_vector(model, seen, k) for k in range(patch)]
    global_output = transformer(model.global_stack, world)[patch]
    inputs = [local_vector(model, seen[patch * size :], global_output, p) for p in range(place + 1)]
    return model.local_symbols.weight @ transformer(model.local_stack, inputs)[place]


def patch_vector(model: Megabyte, seen: list[int], k: int) -> Tensor:
    """The embeddings of patch k's symbols plus those of their positions in the sequence, one after the other."""
    positions = range(k * model.patch_size, (k + 1) * model.patch_size)
    assert model.embedder.positions is not None
    table, places = model.embedder.symbols.weight, model.embedder.positions.weight
    return torch.cat([table[seen[t]] + places[t] for t in positions])


def local_vector(model: Megabyte, patch: list[int], global_output: Tensor, p: int) -> Tensor:
    """Position p's share of the global output, projected, plus the previous symbol (or the start) and the position."""
    width = len(global_output) // model.patch_size
    previous = model.local_start_L if p == 0 else model.local_symbols.weight[patch[p - 1]]
    return (
        model.to_local.weight @ global_output[p * width : (p + 1) * width] + previous + model.local_positions.weight[p]
    )


def transformer(stack: Any, inputs: list[Tensor]) -> list[Tensor]:
    """A pre-norm decoder: every position attends to itself and what came before."""
    states = list(inputs)
    for block in stack.blocks:
        normed = [norm(block.attention_norm, x) for x in states]
        states = [x + attention(block.attention, normed[: i + 1]) for i, x in enumerate(states)]
        states = [x + feedforward(block.feedforward, norm(block.feedforward_norm, x)) for x in states]
    return [norm(stack.norm, x) for x in states]


def norm(layer: Any, x: Tensor) -> Tensor:
    centred = x - x.mean()
    return centred / (centred.square().mean() + layer.eps).sqrt() * layer.weight + layer.bias


def feedforward(layer: Any, x: Tensor) -> Tensor:
    hidden = layer.up.weight @ x + layer.up.bias
    return layer.down.weight @ hidden.clamp(min=0) + layer.down.bias


def attention(layer: Any, visible: list[Tensor]) -> Tensor:
    """What the last of the visible positions gathers from all of them, head by head."""
    dim = len(visible[0])
    query, key, value = (layer.qkv.weight[i * dim : (i + 1) * dim] for i in range(3))
    query_bias, key_bias, value_bias = layer.qkv.bias.split(dim)
    width = dim // layer.heads
    heads = []
    for rows in (slice(h * width, (h + 1) * width) for h in range(layer.heads)):
        asked = query[rows] @ visible[-1] + query_bias[rows]
        scores = torch.stack([asked @ (key[rows] @ x + key_bias[rows]) / math.sqrt(width) for x in visible])
        values = torch.stack([value[rows] @ x + value_bias[rows] for x in visible])
        heads.append(scores.softmax(0) @ values)
    return layer.out.weight @ torch.cat(heads) + layer.out.bias
