"""One training step as a function, as `fit` takes it or by another recipe."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from megabyte_mm.metrics import mean_nats
from megabyte_mm.models import DEFAULT_STEP, ByteModel, StepOptions
from megabyte_mm.training.optim import OptimizerConfig, build_optimizer
from megabyte_mm.training.trainer import best_precision

PRECISIONS = ("float32", "bfloat16")
LEARNING_RATE = 1e-4

Loss = Callable[[Tensor], Tensor]


def training_step(
    model: ByteModel,
    ids_BT: Tensor,
    precision: str,
    loss: Loss | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    clip: float | None = 1.0,
) -> Callable[[], None]:
    """A function that takes one step on the same symbols every time: loss, backward, clipping, update.

    ids: (B, T) int64. precision: float32, or bfloat16 by autocast. By default as in `fit`: the mean loss of the
    symbols, fused AdamW, and gradients clipped at norm 1; clip None clips nothing.
    """
    device = ids_BT.device
    loss = loss or fit_loss(model)
    optimizer = optimizer or build_optimizer(model, OptimizerConfig(lr=LEARNING_RATE), fused=True)
    model.train()

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            nats = loss(ids_BT)
        nats.backward()  # type: ignore[no-untyped-call]
        if clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()

    return step


def fit_loss(model: ByteModel, options: StepOptions = DEFAULT_STEP) -> Loss:
    """The loss of a batch in `fit`: (B, T) int64 -> scalar."""

    def loss(ids_BT: Tensor) -> Tensor:
        nats_Bt, span = model.training_nll(ids_BT, None, options)
        return mean_nats(nats_Bt, ids_BT, span)

    return loss


def fit_precision(device: torch.device) -> str:
    """The precision of `fit` on such a device: bfloat16 where the hardware is fast at it, else float32."""
    return "bfloat16" if best_precision("cpu" if device.type == "cpu" else "auto") == "bf16-mixed" else "float32"
