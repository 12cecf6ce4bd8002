"""Generation on a GPU: the symbols of a CPU, on one device, with at most one wait for each patch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
import pytest
import torch

from megabyte_mm.generation.batching import GenerationRequest, generate_batch
from megabyte_mm.generation.engine import SYNC_INTERVAL, generate_rows, row_seeds, stream_symbols
from megabyte_mm.generation.guidance import GuidedDecoder
from megabyte_mm.generation.patches import CAPTURES, NO_SYMBOL
from megabyte_mm.generation.sampling import SamplingParams
from megabyte_mm.models import ByteModel, Execution, MegabyteConfig, Precision, with_rounded_weights
from megabyte_mm.models.megabyte import PartConfig
from tests.models.layouts import EACH, ONE
from tests.simulated_gpu.device import SimulatedGpu, on_gpu, to_cpu, to_gpu
from tests.simulated_gpu.graphs import RecordedGraph, recorded
from tests.simulated_gpu.test_training import BASE, MODELS, WINDOW

EAGER = Execution("eager")
WHOLE: dict[str, MegabyteConfig] = {
    name: config for name, (config, _) in MODELS.items() if isinstance(config, MegabyteConfig)
}
SAMPLING = SamplingParams(temperature=0.9, top_k=50, top_p=0.9)
PREFIX = 3


def generated(model: ByteModel, gpu: SimulatedGpu | None = None, execution: Execution = EAGER) -> torch.Tensor:
    """(3, t) symbols of rows of three conditions; waits are counted behind the first of them."""
    prefix, conditions = torch.arange(3 * PREFIX).view(3, PREFIX), torch.arange(3)
    if gpu is not None:
        prefix, conditions = to_gpu(prefix), to_gpu(conditions)
    columns: list[torch.Tensor] = []
    length = WINDOW - PREFIX - 1  # until the window is full
    for ids in stream_symbols(model, prefix, length, SAMPLING, row_seeds(0, 3), conditions, None, execution):
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


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> list[RecordedGraph]:
    """The graphs that were captured."""
    graphs: list[RecordedGraph] = []

    def record(run: Callable[[], None], device: torch.device) -> RecordedGraph:
        graphs.append(recorded(run))
        return graphs[-1]

    monkeypatch.setitem(CAPTURES, "cuda", record)
    return graphs


@pytest.mark.parametrize("name", [name for name, config in WHOLE.items() if config.parts is None])
def test_patches_are_captured_once_and_their_symbols_are_those_of_the_cpu(
    name: str, graphs: list[RecordedGraph]
) -> None:
    patches = 6
    torch.manual_seed(0)
    model = replace(WHOLE[name], max_len=4 * patches).build()
    requests = [
        GenerationRequest(np.arange(size, dtype=np.uint8), length, condition=condition, count=2)
        for size, length, condition in ((0, 23, 1), (5, 18, 2), (6, 7, 0))
    ]
    wanted = generate_batch(model, requests, SAMPLING, batch_size=4, execution=EAGER)
    with SimulatedGpu():
        got = generate_batch(on_gpu(model), requests, SAMPLING, batch_size=4)
    for one, other in zip(chain(*got), chain(*wanted), strict=True):
        np.testing.assert_array_equal(one, other)
    assert len(graphs) == 2  # one for each number of rows
    assert min(graph.replays for graph in graphs) > 1


@pytest.mark.parametrize("guidance", [None, 2.0])
@pytest.mark.parametrize("changes", [{}, {"neighbourhood": ONE, "conv_encoder": True}], ids=["plain", "extended"])
def test_patches_of_parts_are_captured(
    changes: dict[str, Any], guidance: float | None, graphs: list[RecordedGraph]
) -> None:
    parts = (PartConfig(2, 4), PartConfig(4, 40))
    torch.manual_seed(0)
    model = replace(BASE, patch_size=2, max_len=44, parts=parts, orders=((0, 1), (1,)), conditions=2, **changes).build()
    prefixes, lengths = [torch.arange(4), torch.arange(8), torch.arange(12)], [39, 35, 9]

    def columns(device: str, execution: Execution) -> torch.Tensor:
        decoder = model.decoder(6 if guidance else 3, execution=execution)
        if guidance is not None:
            decoder = GuidedDecoder(decoder, guidance, 4, 1)
        on_device = [prefix.to(device) for prefix in prefixes]
        rows = generate_rows(decoder, on_device, lengths, SAMPLING, row_seeds(0, 3))
        return torch.cat([to_cpu(ids) for ids in rows]).T

    wanted = columns("cpu", EAGER)
    with SimulatedGpu():
        model = on_gpu(model)
        got = columns("cuda", Execution())
    assert got[:, : wanted.shape[1]].tolist() == wanted.tolist()
    assert (got[:, wanted.shape[1] :] == NO_SYMBOL).all()
    assert [graph.replays > 4 for graph in graphs] == [True]


def test_a_captured_patch_is_one_launch_beside_three_and_one_wait(graphs: list[RecordedGraph]) -> None:
    patches, size = 12, 8
    config = replace(BASE, patch_size=size, max_len=size * patches, cross_patch=2, neighbourhood=EACH)
    requests = [GenerationRequest(np.empty(0, np.uint8), size * (patches - 1))]
    torch.manual_seed(0)
    with SimulatedGpu() as gpu:
        model = on_gpu(config.build())
        marks: list[tuple[int, int]] = []
        generate_batch(
            model, requests, SAMPLING, seed=1, on_bytes=lambda _: marks.append((gpu.launches, len(gpu.waits)))
        )
    launches, waits = np.diff(marks[2:-1], axis=0).T  # of two patches each, behind the first ones
    assert len(launches) >= 2
    assert launches.max() <= size  # 0.5 for each byte
    assert waits.max() <= 2


@pytest.mark.filterwarnings("ignore:CUDA is not available:UserWarning")  # autocast, in which prefixes are read
@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
@pytest.mark.parametrize("name", ["extended", "neighbourhood", "no local model", "parts"])
def test_lower_precisions_compute_and_cache_in_bfloat16_unless_they_must_be_exact(
    name: str, precision: Precision
) -> None:
    torch.manual_seed(0)
    model = WHOLE[name].build().eval()
    rounded = with_rounded_weights(model, precision, model.tied_embeddings)
    ids, conditions = torch.randint(256, (2, WINDOW)), torch.tensor([1, 1])
    with torch.no_grad():
        wanted = rounded(ids, conditions)
    distances = {}
    with SimulatedGpu():
        rounded = on_gpu(rounded)
        for exact in (False, True):
            decoder = rounded.decoder(2, to_gpu(conditions), execution=Execution("auto", precision, exact))
            prefill, rest = to_gpu(ids[:, :0]), to_gpu(ids[:, : WINDOW - 1])
            columns = [decoder.prefill(prefill), *(decoder.step(rest[:, t]) for t in range(WINDOW - 1))]
            distances[exact] = float((torch.stack([to_cpu(x) for x in columns], 1) - wanted).abs().max())
            dtypes = {cache.keys.dtype for cache in (*decoder._global_caches, *decoder._local_caches)}
            assert dtypes == {torch.float32 if exact else torch.bfloat16}
    assert distances[True] < 1e-4
    assert 1e-4 < distances[False] < 0.05 * float(wanted.abs().max())
