"""Bits per byte, against figures worked out by hand."""

import math

import pytest
import torch

from megabyte_mm.alphabet import END
from megabyte_mm.metrics import BitsPerByte, mean_nats

BIT = math.log(2)


def test_all_nats_are_divided_by_the_number_of_bytes():
    metric = BitsPerByte()
    # The first END's 4 bits count, END itself does not count as a byte, and what follows counts not at all.
    metric.update(torch.tensor([[1.0, 2.0, 4.0, 100.0]]) * BIT, torch.tensor([[0, 65, END, END]]))
    assert metric.compute().item() == pytest.approx((1 + 2 + 4) / 2)
    metric.update(torch.tensor([[8.0, 8.0]]) * BIT, torch.tensor([[0, 0]]))
    assert metric.compute().item() == pytest.approx((7 + 16) / 4)


def test_ragged_batches_weigh_by_their_bytes():
    whole, ragged = BitsPerByte(), BitsPerByte()
    nats = torch.rand(5, 12, generator=torch.Generator().manual_seed(0))
    ids = torch.randint(0, 256, (5, 12), generator=torch.Generator().manual_seed(1))
    whole.update(nats, ids)
    for rows in (slice(0, 3), slice(3, 4), slice(4, 5)):
        ragged.update(nats[rows], ids[rows])
    assert ragged.compute().item() == pytest.approx(whole.compute().item(), rel=1e-12)
    assert whole.compute().item() == pytest.approx(nats.double().mean().item() / BIT, rel=1e-12)


def test_two_ranks_sum_before_they_divide():
    few, many = BitsPerByte(), BitsPerByte()
    few.update(torch.tensor([[8.0]]) * BIT, torch.tensor([[1]]))
    many.update(torch.tensor([[1.0, 1.0, 1.0]]) * BIT, torch.tensor([[1, 2, 3]]))
    others = {id(few.nats): many.nats, id(few.bytes): many.bytes}
    few.dist_sync_fn = lambda state, group: [state, others[id(state)]]
    few.distributed_available_fn = lambda: True
    assert few.compute().item() == pytest.approx(11 / 4)  # and not (8 + 1) / 2


def test_small_nats_are_not_lost_beside_large_sums():
    metric = BitsPerByte()
    metric.update(torch.full((1, 1), 2.0**30), torch.tensor([[0]]))
    for _ in range(4):
        metric.update(torch.full((1, 1), 2.0**-10), torch.tensor([[0]]))
    assert metric.nats.item() == 2.0**30 + 4 * 2.0**-10
    assert metric.compute().dtype == torch.float64


def test_bfloat16_nats_are_summed_exactly():
    metric = BitsPerByte()
    metric.update(torch.ones(4, 300, dtype=torch.bfloat16), torch.zeros(4, 300, dtype=torch.int64))
    assert metric.nats.item() == 1200.0


def test_a_diverged_model_shows_and_what_is_not_scored_does_not():
    ids = torch.tensor([[1, END, END]])
    metric = BitsPerByte()
    metric.update(torch.tensor([[1.0, 1.0, float("nan")]]), ids)
    assert metric.compute().item() == pytest.approx(2 / BIT)
    metric.update(torch.tensor([[float("inf"), 1.0, 1.0]]), ids)
    assert metric.compute().item() == math.inf
    metric.update(torch.tensor([[float("nan"), 1.0, 1.0]]), ids)
    assert math.isnan(metric.compute().item())


def test_no_bytes_give_nan():
    metric = BitsPerByte()
    metric.update(torch.empty(0, 4), torch.empty(0, 4, dtype=torch.int64))
    assert math.isnan(metric.compute().item())


def test_a_reset_forgets():
    metric = BitsPerByte()
    metric.update(torch.full((1, 2), 5.0), torch.zeros(1, 2, dtype=torch.int64))
    metric.reset()
    metric.update(torch.full((1, 2), BIT), torch.zeros(1, 2, dtype=torch.int64))
    assert metric.compute().item() == pytest.approx(1.0)


def test_on_a_device_without_float64_sums_are_float32():
    def move(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.dtype == torch.float64:
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype")  # as Apple's accelerator says
        return tensor.clone()

    metric = BitsPerByte()
    metric._apply(move)
    metric.update(torch.full((1, 2), 3 * BIT), torch.zeros(1, 2, dtype=torch.int64))
    assert metric.compute().dtype == torch.float32
    assert metric.compute().item() == pytest.approx(3.0)
    metric.reset()
    assert metric.nats.dtype == torch.float32


def test_moving_and_halving_a_model_keeps_float64():
    holder = torch.nn.ModuleDict({"bpb": BitsPerByte()}).half().to("cpu")
    metric = holder["bpb"]
    assert isinstance(metric, BitsPerByte)
    assert metric.nats.dtype == torch.float64


def test_the_loss_is_the_mean_over_the_symbols_that_count():
    nats = torch.tensor([[1.0, 2.0, 9.0], [3.0, 4.0, 5.0]], requires_grad=True)
    ids = torch.tensor([[7, END, END], [7, 7, 7]])
    loss = mean_nats(nats, ids)
    assert loss.item() == pytest.approx((1 + 2 + 3 + 4 + 5) / 5)
    loss.backward()
    assert nats.grad is not None
    assert nats.grad.tolist() == [[pytest.approx(0.2), pytest.approx(0.2), 0.0], [pytest.approx(0.2)] * 3]


def test_what_is_not_scored_cannot_spoil_the_loss():
    ids = torch.tensor([[7, END, END]])
    assert mean_nats(torch.tensor([[1.0, 3.0, float("inf")]]), ids).item() == 2.0
    assert mean_nats(torch.empty(0, 3), ids[:0]).item() == 0.0
