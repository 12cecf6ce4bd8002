"""An exponential moving average (EMA) of the weights, kept beside those that are trained."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from megabyte_mm.checkpoint.load import AVERAGE_KEY

log = logging.getLogger(__name__)


class WeightAverage(Callback):
    """Averages the weights after each update, and puts the average into the model for the time of a validation.

    Training never sees the average, and checkpoints hold both, so a resumed run is exact. Devices of a run average the
    same weights, and so have the same average. It is kept in float32 whatever the weights are.

    The decay of update n is at most (1 + n) / (10 + n), so that the initial weights are forgotten early.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self._average: dict[str, Tensor] = {}
        self._stored: Mapping[str, Tensor] | None = None
        self._trained: dict[str, Tensor] = {}
        self._step = 0

    @property
    def state(self) -> dict[str, Tensor]:
        """The average by the names of the weights; empty before training starts."""
        return dict(self._average)

    def load_state(self, weights: Mapping[str, Tensor]) -> None:
        """Continue with the average of a checkpoint when training starts."""
        self._stored = weights

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start with the average of the checkpoint, or with the weights where there is none."""
        self._step = trainer.global_step
        start, self._stored = self._stored, None
        self._average = {
            name: (weight if start is None else start[name]).detach().to(weight.device, torch.float32, copy=True)
            for name, weight in pl_module.named_parameters()
        }

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Average after an update, but not while gradients are accumulated."""
        if trainer.global_step == self._step:
            return
        self._step = trainer.global_step
        decay = min(self.decay, (1 + self._step) / (10 + self._step))
        weights = [weight.detach().float() for weight in pl_module.parameters()]
        update = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        update(list(self._average.values()), weights, 0)

    @torch.no_grad()
    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the average into the model."""
        if trainer.sanity_checking or not self._average:
            return
        # The copy is complete before any weight changes, so that a signal at any moment can be undone.
        self._trained = {name: weight.detach().clone() for name, weight in pl_module.named_parameters()}
        _copy(self._average, pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the trained weights back; checkpoints are saved after this."""
        self._restore(pl_module)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Put the trained weights back where a signal ends a validation; last.ckpt is saved after this."""
        self._restore(pl_module)

    def _restore(self, pl_module: LightningModule) -> None:
        _copy(self._trained, pl_module)
        self._trained = {}


def resume_average(average: WeightAverage | None, checkpoint: Mapping[str, Any]) -> None:
    """Continue with the average of a checkpoint. Warns where only the run, or only the checkpoint, has one."""
    stored = checkpoint.get(AVERAGE_KEY)
    if average is not None and stored is not None:
        average.load_state(stored)
    elif average is not None:
        _warn("the checkpoint has no average of the weights: model.ema_decay starts from its weights")
    elif stored is not None:
        _warn("model.ema_decay is null: the checkpoint's average of the weights is not continued")


@rank_zero_only
def _warn(line: str) -> None:
    log.warning(line)


@torch.no_grad()
def _copy(weights: Mapping[str, Tensor], pl_module: LightningModule) -> None:
    """Copy weights by name into a module."""
    parameters = dict(pl_module.named_parameters())
    for name, weight in weights.items():
        parameters[name].copy_(weight)
