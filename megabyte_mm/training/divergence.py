"""Training that has diverged: it stops, and no checkpoint of it replaces an earlier one."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from megabyte_mm.checkpoint.safety import are_finite

ADVICE = "training has diverged; checkpoints are of earlier steps: start again with a lower --model.optimizer.lr"


class StopDiverged(Callback):
    """Raises ValueError where the loss is infinite or not a number.

    The loss is summed on its device and read every trainer.log_every_n_steps updates, so that no step waits for it.
    """

    def __init__(self) -> None:
        self._sum: torch.Tensor | float = 0.0
        self._read_at = 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add the loss of the batch, and look at the sum now and then."""
        self._sum = self._sum + outputs["loss"].detach()
        if trainer.global_step < self._read_at + trainer.log_every_n_steps:  # type: ignore[attr-defined]
            return
        self._read_at = trainer.global_step
        is_finite, self._sum = bool(torch.isfinite(torch.as_tensor(self._sum))), 0.0
        if not trainer.strategy.reduce_boolean_decision(is_finite):
            raise ValueError(f"step {trainer.global_step}: the loss is not finite: {ADVICE}")


def check_finite(trainer: Trainer) -> None:
    """Raise ValueError, in all processes alike, where a weight of the model is infinite or not a number."""
    is_finite = are_finite(weight.detach() for weight in trainer.lightning_module.parameters())
    if not trainer.strategy.reduce_boolean_decision(is_finite):
        raise ValueError(f"step {trainer.global_step}: the weights are not finite: {ADVICE}")
