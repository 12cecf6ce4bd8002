"""Training steps: bytes and estimated operations per second, beside MEGABYTE-pytorch at equal sizes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.peers.megabyte_pytorch import MISSING, PEER, build_network, peer_version
from benchmarks.report import Table
from benchmarks.timing import side_by_side
from benchmarks.workloads import Workload
from megabyte_mm.metrics import mean_nats
from megabyte_mm.models import Megabyte
from megabyte_mm.training.optim import OptimizerConfig, adamw

OURS = "megabyte-mm"
PRECISIONS = ("float32", "bfloat16")
FORWARD_AND_BACKWARD = 3
"""Operations of a training step, in forward passes: the backward pass multiplies twice as much."""


def time_training(workloads: list[Workload], device: torch.device, seconds: float) -> list[Table]:
    """One row for each config, precision and implementation."""
    columns = ("config", "precision", "implementation", "parameters", "ms per step", "spread")
    table = Table("Training steps", (*columns, "bytes/s", "est. GFLOP/s", "time / ours"))
    for workload in workloads:
        for precision in PRECISIONS:
            models: dict[str, nn.Module] = {OURS: Megabyte(workload.config).to(device)}
            if peer_version():
                models[PEER] = build_network(workload.config, device)
            steps = {name: training_step(model, workload, precision) for name, model in models.items()}
            times = side_by_side(steps, seconds / len(workloads) / len(PRECISIONS), device)
            for name, model in models.items():
                parameters = sum(parameter.numel() for parameter in model.parameters())
                rate = workload.batch * workload.window / times.median(name)
                # The peer does not say how much it computes.
                flops = FORWARD_AND_BACKWARD * model.flops_per_byte() * rate if isinstance(model, Megabyte) else None
                table.rows.append(
                    (
                        *(workload.name, precision, name, parameters),
                        *(1e3 * times.median(name), times.spread(name), rate),
                        *(flops and flops / 1e9, times.ratio(name, to=OURS)),
                    )
                )
    if not peer_version():
        table.notes.append(MISSING)
    return [table]


def training_step(model: nn.Module, workload: Workload, precision: str) -> Callable[[], None]:
    """A function that takes one step as `fit` does, on the same random bytes every time."""
    device = next(model.parameters()).device
    ids_BT = workload.ids(workload.batch, workload.window, device)
    optimizer = adamw(model, OptimizerConfig(lr=1e-4), fused=True)
    model.train()

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            loss = _loss(model, ids_BT)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return step


def _loss(model: nn.Module, ids_BT: Tensor) -> Tensor:
    if isinstance(model, Megabyte):
        return mean_nats(model.nll(ids_BT), ids_BT)
    loss: Tensor = model(ids_BT, return_loss=True)
    return loss
