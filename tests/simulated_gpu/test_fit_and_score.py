"""What fit, validation and scoring wait for on a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from megabyte_mm.data.dataset import Batch
from megabyte_mm.data.module import ByteData
from megabyte_mm.evaluation.scoring import score_streams
from megabyte_mm.metrics import Totals
from megabyte_mm.training import ByteLM
from megabyte_mm.training.loss import AccumulatedLoss
from tests.simulated_gpu.device import SimulatedGpu, on_gpu, to_cpu, to_gpu
from tests.simulated_gpu.test_training import BASE, MODELS, PARTS, WINDOW

FIRST_PARTS = {"one": (0, slice(0, 4)), "two": (1, slice(0, 8))}


@pytest.fixture
def gpu() -> Iterator[SimulatedGpu]:
    with SimulatedGpu() as gpu:
        yield gpu


def byte_lm(name: str, weights: dict[str, float] | None) -> ByteLM:
    """A ByteLM whose batches have rows of the conditions 0 and 1, without a trainer."""
    module = ByteLM()
    torch.manual_seed(0)
    module.model = (replace(BASE, **PARTS) if name == "parts" else MODELS[name][0]).build()
    module._parts, module._part_weights = FIRST_PARTS, weights
    module._accumulated_loss = AccumulatedLoss(None, world_size=1, batches=1)  # type: ignore[arg-type] # not used
    data = ByteData()
    module._data = lambda: data  # type: ignore[method-assign]
    module.log = lambda *_, **__: None  # type: ignore[method-assign]
    return module


def batch_of(rows: int) -> Batch:
    ids = torch.randint(256, (rows, WINDOW), generator=torch.Generator().manual_seed(1))
    return Batch(ids, torch.arange(rows) % 2, torch.ones(rows, WINDOW, dtype=torch.bool))


def moved(module: ByteLM, batch: Batch) -> Batch:
    """As fit moves it, from pinned memory."""
    return module._data().transfer_batch_to_device(batch, torch.device("cuda"), 0)


@pytest.mark.parametrize(
    ("name", "weights"), [("paper", None), ("parts", None), ("parts", {"one": 1.0, "two": 0.5}), ("perceiver_ar", None)]
)
def test_a_step_of_fit_waits_for_nothing(name: str, weights: dict[str, float] | None, gpu: SimulatedGpu) -> None:
    module = byte_lm(name, weights)
    torch.manual_seed(2)
    wanted = module.training_step(batch_of(3), 0)
    module._accumulated_loss.finish()
    module = on_gpu(module)
    gpu.reset()
    torch.manual_seed(2)
    got = module.training_step(moved(module, batch_of(3)), 0)
    got.backward()
    assert not gpu.waits
    torch.testing.assert_close(to_cpu(got), wanted)


def test_an_update_of_several_batches_waits_for_nothing(gpu: SimulatedGpu) -> None:
    """Two batches, of which the second has fewer symbols, weigh as one with the symbols of both."""
    losses = AccumulatedLoss(None, world_size=1, batches=2)  # type: ignore[arg-type] # not used
    weight = to_gpu(torch.ones(())).requires_grad_()
    counts = torch.tensor([[9.0, 6.0], [4.0, 2.0]]).to("cuda", non_blocking=True)
    for nats, symbols in counts:
        (losses.add(Totals(weight * nats, symbols, symbols)) / 2).backward()
    factor = losses.finish()
    assert not gpu.waits
    assert factor is not None
    assert weight.grad is not None
    assert float(to_cpu(weight.grad * factor)) == pytest.approx((9 + 4) / (6 + 2))


def test_the_symbols_of_parts_are_counted_without_a_wait(gpu: SimulatedGpu) -> None:
    module = byte_lm("parts", None)
    batch = batch_of(3)
    rows = {name: (batch.condition == condition).nonzero()[:, 0] for name, (condition, _) in FIRST_PARTS.items()}
    on_device = moved(module, batch)
    chosen = {
        name: module.symbols_of_part(on_device.ids, on_device.condition, *place) for name, place in FIRST_PARTS.items()
    }
    assert not gpu.waits
    for name, (_, symbols) in FIRST_PARTS.items():
        assert to_cpu(chosen[name]).tolist() == batch.ids[rows[name], symbols].tolist()


def test_scoring_waits_once_for_each_batch(gpu: SimulatedGpu) -> None:
    torch.manual_seed(0)
    model = BASE.build().eval()
    streams = [(np.arange(30, dtype=np.uint8), 1), (np.arange(5, dtype=np.uint8), 2)]
    wanted = list(score_streams(model, streams, WINDOW, method="strided", batch_size=2))
    model = on_gpu(model)
    gpu.reset()
    got = list(score_streams(model, streams, WINDOW, method="strided", batch_size=2))
    for one, other in zip(got, wanted, strict=True):
        np.testing.assert_allclose(one.nats, other.nats, rtol=1e-5)
    assert len(gpu.waits) == 2  # four windows
