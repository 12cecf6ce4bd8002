"""Distributions written out, and samples from them."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from megabyte_mm.alphabet import END, SYMBOLS
from megabyte_mm.generation.sampling import SamplingParams, distribution, inverse_cdf, keep_top_k, keep_top_p


def logits(weights: dict[int, float]) -> Tensor:
    """(1, 257) logits of these weights, and of next to nothing for all other symbols."""
    row = torch.full((1, SYMBOLS), -1e9, dtype=torch.float64)
    for symbol, weight in weights.items():
        row[0, symbol] = torch.tensor(weight, dtype=torch.float64).log()
    return row


def shares(sampling: SamplingParams, weights: dict[int, float]) -> dict[int, Any]:
    """The symbols that may be sampled, with their probabilities."""
    row = distribution(logits(weights), sampling)[0]
    return {symbol: pytest.approx(row[symbol].item(), abs=1e-12) for symbol in row.nonzero()[:, 0].tolist()}


WEIGHTS = {0: 0.5, 10: 0.25, 65: 0.125, END: 0.125}


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (SamplingParams(), WEIGHTS),
        (SamplingParams(temperature=0.5), {0: 16 / 22, 10: 4 / 22, 65: 1 / 22, END: 1 / 22}),
        (SamplingParams(temperature=2.0, top_k=2), {0: 2**0.5 / (1 + 2**0.5), 10: 1 / (1 + 2**0.5)}),
        (SamplingParams(top_k=1), {0: 1.0}),
        (SamplingParams(top_k=2), {0: 2 / 3, 10: 1 / 3}),
        (SamplingParams(top_k=3), {0: 4 / 7, 10: 2 / 7, 65: 1 / 7}),
        (SamplingParams(top_k=4), WEIGHTS),
        (SamplingParams(top_k=1000), WEIGHTS),
        (SamplingParams(top_p=0.4), {0: 1.0}),
        (SamplingParams(top_p=0.6), {0: 2 / 3, 10: 1 / 3}),
        (SamplingParams(top_p=0.8), {0: 4 / 7, 10: 2 / 7, 65: 1 / 7}),
        (SamplingParams(top_p=0.9), WEIGHTS),
        (SamplingParams(top_p=1.0), WEIGHTS),
        (SamplingParams(top_p=1e-12), {0: 1.0}),
        (SamplingParams(top_k=2, top_p=0.6), {0: 1.0}),  # of the two, the first holds 2/3
        (SamplingParams(temperature=0.5, top_p=0.7), {0: 1.0}),  # temperature comes first
        (SamplingParams(allow_end=False), {0: 4 / 7, 10: 2 / 7, 65: 1 / 7}),
        (SamplingParams(allow_end=False, top_k=4), {0: 4 / 7, 10: 2 / 7, 65: 1 / 7}),
        (SamplingParams(allow_end=False, top_p=0.5), {0: 1.0}),
        (SamplingParams(temperature=0.0), {0: 1.0}),
        (SamplingParams(temperature=1e-300), {0: 1.0}),
        (SamplingParams(temperature=1e-310, allow_end=False), {0: 1.0}),
    ],
)
def test_the_distribution_is_exactly(sampling: SamplingParams, expected: dict[int, float]) -> None:
    assert shares(sampling, WEIGHTS) == expected


def test_end_has_probability_0_where_it_is_not_allowed() -> None:
    likeliest = {END: 0.9, 3: 0.1}
    for sampling in (
        SamplingParams(0.0, allow_end=False),
        SamplingParams(top_k=1, allow_end=False),
        SamplingParams(allow_end=False),
    ):
        assert shares(sampling, likeliest) == {3: 1.0}
    assert shares(SamplingParams(0.0), likeliest) == {END: 1.0}


def test_of_equally_likely_symbols_the_lower_ones_stay() -> None:
    flat = torch.zeros(2, SYMBOLS)
    for sampling in (SamplingParams(top_k=3), SamplingParams(top_p=2.5 / SYMBOLS)):
        kept = distribution(flat, sampling)
        assert kept[1].nonzero()[:, 0].tolist() == [0, 1, 2]
        torch.testing.assert_close(kept[1, :3], torch.full((3,), 1 / 3, dtype=torch.float64))
    assert distribution(flat, SamplingParams(temperature=0.0)).argmax(1).tolist() == [0, 0]


def test_each_row_has_a_border_of_its_own() -> None:
    rows = torch.tensor([[0.6, 0.3, 0.1], [0.05, 0.15, 0.8]]).log()
    assert keep_top_p(rows, 0.7).isfinite().tolist() == [[True, True, False], [False, False, True]]
    assert keep_top_k(rows, 2).isfinite().tolist() == [[True, True, False], [False, True, True]]


def test_top_p_of_one_keeps_the_least_likely_symbol() -> None:
    row = torch.tensor([[0.0] + [-38.0] * 256], dtype=torch.float64)
    assert int((distribution(row, SamplingParams(top_p=1.0)) > 0).sum()) == SYMBOLS


def test_low_precision_logits_are_sampled_in_float64() -> None:
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        row = distribution(torch.zeros(1, SYMBOLS, dtype=dtype), SamplingParams())
        assert row.dtype == torch.float64
        torch.testing.assert_close(row.sum().item(), 1.0)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("temperature", value) for value in (-0.1, float("inf"), float("nan"))],
        *[("top_k", value) for value in (0, -3)],
        *[("top_p", value) for value in (0.0, 1.1, -1.0, float("nan"))],
    ],
)
def test_settings_out_of_range_are_named(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{field} is {value}"):
        SamplingParams(**{field: value})  # type: ignore[arg-type]


def sampled(probabilities: Sequence[float], uniform: float) -> int:
    rows = torch.tensor([probabilities], dtype=torch.float64)
    return int(inverse_cdf(rows, torch.tensor([uniform], dtype=torch.float64)))


ALMOST_ONE = 1 - 2**-53
"""The largest number that torch.rand gives in float64."""


def test_inverse_cdf_returns_the_symbol_whose_interval_holds_the_number() -> None:
    probabilities = [0.25, 0.0, 0.5, 0.25]
    edges = {0.0: 0, 0.2499: 0, 0.25: 2, 0.7499: 2, 0.75: 3, ALMOST_ONE: 3}
    assert {uniform: sampled(probabilities, uniform) for uniform in edges} == edges


def test_inverse_cdf_never_returns_a_symbol_of_probability_0() -> None:
    assert sampled([0.0, 0.0, 1.0, 0.0], 0.0) == 2
    assert sampled([0.0, 0.0, 1.0, 0.0], ALMOST_ONE) == 2
    for parts in (3, 7, 10, 49, 253):  # sums that rounding leaves beside 1
        assert sampled([1 / parts] * parts + [0.0], ALMOST_ONE) == parts - 1


def test_samples_follow_the_distribution() -> None:
    probabilities = torch.tensor([0.5, 0.0, 0.3, 0.15, 0.05], dtype=torch.float64)
    count = 40_000
    uniform = torch.rand(count, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    counts = torch.bincount(inverse_cdf(probabilities.expand(count, -1), uniform), minlength=5)
    deviations = (counts - count * probabilities).abs() / (count * probabilities * (1 - probabilities)).sqrt()
    assert counts[1] == 0
    assert float(deviations[probabilities > 0].max()) < 4
