"""One model trained under one seed, with its own order of the data, random numbers and clock."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks.compare.experiment import Entry
from benchmarks.peers import build_peer
from megabyte_mm.alphabet import END
from megabyte_mm.data.dataset import Batch
from megabyte_mm.data.module import ByteData
from megabyte_mm.evaluation import Method, check_method, is_sliding, method_nll
from megabyte_mm.metrics import BitsPerByte, mean_nats
from megabyte_mm.models import ByteModel, MegabyteConfig
from megabyte_mm.training.optim import LearningRate, build_optimizer

MILESTONES = (1 / 8, 1 / 4, 1 / 2, 1.0)
"""Shares of a run at which it is validated."""
CLIP = 1.0
"""Norm to which gradients are clipped, as in the shipped configs."""


@dataclass(frozen=True)
class Limit:
    """End of a run: after so many seconds of its own training time, or after so many operations where given."""

    seconds: float
    flops: float | None = None


@dataclass(frozen=True)
class Machine:
    """The device of all runs, and whether they multiply matrices in bfloat16."""

    device: torch.device
    bf16: bool

    def autocast(self) -> torch.autocast:
        """The precision of training and validation."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)

    def synchronize(self) -> None:
        """Wait until the device is idle, so that the clock may be read."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


class Run:
    """Training in slices: between two slices neither its clock nor its random numbers move on."""

    def __init__(self, entry: Entry, seed: int, data: ByteData, machine: Machine, limit: Limit) -> None:
        """Build the untrained model. Raises ValueError where architecture, data and methods do not fit together."""
        self.entry, self.seed, self.limit, self._machine = entry, seed, limit, machine
        self.seconds, self.steps, self.bytes, self.peak_rate = 0.0, 0, 0, 0.0
        self.milestones = list(MILESTONES)
        self._symbols = 0
        self._batches = _endless(data)
        self._random_state: tuple[Tensor, ...] = ()
        with self._own_random_state():
            self.model = build_model(entry, data, machine.device)
        for method in entry.methods:
            check_method(method, self.model, data.geometry.unit)
        self._optimizer = build_optimizer(
            self.model, entry.optimizer, True, torch.bfloat16 if machine.bf16 else torch.float32
        )
        self._factor = LearningRate(entry.optimizer, math.inf, lambda: (self.share, 1.0))
        self._flops_per_symbol = None if entry.peer else self.model.training_flops_per_byte()
        self._warm_up(data.geometry.window)

    @property
    def parameters(self) -> int:
        """Number of its model's parameters."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    @property
    def share(self) -> float:
        """Share of the run that is done, from 0 to slightly above 1."""
        if self.limit.flops:
            assert self.flops is not None  # a peer takes no part then
            return self.flops / self.limit.flops
        return self.seconds / self.limit.seconds

    @property
    def flops(self) -> float | None:
        """Operations of its steps so far; None for a peer, which counts none."""
        return None if self._flops_per_symbol is None else self._symbols * self._flops_per_symbol

    def train(self, seconds: float) -> None:
        """Take steps for about so many seconds, at least one, at most up to the next milestone."""
        bytes_before, seconds_before = self.bytes, self.seconds
        self.model.train()
        with self._own_random_state():
            self._machine.synchronize()
            start = time.perf_counter()
            while True:
                self._step()
                self.seconds = seconds_before + time.perf_counter() - start
                if self.seconds - seconds_before >= seconds or self.share >= self.milestones[0]:
                    break
            self._machine.synchronize()
            self.seconds = seconds_before + time.perf_counter() - start
        self.peak_rate = max(self.peak_rate, (self.bytes - bytes_before) / (self.seconds - seconds_before))

    def reach_milestone(self) -> float | None:
        """The last milestone passed since the previous call, or None."""
        passed = None
        while self.milestones and self.share >= self.milestones[0]:
            passed = self.milestones.pop(0)
        return passed

    @torch.no_grad()
    def validate(self, data: ByteData, method: Method = "plain") -> float:
        """Bits per byte on the validation windows of `data`."""
        self.model.eval()
        metric = BitsPerByte().to(self._machine.device)
        data.use_sliding_windows(is_sliding(method))
        for batch in data.val_dataloader():
            ids_BT, condition_B, scored_BT = self._to_device(batch)
            with self._machine.autocast():
                nats_BT = method_nll(method, self.model, ids_BT, condition_B, data.geometry.unit)
            metric.update(nats_BT, ids_BT, scored_BT)
        return float(metric.compute())

    def _step(self) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] = self.entry.optimizer.lr * self._factor(self.steps)
        batch = next(self._batches)
        self._backward(self._to_device(batch))
        nn.utils.clip_grad_norm_(self.model.parameters(), CLIP)
        self._optimizer.step()
        self.steps += 1
        self.bytes += int((batch.ids != END).sum())
        self._symbols += batch.ids.numel()

    def _backward(self, batch: Batch) -> None:
        """Compute the gradient of a batch's loss."""
        self._optimizer.zero_grad()
        with self._machine.autocast():
            nats_Bt, span = self.model.training_nll(batch.ids, batch.condition)
            loss = mean_nats(nats_Bt, batch.ids, span, batch.scored)
        loss.backward()  # type: ignore[no-untyped-call]

    def _to_device(self, batch: Batch) -> Batch:
        return Batch(*(part.to(self._machine.device, non_blocking=True) for part in batch))

    def _warm_up(self, window: int) -> None:
        """Compute unused gradients, so that what happens once in a process is on no run's clock."""
        device = self._machine.device
        ids_BT = torch.zeros(self.entry.batch_size, window, dtype=torch.int64, device=device)
        with torch.random.fork_rng(_cuda(device)):
            self._backward(Batch(ids_BT, condition=ids_BT[:, 0], scored=ids_BT == 0))
        self._optimizer.zero_grad()

    @contextmanager
    def _own_random_state(self) -> Iterator[None]:
        """Torch's generators as this run left them, at first seeded by its seed; restored afterwards."""
        device = self._machine.device
        with torch.random.fork_rng(_cuda(device)):
            if self._random_state:
                torch.set_rng_state(self._random_state[0])
                for state in self._random_state[1:]:
                    torch.cuda.set_rng_state(state, device)
            else:
                torch.manual_seed(self.seed)
            yield
            on_gpu = [torch.cuda.get_rng_state(device)] if device.type == "cuda" else []
            self._random_state = (torch.get_rng_state(), *on_gpu)


def build_model(entry: Entry, data: ByteData, device: torch.device) -> ByteModel:
    """The untrained model of an entry for its data. Raises ValueError where the two do not fit."""
    net = data.geometry.resolve(entry.net)
    if entry.peer is None:
        return net.build().to(device)
    assert isinstance(net, MegabyteConfig)
    return build_peer(entry.peer, net, device)


def _endless(data: ByteData) -> Iterator[Batch]:
    loader = data.train_dataloader()
    while True:
        yield from loader


def _cuda(device: torch.device) -> list[torch.device]:
    return [device] if device.type == "cuda" else []
