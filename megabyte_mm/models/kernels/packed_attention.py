"""Causal attention inside many short sequences, such as patches, as one operation that packs several into one tile.

torch's fused kernels spend a tile of 64 or 128 positions on each sequence, and batched products need copies of
queries, keys and values and write the scores. Here a tile holds as many whole sequences as fit, under a block-diagonal
mask, and reads the projection as it lies: the least that must be moved, by one kernel forward and one backward. It is
an operation of torch's own library, so that torch.compile does not look into it.

Legend: N sequences, T positions of each, D model width, H heads, E = D / H, B rows of several sequences, S positions of
such a row.
"""

from __future__ import annotations

from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from megabyte_mm.models.kernels.support import agree, runs_triton
from megabyte_mm.models.rotary import RotaryEmbedding, apply_rotary

LONGEST = 16
"""The most positions of a sequence; beyond them a fused kernel's own tile is filled well enough."""
DTYPES = (torch.bfloat16, torch.float16)
"""What the kernels multiply."""


def packs(projected_NTX: Tensor, heads: int) -> bool:
    """True if `packed_attention` is the fastest for projections like these, and right on their device."""
    if projected_NTX.dtype not in DTYPES or not 1 < projected_NTX.shape[1] <= LONGEST:
        return False
    is_even = projected_NTX.shape[2] // heads % 2 == 0
    return is_even and projected_NTX.device.type == "cuda" and _runs_triton(projected_NTX.device)


@torch.library.custom_op("megabyte_mm::packed_attention", mutates_args=())
def packed_attention(qkv_NTX: Tensor, heads: int, patches: int = 1, previous: int = 0, rotary: bool = False) -> Tensor:
    """Attention where each position sees those of its sequence up to itself: (N, T, 3 * D) -> (N, T, D).

    qkv: queries, keys and values of all heads, one after the other. previous: the last positions of the sequence before
    that are seen too, at most T, but not by the first of each `patches` sequences. rotary: rotate queries and keys by
    their positions. Scores and their softmax are float32, and are recomputed for the gradients.
    """
    if not qkv_NTX.is_cuda:
        return _plain(qkv_NTX, heads, patches, previous, rotary)
    from megabyte_mm.models.kernels.packed_attention_triton import forward  # needs Triton

    return forward(qkv_NTX.contiguous(), heads, patches, previous, rotary)


@packed_attention.register_fake
def _(qkv_NTX: Tensor, heads: int, patches: int = 1, previous: int = 0, rotary: bool = False) -> Tensor:
    return qkv_NTX.new_empty(*qkv_NTX.shape[:2], qkv_NTX.shape[2] // 3)


@torch.library.custom_op("megabyte_mm::packed_attention_backward", mutates_args=())
def _packed_attention_backward(
    grad_NTD: Tensor, qkv_NTX: Tensor, heads: int, patches: int, previous: int, rotary: bool
) -> Tensor:
    """The gradient of the projections: (N, T, D), (N, T, 3 * D) -> (N, T, 3 * D)."""
    if not qkv_NTX.is_cuda:
        return _plain_backward(grad_NTD, qkv_NTX, heads, patches, previous, rotary)
    from megabyte_mm.models.kernels.packed_attention_triton import backward  # needs Triton

    return backward(grad_NTD.contiguous(), qkv_NTX.contiguous(), heads, patches, previous, rotary)


@_packed_attention_backward.register_fake
def _(grad_NTD: Tensor, qkv_NTX: Tensor, heads: int, patches: int, previous: int, rotary: bool) -> Tensor:
    return torch.empty_like(qkv_NTX, memory_format=torch.contiguous_format)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    qkv_NTX, *ctx.options = inputs
    ctx.save_for_backward(qkv_NTX)


def _differentiate(ctx: Any, grad_NTD: Tensor) -> tuple[Tensor | None, ...]:
    return _packed_attention_backward(grad_NTD, *ctx.saved_tensors, *ctx.options), None, None, None, None


packed_attention.register_autograd(_differentiate, setup_context=_save)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _runs_triton(device: torch.device) -> bool:
    return _is_capable(device)


@cache
def _is_capable(device: torch.device) -> bool:
    return runs_triton(device) and _kernels_agree(device)


def _kernels_agree(device: torch.device) -> bool:
    """Compare the kernels with the definition, once in a process."""
    return agree(partial(_compare_kernels, device), "attention inside patches", device)


def _compare_kernels(device: torch.device) -> None:
    from megabyte_mm.models.kernels import packed_attention_triton as kernels

    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(18, 8, columns, generator=generator).bfloat16().to(device) for columns in (96, 32)]
    qkv_NTX, grad_NTD = inputs
    for options in ((2, 1, 0, False), (2, 9, 8, True)):
        pairs = (
            (kernels.forward(qkv_NTX, *options), _plain(qkv_NTX, *options)),
            (kernels.backward(grad_NTD, qkv_NTX, *options), _plain_backward(grad_NTD, qkv_NTX, *options)),
        )
        for kernel_NTX, plain_NTX in pairs:
            torch.testing.assert_close(kernel_NTX, plain_NTX, rtol=0.05, atol=0.05)


def _plain(qkv_NTX: Tensor, heads: int, patches: int, previous: int, rotary: bool) -> Tensor:
    """The same by its definition, over whole rows: for tests on a CPU."""
    q_BHSE, k_BHSE, v_BHSE = _by_heads(qkv_NTX, 3, heads, patches if previous else 1)
    q_BHSE, k_BHSE = (_rotated(x_BHSE, 1) if rotary else x_BHSE for x_BHSE in (q_BHSE, k_BHSE))
    mixed_BHSE = _weights(q_BHSE, k_BHSE, qkv_NTX.shape[1], previous).to(v_BHSE.dtype) @ v_BHSE
    return mixed_BHSE.transpose(1, 2).reshape(*qkv_NTX.shape[:2], -1).contiguous()


def _plain_backward(grad_NTD: Tensor, qkv_NTX: Tensor, heads: int, patches: int, previous: int, rotary: bool) -> Tensor:
    patches = patches if previous else 1
    q_BHSE, k_BHSE, v_BHSE = _by_heads(qkv_NTX, 3, heads, patches)
    q_BHSE, k_BHSE = (_rotated(x_BHSE, 1) if rotary else x_BHSE for x_BHSE in (q_BHSE, k_BHSE))
    (grad_BHSE,) = _by_heads(grad_NTD, 1, heads, patches)
    weights_BHSS = _weights(q_BHSE, k_BHSE, qkv_NTX.shape[1], previous)
    grad_weights_BHSS = (grad_BHSE @ v_BHSE.transpose(2, 3)).to(weights_BHSS.dtype)
    # Softmax: each score's gradient, less the mean of those of its row.
    mean_BHS1 = (weights_BHSS * grad_weights_BHSS).sum(-1, keepdim=True)
    grad_scores_BHSS = (weights_BHSS * (grad_weights_BHSS - mean_BHS1) * q_BHSE.shape[3] ** -0.5).to(q_BHSE.dtype)
    grad_q_BHSE, grad_k_BHSE = grad_scores_BHSS @ k_BHSE, grad_scores_BHSS.transpose(2, 3) @ q_BHSE
    if rotary:
        grad_q_BHSE, grad_k_BHSE = _rotated(grad_q_BHSE, -1), _rotated(grad_k_BHSE, -1)
    grad_v_BHSE = weights_BHSS.transpose(2, 3).to(v_BHSE.dtype) @ grad_BHSE
    grads = [x_BHSE.transpose(1, 2) for x_BHSE in (grad_q_BHSE, grad_k_BHSE, grad_v_BHSE)]
    return torch.stack(grads, dim=2).reshape(qkv_NTX.shape).contiguous()


def _by_heads(x_NTX: Tensor, parts: int, heads: int, patches: int) -> tuple[Tensor, ...]:
    """(N, T, parts * D) -> that many of (B, H, S, E), S positions of `patches` sequences."""
    batch, length, width = x_NTX.shape
    x_BSXHE = x_NTX.reshape(batch // patches, patches * length, parts, heads, width // parts // heads)
    return x_BSXHE.permute(2, 0, 3, 1, 4).unbind(0)


def _rotated(x_BHSE: Tensor, direction: int) -> Tensor:
    cos_Se, sin_Se = RotaryEmbedding(x_BHSE.shape[3]).between(0, x_BHSE.shape[2], like=x_BHSE)
    return apply_rotary(x_BHSE, torch.stack([cos_Se, sin_Se * direction]))


def _weights(q_BHSE: Tensor, k_BHSE: Tensor, length: int, previous: int) -> Tensor:
    """The weights of attention, (B, H, S, S), in float32 or more."""
    scores_BHSS = (q_BHSE @ k_BHSE.transpose(2, 3)).to(torch.promote_types(q_BHSE.dtype, torch.float32))
    position_S = torch.arange(q_BHSE.shape[2], device=q_BHSE.device)
    query_S1, key_S = position_S[:, None], position_S
    distance_SS = query_S1 // length - key_S // length
    visible_SS = (distance_SS == 0) & (query_S1 >= key_S)
    visible_SS |= (distance_SS == 1) & (key_S % length >= length - previous)
    scores_BHSS = (scores_BHSS * q_BHSE.shape[3] ** -0.5).masked_fill(~visible_SS, float("-inf"))
    return torch.softmax(scores_BHSS, dim=-1)
