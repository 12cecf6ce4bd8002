"""The second half of a block as one operation: r = x + branch, and the feed-forward layer of norm(r) added to r.

Separate operations write the hidden activations, which are several times as wide as the residual stream, and read them
again: 4 times forward, and with their gradients 8 times backward. In narrow layers that takes longer than products do.
Here they are not written at all forward. Backward they are computed again, and written once with their gradients, for
the products of the weights' gradients. It is an operation of torch's own library: torch.compile does not look into it.
Gradients of gradients are not defined.

Legend: N sequences, T positions of each, M = N * T, D model width, F hidden width.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from megabyte_mm.models.kernels.support import kept_by_dropout

Gradients = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


class Weights(NamedTuple):
    """The weights of a norm, (D), and of the feed-forward layer behind it, (F, D), (F), (D, F) and (D).

    Matrices have the dtype of products.
    """

    norm: Tensor
    norm_bias: Tensor | None
    up: Tensor
    up_bias: Tensor | None
    down: Tensor
    down_bias: Tensor | None


class FeedForwardOptions(NamedTuple):
    """What a layer computes. norm: "layer" or "rms"."""

    norm: str
    epsilon: float
    activation: str
    dropout: float = 0.0


def fused_feedforward(x_NTD: Tensor, branch_NTD: Tensor, weights: Weights, options: FeedForwardOptions) -> Tensor:
    """r + dropout(down(activation(up(norm(r))))) with r = x + branch: (N, T, D) twice -> (N, T, D) in the dtype of x.

    Products are of the dtype of branch, and sums of them float32.
    """
    typed = weights._replace(up=weights.up.to(branch_NTD.dtype), down=weights.down.to(branch_NTD.dtype))
    x_MD, branch_MD = x_NTD.flatten(0, 1), branch_NTD.flatten(0, 1)
    kept_MD = kept_by_dropout(tuple(x_MD.shape), options.dropout, x_NTD.device)
    out_MD, _, _ = _feedforward(x_MD, branch_MD, *typed, kept_MD, *options)
    out_NTD: Tensor = out_MD.view_as(x_NTD)
    return out_NTD


@torch.library.custom_op("megabyte_mm::feedforward", mutates_args=())
def _feedforward(
    x_MD: Tensor,
    branch_MD: Tensor,
    norm_D: Tensor,
    norm_bias_D: Tensor | None,
    up_FD: Tensor,
    up_bias_F: Tensor | None,
    down_DF: Tensor,
    down_bias_D: Tensor | None,
    kept_MD: Tensor | None,
    norm: str,
    epsilon: float,
    activation: str,
    dropout: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """The result, (M, D), and for the gradients norm(r), (M, D), with the mean and the factor of each position, (2, M).

    An RMS norm has a mean of 0. kept: what dropout keeps of the layer's output.
    """
    weights = Weights(norm_D, norm_bias_D, up_FD, up_bias_F, down_DF, down_bias_D)
    options = FeedForwardOptions(norm, epsilon, activation, dropout)
    if not x_MD.is_cuda:
        return plain(x_MD, branch_MD, weights, kept_MD, options)
    from megabyte_mm.models.kernels.feedforward_triton import forward  # needs Triton

    x_MD, branch_MD = x_MD.contiguous(), branch_MD.contiguous()
    return forward(x_MD, branch_MD, _contiguous(weights), kept_MD, options)


@_feedforward.register_fake
def _(x_MD: Tensor, branch_MD: Tensor, *others: Any) -> tuple[Tensor, Tensor, Tensor]:
    (positions, width), wide = x_MD.shape, torch.promote_types(x_MD.dtype, torch.float32)
    shape = positions, width
    return x_MD.new_empty(shape), branch_MD.new_empty(shape), x_MD.new_empty(2, positions, dtype=wide)


@torch.library.custom_op("megabyte_mm::feedforward_backward", mutates_args=())
def _feedforward_backward(
    grad_MD: Tensor,
    x_MD: Tensor,
    branch_MD: Tensor,
    normed_MD: Tensor,
    statistics_2M: Tensor,
    norm_D: Tensor,
    up_FD: Tensor,
    up_bias_F: Tensor | None,
    down_DF: Tensor,
    kept_MD: Tensor | None,
    norm: str,
    epsilon: float,
    activation: str,
    dropout: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The gradients of x and of branch, and the factors of those of the matrices.

    The factors are, in the dtype of products, the gradient of the layer's output, the hidden activations and the
    gradient before the activation, (M, D), (M, F) and (M, F). Last come the gradients of the norm's weight and bias and
    of the biases of `down` and `up`, one after the other, (3 * D + F).
    """
    weights = Weights(norm_D, None, up_FD, up_bias_F, down_DF, None)
    options = FeedForwardOptions(norm, epsilon, activation, dropout)
    if not x_MD.is_cuda:
        return plain_backward(grad_MD, x_MD, branch_MD, normed_MD, statistics_2M, weights, kept_MD, options)
    from megabyte_mm.models.kernels.feedforward_triton import backward  # needs Triton

    grad_MD, x_MD, branch_MD = grad_MD.contiguous(), x_MD.contiguous(), branch_MD.contiguous()
    normed_MD, statistics_2M = normed_MD.contiguous(), statistics_2M.contiguous()
    weights = _contiguous(weights)
    return backward(grad_MD, x_MD, branch_MD, normed_MD, statistics_2M, weights, kept_MD, options)


@_feedforward_backward.register_fake
def _(grad_MD: Tensor, x_MD: Tensor, branch_MD: Tensor, *others: Any) -> Gradients:
    (positions, width), hidden = x_MD.shape, len(others[3])
    wide = torch.promote_types(x_MD.dtype, torch.float32)
    shapes = (positions, width), (positions, width), (positions, hidden), (positions, hidden)
    grad_branch_MD, rounded_MD, hidden_MF, grad_before_MF = (branch_MD.new_empty(shape) for shape in shapes)
    sums_X = x_MD.new_empty(3 * width + hidden, dtype=wide)
    return x_MD.new_empty(positions, width), grad_branch_MD, rounded_MD, hidden_MF, grad_before_MF, sums_X


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    x_MD, branch_MD, *weights, kept_MD = inputs[:-4]
    ctx.options = inputs[-4:]
    norm_D, _, up_FD, up_bias_F, down_DF, _ = weights
    _, normed_MD, statistics_2M = output
    ctx.dtypes = [None if weight is None else weight.dtype for weight in weights]
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(x_MD, branch_MD, normed_MD, statistics_2M, norm_D, up_FD, up_bias_F, down_DF, kept_MD)


def _differentiate(ctx: Any, grad_MD: Tensor, *_: None) -> tuple[Tensor | None, ...]:
    x_MD, branch_MD, normed_MD, *others = ctx.saved_tensors
    grad_x_MD, grad_branch_MD, rounded_MD, hidden_MF, grad_before_MF, sums_X = _feedforward_backward(
        grad_MD, x_MD, branch_MD, normed_MD, *others, *ctx.options
    )
    width = x_MD.shape[1]
    norm_D, norm_bias_D, down_bias_D, up_bias_F = sums_X.split([width, width, width, hidden_MF.shape[1]])
    needs = ctx.needs_input_grad
    up_FD = grad_before_MF.t() @ normed_MD if needs[4] else None
    down_DF = rounded_MD.t() @ hidden_MF if needs[6] else None
    grads = norm_D, norm_bias_D, up_FD, up_bias_F, down_DF, down_bias_D
    typed = [
        None if grad is None or dtype is None else grad.to(dtype) for grad, dtype in zip(grads, ctx.dtypes, strict=True)
    ]
    return grad_x_MD, grad_branch_MD, *typed, None, None, None, None, None


_feedforward.register_autograd(_differentiate, setup_context=_save)


def _contiguous(weights: Weights) -> Weights:
    return Weights(*(None if weight is None else weight.contiguous() for weight in weights))  # type: ignore[arg-type]


def plain(
    x_MD: Tensor,
    branch_MD: Tensor,
    weights: Weights,
    kept_MD: Tensor | None,
    options: FeedForwardOptions,
) -> tuple[Tensor, Tensor, Tensor]:
    """What `_feedforward` returns, by definition: for tests on a CPU, and to check the kernels."""
    r_MD = _wide(x_MD) + branch_MD
    mean_M = r_MD.mean(1) if options.norm == "layer" else torch.zeros_like(r_MD[:, 0])
    centred_MD = r_MD - mean_M[:, None]
    factor_M = torch.rsqrt(centred_MD.square().mean(1) + options.epsilon)
    normed_MD = centred_MD * factor_M[:, None] * weights.norm
    if weights.norm_bias is not None:
        normed_MD = normed_MD + weights.norm_bias
    normed_MD = normed_MD.to(branch_MD.dtype, copy=True)
    hidden_MF = _activated(_linear(normed_MD, weights.up, weights.up_bias), options.activation)[0].to(branch_MD.dtype)
    out_MD = r_MD + _dropped(_linear(hidden_MF, weights.down, weights.down_bias), kept_MD, options.dropout)
    return out_MD.to(x_MD.dtype), normed_MD, torch.stack([mean_M, factor_M])


def plain_backward(
    grad_MD: Tensor,
    x_MD: Tensor,
    branch_MD: Tensor,
    normed_MD: Tensor,
    statistics_2M: Tensor,
    weights: Weights,
    kept_MD: Tensor | None,
    options: FeedForwardOptions,
) -> Gradients:
    """What `_feedforward_backward` returns, by definition."""
    dtype = branch_MD.dtype
    mean_M1, factor_M1 = statistics_2M[:, :, None]
    standard_MD = (_wide(x_MD) + branch_MD - mean_M1) * factor_M1
    rounded_MD = _dropped(grad_MD, kept_MD, options.dropout).to(dtype, copy=True)
    hidden_MF, slope_MF = _activated(_linear(normed_MD, weights.up, weights.up_bias), options.activation)
    grad_before_MF = _wide(rounded_MD @ weights.down) * slope_MF
    grad_normed_MD = _wide(grad_before_MF.to(dtype) @ weights.up)
    scaled_MD = grad_normed_MD * weights.norm
    # Of a norm: less the part along the output, and less the mean if it subtracts one.
    inner_MD = scaled_MD - standard_MD * (scaled_MD * standard_MD).mean(1, keepdim=True)
    if options.norm == "layer":
        inner_MD = inner_MD - scaled_MD.mean(1, keepdim=True)
    grad_r_MD = _wide(grad_MD) + inner_MD * factor_M1
    sums = (grad_normed_MD * standard_MD, grad_normed_MD, _wide(rounded_MD), grad_before_MF)
    return (
        grad_r_MD.to(x_MD.dtype),
        grad_r_MD.to(dtype, copy=True),
        rounded_MD,
        hidden_MF.to(dtype),
        grad_before_MF.to(dtype, copy=True),
        torch.cat([each.sum(0) for each in sums]),
    )


def _dropped(x_MD: Tensor, kept_MD: Tensor | None, dropout: float) -> Tensor:
    return x_MD if kept_MD is None else x_MD * kept_MD * (1.0 / (1.0 - dropout))


def _wide(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _linear(x_MK: Tensor, weight_NK: Tensor, bias_N: Tensor | None) -> Tensor:
    out_MN = _wide(x_MK @ weight_NK.t())
    return out_MN if bias_N is None else out_MN + bias_N


def _activated(x: Tensor, activation: str) -> tuple[Tensor, Tensor]:
    """The activation and the derivative."""
    if activation == "gelu":
        below = 0.5 * (1.0 + torch.erf(x * math.sqrt(0.5)))
        return x * below, below + x * torch.exp(-0.5 * x * x) * math.sqrt(0.5 / math.pi)
    rectified = F.relu(x)
    if activation == "relu2":
        return rectified * rectified, 2.0 * rectified
    return rectified, (x > 0.0).to(x.dtype)
