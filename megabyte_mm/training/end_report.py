"""A line at the end of a run that stops before its last step, or that has no step to do."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, Timer
from lightning.pytorch.utilities import rank_zero_only

log = logging.getLogger(__name__)


class EndReport(Callback):
    """Logs why a run ends before trainer.max_steps, and where its last.ckpt is; and that a run has nothing to do."""

    def __init__(self, folder: Path) -> None:
        self._last = folder / "last.ckpt"
        self._trained = False

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget an earlier run of the same trainer."""
        self._trained = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note that there is something to do: Lightning skips this otherwise."""
        self._trained = True

    @rank_zero_only
    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the line; last.ckpt has been written before."""
        if not self._trained:
            log.warning("nothing to do: %s", _reason_to_skip(trainer))
        elif trainer.fast_dev_run or trainer.global_step == trainer.max_steps:  # type: ignore[attr-defined]
            return
        else:
            saved = f"; the model so far is in {os.path.relpath(self._last)}" if self._last.exists() else ""
            log.info("ended at step %d: %s%s", trainer.global_step, _reason_to_stop(trainer), saved)


def _reason_to_skip(trainer: Trainer) -> str:
    if 0 <= trainer.max_steps <= trainer.global_step:
        return f"the run is at step {trainer.global_step} of trainer.max_steps {trainer.max_steps}; set a larger one"
    if trainer.max_epochs is not None and 0 <= trainer.max_epochs <= trainer.current_epoch:
        return f"the run has done {trainer.current_epoch} of trainer.max_epochs {trainer.max_epochs}; set a larger one"
    return f"trainer.limit_train_batches is {trainer.limit_train_batches}"


def _reason_to_stop(trainer: Trainer) -> str:
    """Why the run has stopped: a callback, a limit of time or of epochs."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined] # set by a connector
        if isinstance(callback, EarlyStopping) and (reason := callback.stopping_reason_message):
            return f"EarlyStopping: {reason.removesuffix('Signaling Trainer to stop.').strip().rstrip('.')}"
        if isinstance(callback, Timer) and (remaining := callback.time_remaining()) is not None and remaining <= 0:
            return "trainer.max_time has passed"
    if trainer.max_epochs is not None and 0 <= trainer.max_epochs <= trainer.current_epoch:
        return f"trainer.max_epochs {trainer.max_epochs} is reached"
    return "a callback asked for it"
