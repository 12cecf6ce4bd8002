"""Weights of exported models in fewer bits: bfloat16, or int8 with a scale for each row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

import torch
from torch import Tensor

Precision = Literal["float32", "bfloat16", "int8"]
SCALE = ".int8_scale"
"""Ends the name of the scales of an int8 weight."""
LARGEST = 127


def pack(weights: Mapping[str, Tensor], precision: Precision) -> dict[str, Tensor]:
    """Round the weights of two and more dimensions; vectors stay as they are.

    An int8 weight has the name of the weight, and (rows,) bfloat16 scales beside it, of which each is the largest
    number of a row over 127. What `unpack` returns is packed without a further change. Raises ValueError for an unknown
    precision.
    """
    if precision not in get_args(Precision):
        raise ValueError(f"--precision {precision}: must be one of {', '.join(get_args(Precision))}")
    packed: dict[str, Tensor] = {}
    for name, weight in weights.items():
        if weight.dim() < 2 or precision == "float32":
            packed[name] = weight
        elif precision == "bfloat16":
            packed[name] = weight.bfloat16()
        else:
            packed[name], packed[name + SCALE] = _to_int8(weight.float())
    return packed


def unpack(packed: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights in float32, where they are int8; others as they are.

    Takes four times the memory of the int8 numbers. Raises ValueError for one without a scale for each row.
    """
    weights = {name: weight for name, weight in packed.items() if not _is_scale(name, packed)}
    for name, weight in weights.items():
        if weight.dtype == torch.int8:
            scale = packed.get(name + SCALE)
            if weight.dim() < 2 or scale is None or scale.shape != weight.shape[:1] or not scale.is_floating_point():
                raise ValueError(f"its int8 weight {name} has no {name}{SCALE} with a scale for each row")
            weights[name] = weight.float() * _as_column(scale.float(), weight)
    return weights


def _to_int8(weight: Tensor) -> tuple[Tensor, Tensor]:
    """(rows, ...) float32 -> whole numbers (rows, ...) int8, scales (rows,) bfloat16."""
    # The scale is rounded first: with its 8 bits, 127 times it is exact in float32, so that packing twice is exact too.
    scale = (weight.flatten(1).abs().amax(1) / LARGEST).bfloat16().clamp_min(torch.finfo(torch.bfloat16).tiny)
    whole = (weight / _as_column(scale.float(), weight)).round().clamp(-LARGEST, LARGEST)
    return whole.to(torch.int8), scale


def _as_column(scale: Tensor, weight: Tensor) -> Tensor:
    return scale.reshape(-1, *[1] * (weight.dim() - 1))


def _is_scale(name: str, packed: Mapping[str, Tensor]) -> bool:
    weight = packed.get(name.removesuffix(SCALE))
    return name.endswith(SCALE) and weight is not None and weight.dtype == torch.int8
