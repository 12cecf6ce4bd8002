"""The backend and the weight precision of a decoder's steps.

Legend: N outputs, K inputs.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Literal, TypeVar, get_args

import torch
from torch import Tensor, nn

Precision = Literal["bfloat16", "int8"]
Backend = Literal["auto", "native", "eager", "compile"]
Model = TypeVar("Model", bound=nn.Module)


@dataclass(frozen=True)
class Execution:
    """The backend and precision of decoding steps.

    Args:
        backend: native is C++ code for CPUs, built on first use; eager is torch's operations one by one; compile uses
            torch.compile. For float32 models auto is native on a CPU, and kernels of Triton on a GPU, where each
            can be built, else torch's operations. On a GPU auto and compile capture whole patches as CUDA graphs.
        precision: Round the weights of linear layers to it, so that they are read faster; None leaves them as they are.
        exact: Keep products and caches in float32 on a GPU too, where caches, and products by torch, are otherwise
            bfloat16.
    """

    backend: Backend = "auto"
    precision: Precision | None = None
    exact: bool = False

    def __post_init__(self) -> None:
        if self.backend not in get_args(Backend):
            raise ValueError(f"backend is {self.backend!r}; known: {', '.join(get_args(Backend))}")
        if self.precision not in (None, *get_args(Precision)):
            raise ValueError(f"precision is {self.precision!r}; known: {', '.join(get_args(Precision))}")

    def dtype(self, like: Tensor) -> torch.dtype:
        """The dtype of caches, and of products by torch, for such weights.

        It is theirs, or bfloat16 on a GPU for a lower precision.
        """
        on_gpu = like.device.type == "cuda" and like.dtype == torch.float32
        return torch.bfloat16 if on_gpu and self.precision is not None and not self.exact else like.dtype


DEFAULT_EXECUTION = Execution()


def int8_weight(weight_NK: Tensor) -> tuple[Tensor, Tensor]:
    """Integers from -127 to 127, and the scale of each row: (N, K) int8, (N,)."""
    scale_N = (weight_NK.abs().amax(1) / 127).clamp_min(torch.finfo(weight_NK.dtype).tiny)
    return (weight_NK / scale_N[:, None]).round().to(torch.int8), scale_N


def stored_weight(weight_NK: Tensor, precision: Precision | None) -> tuple[Tensor, Tensor | None]:
    """The weight as steps of that precision hold it, and the scale of each row for int8."""
    if precision == "int8":
        return int8_weight(weight_NK.detach())
    return weight_NK.detach().bfloat16() if precision == "bfloat16" else weight_NK.detach(), None


def with_rounded_weights(model: Model, precision: Precision, tables: tuple[str, ...] = ()) -> Model:
    """A copy of a model whose linear layers, and the named tables, are rounded to that precision.

    Its logits are those of steps of that precision, so that scoring it measures the cost of the rounding.
    """
    rounded = copy.deepcopy(model)
    linear = {f"{name}.weight" for name, part in rounded.named_modules() if isinstance(part, nn.Linear)}
    with torch.no_grad():
        for name, weight in rounded.named_parameters():
            if name in linear or name in tables:
                weight.copy_(_rounded(weight, precision))
    return rounded


def _rounded(weight_NK: Tensor, precision: Precision) -> Tensor:
    if precision == "bfloat16":
        return weight_NK.bfloat16().to(weight_NK.dtype)
    whole_NK, scale_N = int8_weight(weight_NK)
    return whole_NK.to(weight_NK.dtype) * scale_N[:, None]
