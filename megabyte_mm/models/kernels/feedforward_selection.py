"""Whether feed-forward layers take the fused operation: where the kernels are right on the user's card, and faster.

Legend: N sequences, T positions of each, M = N * T, D model width, F hidden width.
"""

from __future__ import annotations

import logging
from functools import cache, partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from megabyte_mm.models.kernels.feedforward import FeedForwardOptions, Weights, plain, plain_backward
from megabyte_mm.models.kernels.support import DTYPES, agree, kept_by_dropout, runs_triton

log = logging.getLogger(__name__)
DEVICES = ("cuda",)
"""Types of devices that run the kernels."""
ACTIVATIONS = ("relu", "gelu", "relu2")
"""Those of layers without a gate."""
MAX_WIDTH = 512
"""The largest model width: sums of wider products do not fit the registers."""
MIN_POSITIONS = 8192
"""Positions. A program takes 64 or 128 of them, and most processors of a GPU should have one."""
MAX_TIME_SHARE = 0.95
"""The kernels are used if they take less than this share of the time of the stand-in in `kernel_times`."""
LIMIT, LIMIT_AFTER_RELU = 0.01, 0.05
"""How far results of the kernels may be from those of the definition, relative to their size. Rounding moves some
inputs of ReLU across zero, where the derivative is a step."""


class Layer(NamedTuple):
    """What the kernels are compiled for. parameter_dtype: of the norm's weights and of all biases."""

    device: torch.device
    dtype: torch.dtype
    residual_dtype: torch.dtype
    parameter_dtype: torch.dtype
    width: int
    hidden: int
    biased: bool
    options: FeedForwardOptions


def fuses(x_NTD: Tensor, branch_NTD: Tensor, up_FD: Tensor, biased: bool, options: FeedForwardOptions) -> bool:
    """True if `fused_feedforward` is right for training on such inputs, and faster than compiled code would be."""
    if x_NTD.device.type not in DEVICES or branch_NTD.dtype not in DTYPES or not torch.is_grad_enabled():
        return False
    (sequences, length, width), hidden = x_NTD.shape, up_FD.shape[0]
    if (
        sequences * length < MIN_POSITIONS
        or width > MAX_WIDTH
        or width % 16
        or hidden % 64
        or options.activation not in ACTIVATIONS
    ):
        return False
    # Which way is faster depends on a clock, and so would the rounding.
    if torch.are_deterministic_algorithms_enabled():
        return False
    suits: bool = _suits(x_NTD.device, branch_NTD.dtype, x_NTD.dtype, up_FD.dtype, width, hidden, biased, *options)
    return suits


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _suits(*layer: Any) -> bool:
    *kind, norm, epsilon, activation, dropout = layer
    kind.append(FeedForwardOptions(norm, epsilon, activation, dropout))
    return _settled(Layer(*kind))


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
    own, stand_in = kernel_times(layer)
    faster = own < MAX_TIME_SHARE * stand_in
    sizes, chosen = f"{layer.width} x {layer.hidden}", "the project's kernels" if faster else "torch's operations"
    log.info("feed-forward layers of %s take %s: %.3f ms beside %.3f", sizes, chosen, own, stand_in)
    return faster


def compare_kernels(layer: Layer) -> None:
    """Raise AssertionError unless the kernels compute what the definition does, up to rounding."""
    from megabyte_mm.models.kernels import feedforward_triton as kernels

    x_MD, branch_MD, grad_MD, weights = example(layer, positions=20_011)
    kept_MD = kept_by_dropout(tuple(x_MD.shape), layer.options.dropout, layer.device)
    options = weights, kept_MD, layer.options
    values, wanted = (run(x_MD, branch_MD, *options) for run in (kernels.forward, plain))
    inputs = grad_MD, x_MD, branch_MD, *wanted[1:], *options
    gradients, wanted_gradients = (
        (*others, *torch.split(sums_X, [layer.width] * 3 + [layer.hidden]))
        for *others, sums_X in (kernels.backward(*inputs), plain_backward(*inputs))
    )
    behind = LIMIT_AFTER_RELU if layer.options.activation == "relu" else LIMIT
    names = {
        "output": LIMIT, "norm": LIMIT, "statistics": LIMIT,
        "gradient of x": behind, "gradient of branch": behind, "rounded gradient": LIMIT,
        "hidden activations": LIMIT, "gradient before the activation": behind,
        "gradient of the norm's weight": behind, "gradient of the norm's bias": behind,
        "gradient of the second bias": LIMIT, "gradient of the first bias": behind,
    }  # fmt: skip
    results = zip(names.items(), (*values, *gradients), (*wanted, *wanted_gradients), strict=True)
    for (name, limit), got, expected in results:
        difference = (got.float() - expected.float()).norm() / expected.float().norm()
        if not difference < limit:
            raise AssertionError(f"{name} differs by {difference:.3f} of its size")
    largest = max((got.float() - want.float()).abs().max() for got, want in zip(values[:2], wanted[:2], strict=True))
    if not largest < 0.2 / (1.0 - layer.options.dropout):
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
        sampled(width) if layer.options.norm == "layer" else None,
        sampled(hidden, width, dtype=dtype, scale=width**-0.5),
        sampled(hidden) if layer.biased else None,
        sampled(width, hidden, dtype=dtype, scale=hidden**-0.5),
        sampled(width) if layer.biased else None,
    )
    return x_MD, branch_MD, grad_MD, weights


def kernel_times(layer: Layer) -> tuple[float, float]:
    """Milliseconds of the kernels with the products behind them, and of a stand-in for compiled code, both ways.

    The stand-in computes the same products, and moves as many bytes between them as torch.compile's kernels do.
    """
    from triton.testing import do_bench

    from megabyte_mm.models.kernels import feedforward_triton as kernels

    # As many positions for each width that kernels take longer than it takes to launch them.
    x_MD, branch_MD, grad_MD, weights = example(layer, positions=2**23 // layer.width)
    rounded_MD = grad_MD.to(layer.dtype)
    up_bias_F, down_bias_D = (
        None if bias is None else bias.to(layer.dtype) for bias in (weights.up_bias, weights.down_bias)
    )

    def fused() -> None:
        options = weights, None, layer.options
        _, normed_MD, statistics_2M = kernels.forward(x_MD, branch_MD, *options)
        inputs = grad_MD, x_MD, branch_MD, normed_MD, statistics_2M
        _, _, rounded_MD, hidden_MF, grad_before_MF, _ = kernels.backward(*inputs, *options)
        grad_before_MF.t() @ normed_MD, rounded_MD.t() @ hidden_MF

    def stand_in() -> None:
        # A product reads and writes as much as the derivative of an activation, and four sums as much as norm and
        # residual stream.
        x_MD + branch_MD
        hidden_MF = F.relu(F.linear(branch_MD, weights.up, up_bias_F))
        x_MD + F.linear(hidden_MF, weights.down, down_bias_D)
        grad_before_MF = (grad_MD.to(layer.dtype) @ weights.down) * hidden_MF
        x_MD + grad_before_MF @ weights.up
        grad_MD + branch_MD
        grad_before_MF.t() @ branch_MD, rounded_MD.t() @ hidden_MF
        if layer.biased:
            grad_before_MF.sum(0), rounded_MD.sum(0)

    with torch.no_grad(), torch.cuda.device_of(x_MD):  # type: ignore[no-untyped-call]
        return do_bench(fused, return_mode="median"), do_bench(stand_in, return_mode="median")
