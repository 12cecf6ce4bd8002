"""Generation on a GPU: the symbols of a CPU, on one device, with at most one wait for each patch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from megabyte_mm.generation.batching import GenerationRequest, generate_batch
from megabyte_mm.generation.engine import SYNC_INTERVAL, row_seeds, stream_symbols
from megabyte_mm.generation.sampling import SamplingParams
from megabyte_mm.models import ByteModel, Execution, MegabyteConfig
from tests.simulated_gpu.device import SimulatedGpu, on_gpu, to_cpu, to_gpu
from tests.simulated_gpu.test_training import BASE, MODELS, WINDOW

EAGER = Execution("eager")
SAMPLING = SamplingParams(temperature=0.9, top_k=50, top_p=0.9)
PREFIX = 3


def generated(model: ByteModel, gpu: SimulatedGpu | None = None) -> torch.Tensor:
    """(3, t) symbols of rows of three conditions; waits are counted behind the first of them."""
    prefix, conditions = torch.arange(3 * PREFIX).view(3, PREFIX), torch.arange(3)
    if gpu is not None:
        prefix, conditions = to_gpu(prefix), to_gpu(conditions)
    columns: list[torch.Tensor] = []
    length = WINDOW - PREFIX - 1  # until the window is full
    for ids in stream_symbols(model, prefix, length, SAMPLING, row_seeds(0, 3), conditions, None, EAGER):
        if gpu is not None and not columns:
            gpu.reset()
        columns.append(to_cpu(ids).clone())
    return torch.stack(columns, 1)


@pytest.mark.parametrize("name", MODELS)
def test_symbols_are_those_of_the_cpu_and_none_is_waited_for(name: str) -> None:
    torch.manual_seed(0)
    model = MODELS[name][0].build()
    wanted = generated(model)
    with SimulatedGpu() as gpu:
        model = on_gpu(model)
        generated(model, gpu)  # makes tables of rotations
        got = generated(model, gpu)
    assert got.tolist() == wanted.tolist()
    assert not gpu.waits


def test_a_batch_waits_for_the_end_of_rows_and_for_its_symbols_and_for_nothing_else() -> None:
    steps = 3 * SYNC_INTERVAL
    config: MegabyteConfig = replace(BASE, max_len=4 + steps, cross_patch=2)
    torch.manual_seed(0)
    model = config.build()
    requests = [GenerationRequest(np.arange(2, dtype=np.uint8), steps, count=2)]
    wanted = generate_batch(model, requests, SAMPLING, execution=EAGER)
    with SimulatedGpu() as gpu:
        model = on_gpu(model)
        marks: list[int] = []
        got = generate_batch(
            model, requests, SAMPLING, execution=EAGER, on_bytes=lambda _: marks.append(len(gpu.waits))
        )
    for one, other in zip(got[0], wanted[0], strict=True):
        np.testing.assert_array_equal(one, other)
    between = np.diff(marks)
    assert len(between) >= 2
    assert between.max() <= 2  # in SYNC_INTERVAL symbols, which are two patches of 8
