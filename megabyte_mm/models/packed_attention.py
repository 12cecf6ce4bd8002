"""Causal attention inside many short sequences, such as patches, as one operation that packs several into one tile.

torch's fused kernels spend a tile of 64 or 128 positions on each sequence, and batched products need copies of
queries, keys and values and write the scores. Here a tile holds as many whole sequences as fit, under a block-diagonal
mask, and reads the projection as it lies: the least that must be moved, by one kernel forward and one backward. It is
an operation of torch's own library, so that torch.compile does not look into it.

Legend: N sequences, T positions of each, D model width, H heads, E = D / H.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

LONGEST = 16
"""The most positions of a sequence; beyond them a fused kernel's own tile is filled well enough."""
DTYPES = (torch.bfloat16, torch.float16)
"""What the kernels multiply."""
MIN_CAPABILITY = (8, 0)
"""Of CUDA devices that Triton multiplies bfloat16 on."""


def packs(projected_NTX: Tensor) -> bool:
    """True if `packed_attention` is the fastest for projections like these."""
    is_half = projected_NTX.dtype in DTYPES
    return is_half and projected_NTX.device.type == "cuda" and 1 < projected_NTX.shape[1] <= LONGEST


@torch.library.custom_op("megabyte_mm::packed_attention", mutates_args=())
def packed_attention(qkv_NTX: Tensor, heads: int) -> Tensor:
    """Attention where each position sees those up to itself: (N, T, 3 * D) -> (N, T, D).

    qkv: queries, keys and values of all heads, one after the other. Scores and their softmax are float32, and are
    recomputed for the gradients.
    """
    if not _has_kernels(qkv_NTX):
        return _plain(qkv_NTX, heads)
    from megabyte_mm.models.packed_attention_kernels import forward  # needs Triton

    return forward(qkv_NTX.contiguous(), heads)


@packed_attention.register_fake
def _(qkv_NTX: Tensor, heads: int) -> Tensor:
    return qkv_NTX.new_empty(*qkv_NTX.shape[:2], qkv_NTX.shape[2] // 3)


@torch.library.custom_op("megabyte_mm::packed_attention_backward", mutates_args=())
def _packed_attention_backward(grad_NTD: Tensor, qkv_NTX: Tensor, heads: int) -> Tensor:
    """The gradient of the projections: (N, T, D), (N, T, 3 * D) -> (N, T, 3 * D)."""
    if not _has_kernels(qkv_NTX):
        return _plain_backward(grad_NTD, qkv_NTX, heads)
    from megabyte_mm.models.packed_attention_kernels import backward  # needs Triton

    return backward(grad_NTD.contiguous(), qkv_NTX.contiguous(), heads)


@_packed_attention_backward.register_fake
def _(grad_NTD: Tensor, qkv_NTX: Tensor, heads: int) -> Tensor:
    return torch.empty_like(qkv_NTX, memory_format=torch.contiguous_format)


def _save(ctx: Any, inputs: tuple[Tensor, int], output: Tensor) -> None:
    ctx.save_for_backward(inputs[0])
    ctx.heads = inputs[1]


def _differentiate(ctx: Any, grad_NTD: Tensor) -> tuple[Tensor, None]:
    return _packed_attention_backward(grad_NTD, *ctx.saved_tensors, ctx.heads), None


packed_attention.register_autograd(_differentiate, setup_context=_save)


def _has_kernels(like: Tensor) -> bool:
    return like.is_cuda and _runs_triton(like.device)


@cache
def _runs_triton(device: torch.device) -> bool:
    return find_spec("triton") is not None and torch.cuda.get_device_capability(device) >= MIN_CAPABILITY


def _plain(qkv_NTX: Tensor, heads: int) -> Tensor:
    """The same in torch's operations, for other devices and tests."""
    q_NHTE, k_NHTE, v_NHTE = _by_heads(qkv_NTX, 3, heads)
    mixed_NHTE = _weights(q_NHTE, k_NHTE).to(v_NHTE.dtype) @ v_NHTE
    return mixed_NHTE.transpose(1, 2).flatten(2).contiguous()


def _plain_backward(grad_NTD: Tensor, qkv_NTX: Tensor, heads: int) -> Tensor:
    q_NHTE, k_NHTE, v_NHTE = _by_heads(qkv_NTX, 3, heads)
    (grad_NHTE,) = _by_heads(grad_NTD, 1, heads)
    weights_NHTT = _weights(q_NHTE, k_NHTE)
    grad_weights_NHTT = (grad_NHTE @ v_NHTE.transpose(2, 3)).to(weights_NHTT.dtype)
    # Softmax: each score's gradient, less the mean of those of its row.
    mean_NHT1 = (weights_NHTT * grad_weights_NHTT).sum(-1, keepdim=True)
    grad_scores_NHTT = (weights_NHTT * (grad_weights_NHTT - mean_NHT1) * q_NHTE.shape[3] ** -0.5).to(q_NHTE.dtype)
    grads = (
        grad_scores_NHTT @ k_NHTE,
        grad_scores_NHTT.transpose(2, 3) @ q_NHTE,
        weights_NHTT.transpose(2, 3).to(v_NHTE.dtype) @ grad_NHTE,
    )
    return torch.stack([grad_NHTE.transpose(1, 2) for grad_NHTE in grads], dim=2).flatten(2)


def _by_heads(x_NTX: Tensor, parts: int, heads: int) -> tuple[Tensor, ...]:
    """(N, T, parts * D) -> that many of (N, H, T, E)."""
    return x_NTX.view(*x_NTX.shape[:2], parts, heads, -1).permute(2, 0, 3, 1, 4).unbind(0)


def _weights(q_NHTE: Tensor, k_NHTE: Tensor) -> Tensor:
    """The weights of attention, (N, H, T, T), in float32 or more."""
    scores_NHTT = (q_NHTE @ k_NHTE.transpose(2, 3)).to(torch.promote_types(q_NHTE.dtype, torch.float32))
    future_TT = torch.ones(scores_NHTT.shape[2:], dtype=torch.bool, device=q_NHTE.device).triu(1)
    weights_NHTT: Tensor = (scores_NHTT * q_NHTE.shape[3] ** -0.5).masked_fill(future_TT, float("-inf")).softmax(-1)
    return weights_NHTT
