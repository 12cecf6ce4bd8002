"""Sample a symbol from logits: temperature, top-k and top-p (nucleus) sampling as pure functions.

Legend: B rows, V the 257 symbols.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from megabyte_mm.alphabet import END
from megabyte_mm.errors import ArgumentValueError


@dataclass(frozen=True)
class SamplingParams:
    """Sampling settings.

    Args:
        temperature: Divides the logits: below 1 sharper, above 1 flatter, 0 always the likeliest symbol.
        top_k: Sample among the k likeliest symbols only.
        top_p: Sample among the fewest likeliest symbols whose probabilities add up to this (nucleus sampling).
        allow_end: Allow END to be sampled; not for streams of fixed size.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    allow_end: bool = True

    def __post_init__(self) -> None:
        if not 0.0 <= self.temperature < float("inf"):
            raise ArgumentValueError("temperature", f"is {self.temperature}; it must be a number from 0 up")
        if self.top_k is not None and self.top_k < 1:
            raise ArgumentValueError("top_k", f"is {self.top_k}; it must be at least 1")
        if self.top_p is not None and not 0.0 < self.top_p <= 1.0:
            raise ArgumentValueError("top_p", f"is {self.top_p}; it must be above 0 and at most 1")


def sample(logits_BV: Tensor, uniform_B: Tensor, sampling: SamplingParams) -> Tensor:
    """Sample a symbol for each row, on the device of the logits.

    logits: (B, V) float; uniform: (B,) float64 in [0, 1), the rows' random numbers -> (B,) int64.
    """
    if sampling.temperature == 0.0:
        return logits_BV[:, : END + sampling.allow_end].argmax(1)
    # Apple's accelerator has no float64.
    exact_BV = logits_BV.cpu() if logits_BV.device.type == "mps" else logits_BV
    return inverse_cdf(distribution(exact_BV, sampling), uniform_B).to(logits_BV.device)


def distribution(logits_BV: Tensor, sampling: SamplingParams) -> Tensor:
    """Return the probabilities that are sampled from: (B, V) logits -> (B, V) float64, rows summing to 1."""
    logits_BV = logits_BV.double()
    if not sampling.allow_end:
        logits_BV = F.pad(logits_BV[:, :END], (0, 1), value=float("-inf"))
    if sampling.temperature == 0.0:
        return torch.zeros_like(logits_BV).scatter_(1, logits_BV.argmax(1, keepdim=True), 1.0)
    if sampling.temperature != 1.0:
        # With the largest logit at 0, no temperature, however small, divides it into infinity.
        logits_BV = (logits_BV - logits_BV.amax(1, keepdim=True)) / sampling.temperature
    if sampling.top_k is not None:
        logits_BV = keep_top_k(logits_BV, sampling.top_k)
    if sampling.top_p is not None:
        logits_BV = keep_top_p(logits_BV, sampling.top_p)
    return logits_BV.softmax(1)


def keep_top_k(logits_BV: Tensor, k: int) -> Tensor:
    """Set all but each row's k largest logits to -inf; of equal ones at the border, the lower symbols stay."""
    if k >= logits_BV.shape[1]:
        return logits_BV
    kept = logits_BV.sort(dim=1, descending=True, stable=True).indices[:, :k]
    return torch.full_like(logits_BV, float("-inf")).scatter_(1, kept, logits_BV.gather(1, kept))


def keep_top_p(logits_BV: Tensor, p: float) -> Tensor:
    """Set all logits to -inf but those of each row's fewest likeliest symbols that together have probability p."""
    if p >= 1.0:
        return logits_BV
    ordered_BV, order_BV = logits_BV.sort(dim=1, descending=True, stable=True)
    before_BV = F.pad(ordered_BV.softmax(1).cumsum(1)[:, :-1], (1, 0))
    return torch.empty_like(logits_BV).scatter_(1, order_BV, ordered_BV.masked_fill(before_BV >= p, float("-inf")))


def inverse_cdf(probabilities_BV: Tensor, uniform_B: Tensor) -> Tensor:
    """Return the symbol at which the cumulative probability exceeds the uniform number: (B, V), (B,) -> (B,) int64."""
    cumulative_BV = probabilities_BV.cumsum(1)
    # Rounding may leave the sum a little off 1. Scaled to the sum, a number below 1 stays below the last step.
    target_B1 = (uniform_B * cumulative_BV[:, -1]).unsqueeze(1)
    return torch.searchsorted(cumulative_BV, target_B1, right=True).squeeze(1)
