"""`megabyte-mm fit` from Python: a run with the same defaults, files and logs, in a folder."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything

from data_adapters.io import remove
from megabyte_mm.data.module import ByteData
from megabyte_mm.training.callbacks import Throughput
from megabyte_mm.training.checkpointing import AtomicCheckpointIO, BestCheckpoint, LastCheckpoint
from megabyte_mm.training.claim import claimed
from megabyte_mm.training.console import configure_output
from megabyte_mm.training.divergence import StopDiverged
from megabyte_mm.training.end_report import EndReport
from megabyte_mm.training.loggers import make_loggers
from megabyte_mm.training.module import ByteLM
from megabyte_mm.training.signals import GracefulStop, RunInterrupted
from megabyte_mm.training.trainer import CHECKPOINT_MINUTES, TRAINER_DEFAULTS, best_precision, check_writable

log = logging.getLogger(__name__)


def fit(
    model: ByteLM,
    data: ByteData,
    folder: str | Path,
    steps: int,
    val_every: int | None = None,
    callbacks: Sequence[Callback] = (),
    seed: int = 0,
) -> Path:
    """Train a new model from Python, and return its best checkpoint.

    `folder` receives best.ckpt, last.ckpt and logs/; checkpoints of an earlier run are removed when training begins. An
    interrupt (Jupyter's stop button) stops the run after the current step and returns last.ckpt. val_every: steps
    between two validations, at most `steps`; by default one validation at the end. Raises ValueError for settings that
    do not fit the data, and for a folder that cannot be written to or in which another run is training.
    """
    folder = Path(folder)
    best, last = folder / "best.ckpt", folder / "last.ckpt"
    configure_output()
    check_writable(folder)
    seed_everything(seed)
    try:
        trainer = _trainer(folder, steps, min(val_every or steps, steps), [*callbacks, _RemoveCheckpoints(best, last)])
        with claimed(folder):
            trainer.fit(model, datamodule=data)
    except RunInterrupted as stop:
        log.info("stopped by %s; the model so far is in %s", stop, last)
        return last
    return best


class _RemoveCheckpoints(Callback):
    """Removes the checkpoints of an earlier run once training begins: a mistake in the settings removes none."""

    def __init__(self, *checkpoints: Path) -> None:
        self._checkpoints = checkpoints

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for path in self._checkpoints:
            remove(path)


def _trainer(folder: Path, steps: int, val_every: int, callbacks: Sequence[Callback]) -> Trainer:
    settings = TRAINER_DEFAULTS | {
        "default_root_dir": folder,
        "max_steps": steps,
        "val_check_interval": val_every,
        "log_every_n_steps": min(TRAINER_DEFAULTS["log_every_n_steps"], val_every),
        "precision": best_precision("auto"),
        "logger": make_loggers(folder),
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    run_callbacks = [GracefulStop(), Throughput(), EndReport(folder), StopDiverged()]
    run_callbacks += [BestCheckpoint(folder), LastCheckpoint(folder, CHECKPOINT_MINUTES)]
    trainer = Trainer(**settings, callbacks=[*callbacks, *run_callbacks])
    trainer.strategy.checkpoint_io = AtomicCheckpointIO()
    return trainer
