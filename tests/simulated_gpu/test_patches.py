"""Whole patches on a GPU: whatever the prefixes, lengths and windows, the symbols of steps on a CPU."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from megabyte_mm.generation.batching import GenerationRequest, generate_batch
from megabyte_mm.generation.engine import generate_rows, row_seeds
from megabyte_mm.generation.patches import CAPTURES, NO_SYMBOL, CaptureError
from megabyte_mm.generation.sampling import SamplingParams
from megabyte_mm.models import (
    BlockConfig,
    ByteModel,
    Decoder,
    Execution,
    MegabyteConfig,
    ModelConfig,
    OneOrder,
    Precision,
    TransformerConfig,
    with_rounded_weights,
)
from megabyte_mm.models.decoding.steps import StackSteps
from megabyte_mm.models.megabyte import PartConfig
from megabyte_mm.models.megabyte.decoder import MegabyteDecoder
from tests.simulated_gpu.device import SimulatedGpu, on_gpu, to_cpu
from tests.simulated_gpu.graphs import recorded
from tests.simulated_gpu.test_training import BASE, STACK

WINDOW, ROWS, BATCHES = 24, 3, 2
ROTARY = BlockConfig(positions="rotary")


def parts(*sizes: tuple[int, int]) -> dict[str, Any]:
    return {
        "patch_size": sizes[0][0],
        "max_len": sum(room for _, room in sizes),
        "parts": tuple(PartConfig(*size) for size in sizes),
        "orders": (tuple(range(len(sizes))),),
        "conditions": 1,
    }


CONFIGS: dict[str, MegabyteConfig] = {
    "windows that restart": replace(BASE, max_len=WINDOW, block=ROTARY, cross_patch=2),
    "windows that end": replace(BASE, max_len=WINDOW, conv_encoder=True),
    "parts of one patch size": replace(BASE, **parts((4, 16), (4, 32))),
    "parts of growing patches": replace(BASE, **parts((2, 8), (4, 32))),
    "parts of shrinking patches": replace(BASE, **parts((4, 16), (2, 16))),
}


OTHERS: dict[str, ModelConfig] = {
    "no local model": replace(BASE, max_len=WINDOW, local_stack=None),
    "transformer": TransformerConfig(max_len=WINDOW, stack=STACK, init_std=0.2),
}


@pytest.fixture(autouse=True)
def graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CAPTURES, "cuda", lambda run, device: recorded(run))


def new_symbols(decoder: Decoder, seed: int, is_open: bool) -> list[list[int]]:
    """The new symbols of the rows of some batches of one decoder, with prefixes and lengths at random."""
    choose, rows = np.random.default_rng(seed), []
    sampling = SamplingParams(0.9, top_k=40, allow_end=bool(choose.integers(2)))
    for batch in range(BATCHES):
        room = decoder.capacity_of(0)
        starts = choose.integers(0, room, ROWS) // (4 if choose.integers(2) else 1) * (4 if choose.integers(2) else 1)
        starts *= min(batch + seed, 1)  # once all rows begin with nothing
        lengths = choose.integers(0, room + 8, ROWS) if is_open else room - starts
        prefixes = [torch.from_numpy(choose.integers(0, 256, start)) for start in starts]
        on_device = [prefix.to(decoder.conditions.device) for prefix in prefixes]
        blocks = generate_rows(decoder, on_device, lengths.tolist(), sampling, row_seeds(seed, ROWS))
        symbols = [to_cpu(block) for block in blocks]
        rows += torch.cat([torch.empty(0, ROWS, dtype=torch.long), *symbols]).T.tolist()
    return [[symbol for symbol in row if symbol != NO_SYMBOL] for row in rows]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", CONFIGS)
def test_symbols_are_those_of_steps(name: str, seed: int) -> None:
    torch.manual_seed(seed)
    model, restarts = CONFIGS[name].build().double().eval(), name.startswith("windows")
    wanted = new_symbols(model.decoder(ROWS, execution=Execution("eager")), seed, restarts)
    with SimulatedGpu():
        got = new_symbols(on_gpu(model).decoder(ROWS), seed, restarts)
    assert got == wanted


def test_a_prefix_is_not_read_again_behind_a_patch_that_was_stepped_through() -> None:
    """Row 0 is in the last patch of the window, right behind the patch in which the prefix of row 1 ends."""
    torch.manual_seed(0)
    model = replace(BASE, max_len=WINDOW).build().double().eval()
    prefixes, sampling = [torch.arange(16), torch.arange(5)], SamplingParams(0.9, allow_end=False)

    def rows(model: ByteModel, device: str, execution: Execution) -> list[list[int]]:
        on_device = [prefix.to(device) for prefix in prefixes]
        decoder = model.decoder(2, execution=execution)
        blocks = generate_rows(decoder, on_device, [8, 16], sampling, row_seeds(0, 2))
        return torch.cat([to_cpu(block) for block in blocks]).T.tolist()

    wanted = rows(model, "cpu", Execution("eager"))
    with SimulatedGpu():
        got = rows(on_gpu(model), "cuda", Execution())
    assert got == wanted
    assert len([symbol for symbol in got[1] if symbol != NO_SYMBOL]) == 16


def test_a_model_of_one_order_of_parts_generates_in_batches() -> None:
    torch.manual_seed(0)
    model = OneOrder(CONFIGS["parts of growing patches"].build().double().eval(), 0)
    requests = [GenerationRequest(np.arange(9, dtype=np.uint8), 20, count=2)]
    wanted = generate_batch(model, requests, SamplingParams(), execution=Execution("eager"))
    with SimulatedGpu():
        got = generate_batch(on_gpu(model), requests, SamplingParams())
    for one, other in zip(got[0], wanted[0], strict=True):
        np.testing.assert_array_equal(one, other)


def test_where_a_capture_fails_patches_run_in_python_and_it_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(run: Callable[[], None], device: torch.device) -> Any:
        run()
        raise CaptureError("operation not permitted")

    monkeypatch.setitem(CAPTURES, "cuda", fail)
    monkeypatch.setattr("megabyte_mm.generation.patches._UNCAPTURED", set())
    torch.manual_seed(0)
    model = CONFIGS["windows that end"].build().double().eval()
    wanted = new_symbols(model.decoder(ROWS, execution=Execution("eager")), 0, True)
    with SimulatedGpu():
        model = on_gpu(model)
        with pytest.warns(UserWarning, match="patches are generated without a CUDA graph: operation not permitted"):
            assert new_symbols(model.decoder(ROWS), 0, True) == wanted
        assert new_symbols(model.decoder(ROWS), 0, True) == wanted


@pytest.mark.parametrize("execution", [Execution("eager"), Execution()], ids=str)
def test_caches_are_freed_with_their_decoder(execution: Execution) -> None:
    """At once: tensors of a GPU do not make Python's collector of cycles run."""
    decoder = CONFIGS["windows that end"].build().eval().decoder(ROWS, execution=execution)
    assert isinstance(decoder, MegabyteDecoder)
    decoder.reads_patches = True
    gc.disable()
    try:
        for _ in generate_rows(decoder, [torch.arange(4)] * ROWS, [12] * ROWS, SamplingParams(), row_seeds(0, ROWS)):
            pass
        caches = [weakref.ref(cache) for cache in (*decoder._global_caches, *decoder._local_caches)]
        del decoder
        assert not [cache for cache in caches if cache() is not None]
    finally:
        gc.enable()


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
@pytest.mark.parametrize("name", [*CONFIGS, "no local model", "transformer"])
def test_prefixes_are_read_in_bfloat16_where_steps_are(
    name: str, precision: Precision, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the autocast of the CPU, as if it were a GPU."""

    def dtype(self: Execution, like: torch.Tensor) -> torch.dtype:
        return torch.bfloat16 if self.precision is not None and not self.exact else like.dtype

    monkeypatch.setattr(Execution, "dtype", dtype)
    monkeypatch.setattr(StackSteps, "_step", step_with_masks(StackSteps._step))
    torch.manual_seed(0)
    model = {**CONFIGS, **OTHERS}[name].build().eval()
    model = with_rounded_weights(model, precision, model.tied_embeddings)
    ids = torch.randint(256, (2, model.max_len))
    with torch.no_grad():
        wanted = model(ids)
    for start in (0, 5, 9):
        decoder = model.decoder(2, execution=Execution("eager", precision))
        got = torch.stack([decoder.prefill(ids[:, :start]), *map(decoder.step, ids[:, start:-1].T)], dim=1)
        assert float((got - wanted[:, start:]).abs().max()) < 0.05 * float(wanted.abs().max())


def step_with_masks(step: Any) -> Any:
    """A step that attends to all rows at once, as on a GPU."""

    def masked(self: StackSteps, *arguments: Any) -> torch.Tensor:
        self._attend_per_row = False
        result: torch.Tensor = step(self, *arguments)
        return result

    return masked
