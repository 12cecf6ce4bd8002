"""The second half of a block as one operation: x + branch, and the feed-forward layer of its norm added to that.

Separate operations write the hidden activations, which are several times as wide as the residual stream, and read them
again: 4 times forward, and with their gradients 8 times backward. In narrow layers that takes longer than products do.
Here they are not written at all forward. Backward they are computed again, and written once with their gradients, for
the products of the weights' gradients. It is an operation of torch's own library: torch.compile does not look into it.
Gradients of gradients are not defined.

Legend: N sequences, T positions of each, M = N * T, D model width, F hidden width.
"""

from __future__ import annotations

import math
from functools import cache, partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from megabyte_mm.models.kernels.support import agree, runs_triton

DEVICES = ("cuda",)
"""Types of devices that run the kernels."""
ACTIVATIONS = ("relu", "gelu", "relu2")
"""Those of layers without a gate."""
DTYPES = (torch.bfloat16, torch.float16)
"""What the kernels multiply."""
WIDEST = 512
"""The largest model width: sums of wider products do not fit the registers."""
FEWEST = 8192
"""Positions. A program takes 64 or 128 of them, and most processors of a GPU should have one."""
GAIN = 0.95
"""The kernels are used if they take less than this share of the time of torch's operations."""
LIMIT, LIMIT_BEHIND_STEP = 0.01, 0.05
"""How far results of the kernels may be from those of the definition, relative to their size. Rounding moves some
inputs of ReLU across zero, where its derivative is a step."""

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


class Layer(NamedTuple):
    """What the kernels are compiled for. parameter_dtype: of the norm's weights and of all biases."""

    device: torch.device
    dtype: torch.dtype
    residual_dtype: torch.dtype
    parameter_dtype: torch.dtype
    width: int
    hidden: int
    biased: bool
    norm: str
    activation: str


def fuses(x_NTD: Tensor, branch_NTD: Tensor, up_FD: Tensor, biased: bool, norm: str, activation: str) -> bool:
    """True if `fused_feedforward` is right for training on inputs like these, and faster than torch's operations."""
    if x_NTD.device.type not in DEVICES or branch_NTD.dtype not in DTYPES or not torch.is_grad_enabled():
        return False
    (sequences, length, width), hidden = x_NTD.shape, up_FD.shape[0]
    if sequences * length < FEWEST or width > WIDEST or width % 16 or hidden % 64 or activation not in ACTIVATIONS:
        return False
    # Which way is faster depends on a clock, and so would the rounding.
    if torch.are_deterministic_algorithms_enabled():
        return False
    suits: bool = _suits(
        x_NTD.device, branch_NTD.dtype, x_NTD.dtype, up_FD.dtype, width, hidden, biased, norm, activation
    )
    return suits


def fused_feedforward(
    x_NTD: Tensor, branch_NTD: Tensor, weights: Weights, norm: str, epsilon: float, activation: str
) -> Tensor:
    """r + down(activation(up(norm(r)))) with r = x + branch: (N, T, D), (N, T, D) -> (N, T, D) in the dtype of x.

    Products are of the dtype of branch, and sums of them float32. norm: "layer" or "rms".
    """
    typed = weights._replace(up=weights.up.to(branch_NTD.dtype), down=weights.down.to(branch_NTD.dtype))
    x_MD, branch_MD = x_NTD.flatten(0, 1), branch_NTD.flatten(0, 1)
    out_MD, _, _ = _feedforward(x_MD, branch_MD, *typed, norm, epsilon, activation)
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
    norm: str,
    epsilon: float,
    activation: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """The result, (M, D), and for the gradients norm(r), (M, D), with the mean and the factor of each position, (2, M).

    An RMS norm has a mean of 0.
    """
    weights = Weights(norm_D, norm_bias_D, up_FD, up_bias_F, down_DF, down_bias_D)
    if not x_MD.is_cuda:
        return _plain(x_MD, branch_MD, weights, norm, epsilon, activation)
    from megabyte_mm.models.kernels.feedforward_triton import forward  # needs Triton

    return forward(x_MD.contiguous(), branch_MD.contiguous(), _contiguous(weights), norm, epsilon, activation)


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
    norm: str,
    activation: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The gradients of x and of branch, and the factors of those of the matrices.

    The factors are, in the dtype of products, the incoming gradient, the hidden activations and their gradients,
    (M, D), (M, F) and (M, F). Last come the gradients of the norm's weight and bias and of the biases of `down` and
    `up`, one after the other, (3 * D + F).
    """
    weights = Weights(norm_D, None, up_FD, up_bias_F, down_DF, None)
    if not x_MD.is_cuda:
        return _plain_backward(grad_MD, x_MD, branch_MD, normed_MD, statistics_2M, weights, norm, activation)
    from megabyte_mm.models.kernels.feedforward_triton import backward  # needs Triton

    grad_MD, x_MD, branch_MD = grad_MD.contiguous(), x_MD.contiguous(), branch_MD.contiguous()
    normed_MD, statistics_2M = normed_MD.contiguous(), statistics_2M.contiguous()
    return backward(grad_MD, x_MD, branch_MD, normed_MD, statistics_2M, _contiguous(weights), norm, activation)


@_feedforward_backward.register_fake
def _(grad_MD: Tensor, x_MD: Tensor, branch_MD: Tensor, *others: Any) -> Gradients:
    (positions, width), hidden = x_MD.shape, len(others[3])
    wide = torch.promote_types(x_MD.dtype, torch.float32)
    shapes = (positions, width), (positions, width), (positions, hidden), (positions, hidden)
    grad_branch_MD, half_MD, hidden_MF, grad_hidden_MF = (branch_MD.new_empty(shape) for shape in shapes)
    sums_X = x_MD.new_empty(3 * width + hidden, dtype=wide)
    return x_MD.new_empty(positions, width), grad_branch_MD, half_MD, hidden_MF, grad_hidden_MF, sums_X


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    x_MD, branch_MD, norm_D, norm_bias_D, up_FD, up_bias_F, down_DF, down_bias_D, ctx.norm, _, ctx.activation = inputs
    _, normed_MD, statistics_2M = output
    weights = norm_D, norm_bias_D, up_FD, up_bias_F, down_DF, down_bias_D
    ctx.dtypes = [None if weight is None else weight.dtype for weight in weights]
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(x_MD, branch_MD, normed_MD, statistics_2M, norm_D, up_FD, up_bias_F, down_DF)


def _differentiate(ctx: Any, grad_MD: Tensor, *_: None) -> tuple[Tensor | None, ...]:
    x_MD, branch_MD, normed_MD, *others = ctx.saved_tensors
    grad_x_MD, grad_branch_MD, half_MD, hidden_MF, grad_hidden_MF, sums_X = _feedforward_backward(
        grad_MD, x_MD, branch_MD, normed_MD, *others, ctx.norm, ctx.activation
    )
    width = x_MD.shape[1]
    norm_D, norm_bias_D, down_bias_D, up_bias_F = sums_X.split([width, width, width, hidden_MF.shape[1]])
    needs = ctx.needs_input_grad
    up_FD = grad_hidden_MF.t() @ normed_MD if needs[4] else None
    down_DF = half_MD.t() @ hidden_MF if needs[6] else None
    grads = norm_D, norm_bias_D, up_FD, up_bias_F, down_DF, down_bias_D
    typed = [
        None if grad is None or dtype is None else grad.to(dtype) for grad, dtype in zip(grads, ctx.dtypes, strict=True)
    ]
    return grad_x_MD, grad_branch_MD, *typed, None, None, None


_feedforward.register_autograd(_differentiate, setup_context=_save)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _suits(*layer: Any) -> bool:
    return _settled(Layer(*layer))


@cache
def _settled(layer: Layer) -> bool:
    """Whether the kernels are right and fast for such a layer, found out once in a process."""
    if not runs_triton(layer.device):
        return False
    from megabyte_mm.models.kernels.feedforward_triton import fits

    what = f"a feed-forward layer of {layer.width} x {layer.hidden}"
    return fits(layer.device, layer.width) and agree(partial(_is_right_and_fast, layer), what, layer.device)


def _is_right_and_fast(layer: Layer) -> bool:
    compare_kernels(layer)
    own, separate = kernel_times(layer)
    return own < GAIN * separate


def compare_kernels(layer: Layer) -> None:
    """Raise AssertionError unless the kernels compute what the definition does, up to rounding."""
    from megabyte_mm.models.kernels import feedforward_triton as kernels

    x_MD, branch_MD, grad_MD, weights = example(layer, positions=20_011)
    options = layer.norm, 1e-5, layer.activation
    values, wanted = (run(x_MD, branch_MD, weights, *options) for run in (kernels.forward, _plain))
    inputs = (grad_MD, x_MD, branch_MD, *wanted[1:], weights, layer.norm, layer.activation)
    gradients, wanted_gradients = (
        (*others, *torch.split(sums_X, [layer.width] * 3 + [layer.hidden]))
        for *others, sums_X in (kernels.backward(*inputs), _plain_backward(*inputs))
    )
    behind = LIMIT_BEHIND_STEP if layer.activation == "relu" else LIMIT
    names = {
        "output": LIMIT, "norm": LIMIT, "statistics": LIMIT,
        "gradient of x": behind, "gradient of branch": behind, "rounded gradient": LIMIT,
        "hidden activations": LIMIT, "gradient of them": behind,
        "gradient of the norm's weight": behind, "gradient of the norm's bias": behind,
        "gradient of the second bias": LIMIT, "gradient of the first bias": behind,
    }  # fmt: skip
    results = zip(names.items(), (*values, *gradients), (*wanted, *wanted_gradients), strict=True)
    for (name, limit), got, expected in results:
        difference = (got.float() - expected.float()).norm() / expected.float().norm()
        if not difference < limit:
            raise AssertionError(f"{name} differs by {difference:.3f} of its size")
    largest = max((got.float() - want.float()).abs().max() for got, want in zip(values[:2], wanted[:2], strict=True))
    if not largest < 0.2:
        raise AssertionError(f"an element of output or norm differs by {largest:.3f}")


def example(layer: Layer, positions: int) -> tuple[Tensor, Tensor, Tensor, Weights]:
    """x, branch and an incoming gradient, (M, D), and weights, at random."""
    generator = torch.Generator(layer.device).manual_seed(0)

    def sampled(*shape: int, dtype: torch.dtype | None = None, scale: float = 1.0, mean: float = 0.0) -> Tensor:
        numbers = torch.randn(shape, generator=generator, device=layer.device, dtype=torch.float32)
        return numbers.mul_(scale).add_(mean).to(dtype or layer.parameter_dtype)

    width, hidden, dtype = layer.width, layer.hidden, layer.dtype
    x_MD = sampled(positions, width, dtype=layer.residual_dtype, mean=1.0)
    branch_MD = sampled(positions, width, dtype=dtype)
    grad_MD = sampled(positions, width, dtype=layer.residual_dtype)
    weights = Weights(
        sampled(width, scale=0.1, mean=1.0),
        sampled(width) if layer.norm == "layer" else None,
        sampled(hidden, width, dtype=dtype, scale=width**-0.5),
        sampled(hidden) if layer.biased else None,
        sampled(width, hidden, dtype=dtype, scale=hidden**-0.5),
        sampled(width) if layer.biased else None,
    )
    return x_MD, branch_MD, grad_MD, weights


def kernel_times(layer: Layer) -> tuple[float, float]:
    """Milliseconds of the kernels with the products behind them, and of torch's operations, forward and backward.

    The latter move as many bytes as a block that torch.compile has compiled.
    """
    from triton.testing import do_bench

    from megabyte_mm.models.kernels import feedforward_triton as kernels

    # As many positions for each width that kernels take longer than it takes to launch them.
    x_MD, branch_MD, grad_MD, weights = example(layer, positions=2**23 // layer.width)
    half_MD = grad_MD.to(layer.dtype)
    up_bias_F, down_bias_D = (
        None if bias is None else bias.to(layer.dtype) for bias in (weights.up_bias, weights.down_bias)
    )

    def fused() -> None:
        _, normed_MD, statistics_2M = kernels.forward(x_MD, branch_MD, weights, layer.norm, 1e-5, layer.activation)
        inputs = grad_MD, x_MD, branch_MD, normed_MD, statistics_2M
        _, _, half_MD, hidden_MF, grad_hidden_MF, _ = kernels.backward(*inputs, weights, layer.norm, layer.activation)
        grad_hidden_MF.t() @ normed_MD, half_MD.t() @ hidden_MF

    def separate() -> None:
        # What stands for others reads and writes as much: a product for the derivative of an activation, four sums for
        # norm and residual stream, forward and backward.
        x_MD + branch_MD
        hidden_MF = F.relu(F.linear(branch_MD, weights.up, up_bias_F))
        x_MD + F.linear(hidden_MF, weights.down, down_bias_D)
        grad_hidden_MF = (grad_MD.to(layer.dtype) @ weights.down) * hidden_MF
        x_MD + grad_hidden_MF @ weights.up
        grad_MD + branch_MD
        grad_hidden_MF.t() @ branch_MD, half_MD.t() @ hidden_MF
        if layer.biased:
            grad_hidden_MF.sum(0), half_MD.sum(0)

    with torch.no_grad(), torch.cuda.device_of(x_MD):  # type: ignore[no-untyped-call]
        return do_bench(fused, return_mode="median"), do_bench(separate, return_mode="median")


def _contiguous(weights: Weights) -> Weights:
    return Weights(*(None if weight is None else weight.contiguous() for weight in weights))  # type: ignore[arg-type]


def _plain(
    x_MD: Tensor, branch_MD: Tensor, weights: Weights, norm: str, epsilon: float, activation: str
) -> tuple[Tensor, Tensor, Tensor]:
    """The same by its definition: for tests on a CPU, and to check the kernels."""
    r_MD = _wide(x_MD) + branch_MD
    mean_M = r_MD.mean(1) if norm == "layer" else torch.zeros_like(r_MD[:, 0])
    centred_MD = r_MD - mean_M[:, None]
    factor_M = torch.rsqrt(centred_MD.square().mean(1) + epsilon)
    normed_MD = centred_MD * factor_M[:, None] * weights.norm
    if weights.norm_bias is not None:
        normed_MD = normed_MD + weights.norm_bias
    normed_MD = normed_MD.to(branch_MD.dtype, copy=True)
    hidden_MF = _activated(_linear(normed_MD, weights.up, weights.up_bias), activation)[0].to(branch_MD.dtype)
    out_MD = r_MD + _linear(hidden_MF, weights.down, weights.down_bias)
    return out_MD.to(x_MD.dtype), normed_MD, torch.stack([mean_M, factor_M])


def _plain_backward(
    grad_MD: Tensor,
    x_MD: Tensor,
    branch_MD: Tensor,
    normed_MD: Tensor,
    statistics_2M: Tensor,
    weights: Weights,
    norm: str,
    activation: str,
) -> Gradients:
    dtype = branch_MD.dtype
    mean_M1, factor_M1 = statistics_2M[:, :, None]
    standard_MD = (_wide(x_MD) + branch_MD - mean_M1) * factor_M1
    half_MD = grad_MD.to(dtype, copy=True)
    hidden_MF, slope_MF = _activated(_linear(normed_MD, weights.up, weights.up_bias), activation)
    grad_before_MF = _wide(half_MD @ weights.down) * slope_MF
    grad_normed_MD = _wide(grad_before_MF.to(dtype) @ weights.up)
    scaled_MD = grad_normed_MD * weights.norm
    # Of a norm: less the part along its output, and less the mean if it subtracts one.
    inner_MD = scaled_MD - standard_MD * (scaled_MD * standard_MD).mean(1, keepdim=True)
    if norm == "layer":
        inner_MD = inner_MD - scaled_MD.mean(1, keepdim=True)
    grad_r_MD = _wide(grad_MD) + inner_MD * factor_M1
    sums = (grad_normed_MD * standard_MD, grad_normed_MD, _wide(half_MD), grad_before_MF)
    return (
        grad_r_MD.to(x_MD.dtype),
        grad_r_MD.to(dtype, copy=True),
        half_MD,
        hidden_MF.to(dtype),
        grad_before_MF.to(dtype, copy=True),
        torch.cat([each.sum(0) for each in sums]),
    )


def _wide(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _linear(x_MK: Tensor, weight_NK: Tensor, bias_N: Tensor | None) -> Tensor:
    out_MN = _wide(x_MK @ weight_NK.t())
    return out_MN if bias_N is None else out_MN + bias_N


def _activated(x: Tensor, activation: str) -> tuple[Tensor, Tensor]:
    """The activation and its derivative."""
    if activation == "gelu":
        below = 0.5 * (1.0 + torch.erf(x * math.sqrt(0.5)))
        return x * below, below + x * torch.exp(-0.5 * x * x) * math.sqrt(0.5 / math.pi)
    rectified = F.relu(x)
    if activation == "relu2":
        return rectified * rectified, 2.0 * rectified
    return rectified, (x > 0.0).to(x.dtype)
