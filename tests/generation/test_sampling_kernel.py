"""The kernel that samples gives the symbols of `sample` and notes what `next_symbols` notes."""

from __future__ import annotations

import sys
from itertools import islice
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from megabyte_mm.alphabet import END
from megabyte_mm.generation import patches
from megabyte_mm.generation.engine import row_seeds, stream_symbols
from megabyte_mm.generation.patches import NO_SYMBOL, next_symbols
from megabyte_mm.generation.sampling import SamplingParams, sample
from megabyte_mm.models import MegabyteConfig, StackConfig
from megabyte_mm.models.megabyte import decoder
from tests.triton_interpreter import needs_triton, run_interpreted

STACK = StackConfig(dim=16, layers=1, heads=2)


def choose(
    logits_BV: Tensor,
    temperature_1: Tensor,
    uniform_B: Tensor,
    forced_B: Tensor,
    left_B: Tensor,
    finished_B: Tensor,
    read_B: Tensor,
    new_B: Tensor,
    position: int,
    allow_end: bool,
) -> None:
    """The kernel's definition in torch."""
    sampled_B = sample(logits_BV, uniform_B, SamplingParams(float(temperature_1), allow_end=allow_end))
    reads_B, news_B = next_symbols(sampled_B, forced_B, finished_B)
    read_B.copy_(reads_B)
    new_B.copy_(news_B)
    finished_B |= left_B == position + 1
    if allow_end:
        finished_B |= news_B == END


def always_seven(*inputs: Any) -> None:
    choose(*inputs)
    for symbols_B in inputs[6:8]:
        symbols_B.fill_(7)


@pytest.mark.parametrize("sampling", [SamplingParams(), SamplingParams(0.7, allow_end=False)], ids=["END", "no END"])
def test_patches_sampled_by_it_have_the_symbols_of_those_without(
    sampling: SamplingParams, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = ModuleType("sampling_kernel")
    kernel.choose = choose  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "megabyte_mm.generation.sampling_kernel", kernel)
    monkeypatch.setattr("megabyte_mm.generation.sampling_kernel", kernel, raising=False)
    monkeypatch.setattr(decoder, "reads_patches", lambda device, execution: True)
    torch.manual_seed(0)
    model = MegabyteConfig(4, 40, STACK, STACK, init_std=0.3).build().eval()
    prefix_BT = torch.randint(256, (3, 10))

    def symbols() -> Tensor:
        return torch.stack(list(islice(stream_symbols(model, prefix_BT, 30, sampling, row_seeds(0, 3)), 30)))

    plain = symbols()
    monkeypatch.setattr(patches, "runs_kernels", lambda like: True)
    patches._compare_kernel(torch.device("cpu"))
    monkeypatch.setattr(patches, "_kernel_agrees", lambda device: True)
    assert torch.equal(symbols(), plain)
    kernel.choose = always_seven  # type: ignore[attr-defined]
    monkeypatch.setattr(patches, "_kernel_agrees", lambda device: True)
    assert not torch.equal(symbols(), plain)
    with pytest.raises(AssertionError):
        patches._compare_kernel(torch.device("cpu"))


@needs_triton
def test_the_kernel_is_its_definition() -> None:
    run_interpreted(__name__, "check_kernel")


def check_kernel() -> None:
    from megabyte_mm.generation import sampling_kernel

    torch.manual_seed(0)
    for temperature, allow_end in ((1.0, True), (0.7, False), (1e-3, True)):
        logits_BV, uniform_B = 3 * torch.randn(200, 257), torch.rand(200, dtype=torch.float64)
        logits_BV[:5, END] = 20.0
        uniform_B[0], uniform_B[1] = 0.0, 1 - 2**-53
        logits_BV[6] = torch.nan
        forced_B = torch.where(torch.rand(200) < 0.2, torch.randint(256, (200,)), NO_SYMBOL)
        left_B, finished_B = torch.randint(0, 6, (200,)), torch.rand(200) < 0.2
        results = []
        for run in (choose, sampling_kernel.choose):
            ends_B, symbols_2B = finished_B.clone(), torch.zeros(2, 200, dtype=torch.long)
            read_B, new_B = symbols_2B
            temperature_1 = torch.tensor([temperature], dtype=torch.float64)
            run(logits_BV, temperature_1, uniform_B, forced_B, left_B, ends_B, read_B, new_B, 3, allow_end)
            results.append((symbols_2B, ends_B))
        torch.testing.assert_close(results[1], results[0])
