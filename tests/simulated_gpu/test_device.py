"""The simulated GPU refuses and reports what a real one would refuse and wait for."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from tests.simulated_gpu.device import MixedDevices, SimulatedGpu, on_gpu, to_cpu, to_gpu


@pytest.fixture
def gpu() -> Iterator[SimulatedGpu]:
    with SimulatedGpu() as gpu:
        yield gpu


def test_tensors_are_on_the_gpu_and_have_the_numbers_of_the_cpu(gpu: SimulatedGpu) -> None:
    x = torch.arange(6, device="cuda").view(2, 3).float()
    assert x.is_cuda
    assert str(x.device) == "cuda:0"
    assert torch.zeros_like(x).is_cuda
    assert to_cpu(x.T @ x).tolist() == (torch.arange(6.0).view(2, 3).T @ torch.arange(6.0).view(2, 3)).tolist()
    assert not gpu.waits


def test_training_is_that_of_the_cpu(gpu: SimulatedGpu) -> None:
    layer = nn.Linear(3, 2)
    x = torch.randn(4, 3)
    layer(x).square().mean().backward()
    gradients = [weight.grad for weight in layer.parameters()]
    moved = on_gpu(layer)
    moved.zero_grad()
    moved(to_gpu(x)).square().mean().backward()
    nn.utils.clip_grad_norm_(moved.parameters(), 100.0)
    torch.testing.assert_close([to_cpu(weight.grad) for weight in moved.parameters()], gradients)
    assert not gpu.waits


def test_mixed_devices_are_refused(gpu: SimulatedGpu) -> None:
    with pytest.raises(MixedDevices, match=r"test_device\.py"):
        torch.ones(3, device="cuda") + torch.ones(3)


WAITING: dict[str, Callable[[Tensor], object]] = {
    "item": lambda x: x.sum().item(),
    "truth": lambda x: bool((x > 0).all()),
    "tolist": lambda x: x.tolist(),
    "to the CPU": lambda x: x.cpu(),
    "numbers": lambda x: torch.tensor([1, 2], device=x.device),
    "from the CPU": lambda x: torch.ones(2).to(x.device),
    "in place": lambda x: x.copy_(torch.ones(3)),
    "mask": lambda x: x[x > 0],
    "list": lambda x: x[[0, 1]],
    "nonzero": lambda x: x.nonzero(),
    "equal": lambda x: torch.equal(x, x),
}


@pytest.mark.parametrize("what", WAITING)
def test_waits_are_reported_with_their_line(what: str, gpu: SimulatedGpu) -> None:
    WAITING[what](torch.arange(3.0, device="cuda"))
    assert [wait.split(" at ")[1].split(":")[0] for wait in gpu.waits] == ["tests/simulated_gpu/test_device.py"]


def test_copies_behind_other_work_are_no_waits(gpu: SimulatedGpu) -> None:
    x = torch.ones(2).to("cuda", non_blocking=True)
    assert x.is_cuda
    assert not gpu.waits
