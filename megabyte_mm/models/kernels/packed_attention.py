"""Causal attention inside many short sequences, such as patches, as one operation that packs several into one tile.

torch's fused kernels spend a tile of 64 or 128 positions on each sequence, and batched products need copies of
queries, keys and values and write the scores. Here a tile holds as many whole sequences as fit, under a block-diagonal
mask, and reads the projection as it lies: the least that must be moved, by one kernel forward and one backward. It is
an operation of torch's own library, so that torch.compile does not look into it.

Legend: N sequences, T positions of each, D model width, X = 3 * D, H heads, E = D / H, B rows of several sequences, S
positions of such a row, or those that a position may see: some of the sequence before, then its own.
"""

from __future__ import annotations

from functools import cache, partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from megabyte_mm.models.kernels.support import DTYPES, agree, kept_by_dropout, runs_triton
from megabyte_mm.models.rotary import RotaryEmbedding, apply_rotary

LONGEST = 16
"""The most positions of a sequence; beyond them a fused kernel's own tile is filled well enough."""
WIDEST_HEAD = 128
"""The largest width of a head, whose tiles fit the registers."""


class PackedOptions(NamedTuple):
    """What attention does: see `packed_attention`."""

    heads: int
    patches: int = 1
    previous: int = 0
    rotary: bool = False
    dropout: float = 0.0


class Kind(NamedTuple):
    """What the kernels are compiled for."""

    device: torch.device
    dtype: torch.dtype
    length: int
    head_width: int
    previous: int
    rotary: bool
    dropout: float


def packs(projected_NTX: Tensor, options: PackedOptions) -> bool:
    """True if `packed_attention` is preferred for projections like these, and right on their device."""
    if projected_NTX.dtype not in DTYPES or projected_NTX.device.type != "cuda":
        return False
    length, head_width = projected_NTX.shape[1], projected_NTX.shape[2] // 3 // options.heads
    if not 1 < length <= LONGEST or head_width % 2 or head_width > WIDEST_HEAD:
        return False
    device, dtype = projected_NTX.device, projected_NTX.dtype
    right: bool = _is_right(device, dtype, length, head_width, options.previous, options.rotary, options.dropout)
    return right


def packed_attention(projected_NTX: Tensor, options: PackedOptions) -> Tensor:
    """Attention where each position sees those of its sequence up to itself: (N, T, 3 * D) -> (N, T, D).

    projected: queries, keys and values of all heads, one after the other. previous: the last positions of the sequence
    before that are seen too, at most T, but not by the first of each `patches` sequences. rotary: rotate queries and
    keys by their positions. dropout: of the weights. Scores and their softmax are float32, and are recomputed for the
    gradients.
    """
    out_NTD: Tensor = _packed_attention(projected_NTX, _kept_weights(projected_NTX, options), *options)
    return out_NTD


def _kept_weights(projected_NTX: Tensor, options: PackedOptions) -> Tensor | None:
    sequences, length, _ = projected_NTX.shape
    shape = sequences, length, options.heads, options.previous + length
    return kept_by_dropout(shape, options.dropout, projected_NTX.device)


@torch.library.custom_op("megabyte_mm::packed_attention", mutates_args=())
def _packed_attention(
    qkv_NTX: Tensor,
    kept_NTHS: Tensor | None,
    heads: int,
    patches: int,
    previous: int,
    rotary: bool,
    dropout: float,
) -> Tensor:
    options = PackedOptions(heads, patches, previous, rotary, dropout)
    if not qkv_NTX.is_cuda:
        return plain(qkv_NTX, kept_NTHS, options)
    from megabyte_mm.models.kernels.packed_attention_triton import forward  # needs Triton

    return forward(qkv_NTX.contiguous(), kept_NTHS, options)


@_packed_attention.register_fake
def _(qkv_NTX: Tensor, *others: Any) -> Tensor:
    return qkv_NTX.new_empty(*qkv_NTX.shape[:2], qkv_NTX.shape[2] // 3)


@torch.library.custom_op("megabyte_mm::packed_attention_backward", mutates_args=())
def _packed_attention_backward(
    grad_NTD: Tensor,
    qkv_NTX: Tensor,
    kept_NTHS: Tensor | None,
    heads: int,
    patches: int,
    previous: int,
    rotary: bool,
    dropout: float,
) -> Tensor:
    """The gradient of the projections: (N, T, D), (N, T, 3 * D) -> (N, T, 3 * D)."""
    options = PackedOptions(heads, patches, previous, rotary, dropout)
    if not qkv_NTX.is_cuda:
        return plain_backward(grad_NTD, qkv_NTX, kept_NTHS, options)
    from megabyte_mm.models.kernels.packed_attention_triton import backward  # needs Triton

    return backward(grad_NTD.contiguous(), qkv_NTX.contiguous(), kept_NTHS, options)


@_packed_attention_backward.register_fake
def _(grad_NTD: Tensor, qkv_NTX: Tensor, *others: Any) -> Tensor:
    return torch.empty_like(qkv_NTX, memory_format=torch.contiguous_format)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    qkv_NTX, kept_NTHS, *ctx.options = inputs
    ctx.save_for_backward(qkv_NTX, kept_NTHS)


def _differentiate(ctx: Any, grad_NTD: Tensor) -> tuple[Tensor | None, ...]:
    return _packed_attention_backward(grad_NTD, *ctx.saved_tensors, *ctx.options), *[None] * 6


_packed_attention.register_autograd(_differentiate, setup_context=_save)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _is_right(*kind: Any) -> bool:
    return _settled(Kind(*kind))


@cache
def _settled(kind: Kind) -> bool:
    """Whether the kernels are right for attention of a kind, found out once in a process."""
    what = f"attention inside patches of {kind.length} positions"
    return runs_triton(kind.device) and agree(partial(_compare_kernels, kind), what, kind.device)


def _compare_kernels(kind: Kind) -> None:
    from megabyte_mm.models.kernels import packed_attention_triton as kernels

    sequences, patches, heads = 18, 9, 2
    options = PackedOptions(heads, patches, kind.previous, kind.rotary, kind.dropout)
    generator = torch.Generator(kind.device).manual_seed(0)
    qkv_NTX, grad_NTD = (
        torch.randn(
            (sequences, kind.length, parts * heads * kind.head_width), generator=generator, device=kind.device
        ).to(kind.dtype)
        for parts in (3, 1)
    )
    kept_NTHS = _kept_weights(qkv_NTX, options)
    pairs = (
        (kernels.forward(qkv_NTX, kept_NTHS, options), plain(qkv_NTX, kept_NTHS, options)),
        (
            kernels.backward(grad_NTD, qkv_NTX, kept_NTHS, options),
            plain_backward(grad_NTD, qkv_NTX, kept_NTHS, options),
        ),
    )
    for kernel_NTX, plain_NTX in pairs:
        torch.testing.assert_close(kernel_NTX, plain_NTX, rtol=0.05, atol=0.05)


def plain(qkv_NTX: Tensor, kept_NTHS: Tensor | None, options: PackedOptions) -> Tensor:
    """What `_packed_attention` returns, by definition: for tests on a CPU, and to check the kernels."""
    q_BHSE, k_BHSE, v_BHSE = _rotated_heads(qkv_NTX, options)
    weights_BHSS = _weights(q_BHSE, k_BHSE, qkv_NTX.shape[1], options.previous) * _factors(kept_NTHS, options)
    mixed_BHSE = weights_BHSS.to(v_BHSE.dtype) @ v_BHSE
    return mixed_BHSE.transpose(1, 2).reshape(*qkv_NTX.shape[:2], -1).contiguous()


def plain_backward(grad_NTD: Tensor, qkv_NTX: Tensor, kept_NTHS: Tensor | None, options: PackedOptions) -> Tensor:
    """What `_packed_attention_backward` returns, by definition."""
    q_BHSE, k_BHSE, v_BHSE = _rotated_heads(qkv_NTX, options)
    (grad_BHSE,) = _by_heads(grad_NTD, 1, options)
    weights_BHSS = _weights(q_BHSE, k_BHSE, qkv_NTX.shape[1], options.previous)
    factors = _factors(kept_NTHS, options)
    grad_weights_BHSS = (grad_BHSE @ v_BHSE.transpose(2, 3)).to(weights_BHSS.dtype) * factors
    # Softmax: each score's gradient, less the mean of those of its row.
    mean_BHS1 = (weights_BHSS * grad_weights_BHSS).sum(-1, keepdim=True)
    grad_scores_BHSS = (weights_BHSS * (grad_weights_BHSS - mean_BHS1) * q_BHSE.shape[3] ** -0.5).to(q_BHSE.dtype)
    grad_q_BHSE, grad_k_BHSE = grad_scores_BHSS @ k_BHSE, grad_scores_BHSS.transpose(2, 3) @ q_BHSE
    if options.rotary:
        grad_q_BHSE, grad_k_BHSE = _rotated(grad_q_BHSE, -1), _rotated(grad_k_BHSE, -1)
    grad_v_BHSE = (weights_BHSS * factors).transpose(2, 3).to(v_BHSE.dtype) @ grad_BHSE
    grads = [x_BHSE.transpose(1, 2) for x_BHSE in (grad_q_BHSE, grad_k_BHSE, grad_v_BHSE)]
    return torch.stack(grads, dim=2).reshape(qkv_NTX.shape).contiguous()


def _factors(kept_NTHS: Tensor | None, options: PackedOptions) -> Tensor | float:
    """What dropout multiplies the weights with, (B, H, S, S)."""
    if kept_NTHS is None:
        return 1.0
    length = kept_NTHS.shape[1]
    patches = options.patches if options.previous else 1
    position_S = torch.arange(patches * length, device=kept_NTHS.device)
    distance_SS = position_S[:, None] // length - position_S // length
    # A weight's place among those that a position may see; the others are 0, and read any.
    place_SS = (position_S % length + options.previous - distance_SS * length).clamp(0, length + options.previous - 1)
    kept_BHSX = torch.unflatten(kept_NTHS, 0, (-1, patches)).flatten(1, 2).transpose(1, 2)
    kept_BHSS: Tensor = kept_BHSX.gather(3, place_SS.expand(*kept_BHSX.shape[:2], -1, -1))
    return kept_BHSS * (1.0 / (1.0 - options.dropout))


def _by_heads(x_NTX: Tensor, parts: int, options: PackedOptions) -> tuple[Tensor, ...]:
    """(N, T, parts * D) -> that many of (B, H, S, E), S positions of as many sequences as see each other."""
    (batch, length, width), heads = x_NTX.shape, options.heads
    patches = options.patches if options.previous else 1
    x_BSXHE = x_NTX.reshape(batch // patches, patches * length, parts, heads, width // parts // heads)
    return x_BSXHE.permute(2, 0, 3, 1, 4).unbind(0)


def _rotated_heads(qkv_NTX: Tensor, options: PackedOptions) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values by heads, the former two rotated by their positions if these are rotary."""
    q_BHSE, k_BHSE, v_BHSE = _by_heads(qkv_NTX, 3, options)
    if options.rotary:
        q_BHSE, k_BHSE = _rotated(q_BHSE, 1), _rotated(k_BHSE, 1)
    return q_BHSE, k_BHSE, v_BHSE


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
