"""`megabyte-mm fit` from Python: a run with the same defaults, files and logs, in a folder."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything

from megabyte_mm.checkpoint.dcp import remove
from megabyte_mm.data.module import ByteData
from megabyte_mm.training.callbacks import Throughput
from megabyte_mm.training.checkpointing import AtomicCheckpointIO, BestCheckpoint, LastCheckpoint
from megabyte_mm.training.display import tidy_output
from megabyte_mm.training.loggers import loggers
from megabyte_mm.training.module import ByteLM
from megabyte_mm.training.signals import GracefulStop, RunInterrupted
from megabyte_mm.training.trainer import TRAINER_DEFAULTS, best_precision, check_writable

Curve = list[tuple[int, float]]
"""Steps and bits per byte."""


@dataclass
class Progress:
    """How far a run is. samples: the files that its last validation drew; none without a SampleWriter."""

    steps: int
    train: Curve = field(default_factory=list)
    val: Curve = field(default_factory=list)
    samples: list[Path] = field(default_factory=list)


class Watch(Callback):
    """Tells a function how far the run is, every so many steps and after each validation.

    show: is given the one Progress that the run goes on filling. It is called between steps, which wait for it.
    """

    def __init__(self, show: Callable[[Progress], object], every: int = 10) -> None:
        if every < 1:
            raise ValueError(f"every is {every}; it must be at least 1")
        self._show, self._every = show, every
        self.progress = Progress(0)
        self._last = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin anew."""
        self.progress, self._last = Progress(int(trainer.max_steps)), trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Tell the bits per byte of the step, if its turn has come."""
        step = trainer.global_step
        if step != self._last and step % self._every == 0 and "train/bpb" in trainer.callback_metrics:
            self.progress.train.append((step, float(trainer.callback_metrics["train/bpb"])))
            self._show(self.progress)
        self._last = step

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Tell the bits per byte of the validation, and where its samples lie."""
        if trainer.sanity_checking:
            return
        step = trainer.global_step
        self.progress.val.append((step, float(trainer.callback_metrics["val/bpb"])))
        drawn = Path(trainer.log_dir or trainer.default_root_dir, "samples", f"step-{step:07d}")
        self.progress.samples = sorted(path for path in drawn.rglob("*") if path.is_file())
        self._show(self.progress)


log = logging.getLogger(__name__)

MINUTES = 2.0
"""Between two last.ckpt, as in the program."""


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

    `folder` receives best.ckpt, last.ckpt and logs/, once training begins in place of an earlier run's checkpoints. An
    interrupt (Jupyter's stop button) ends the run after the step at hand, and last.ckpt is returned. val_every: steps
    between two validations, at most `steps`; by default there is one at the end. Raises ValueError for settings that do
    not fit the data, or a folder that cannot be written to.
    """
    folder = Path(folder)
    best, last = folder / "best.ckpt", folder / "last.ckpt"
    tidy_output()
    check_writable(folder)
    seed_everything(seed)
    try:
        trainer = _trainer(folder, steps, min(val_every or steps, steps), [*callbacks, _MakeWay(best, last)])
        trainer.fit(model, datamodule=data)
    except RunInterrupted as stop:
        log.info("stopped by %s; what was learned is in %s", stop, last)
        return last
    return best


class _MakeWay(Callback):
    """Removes an earlier run's checkpoints when the new one begins: a mistake in its settings costs nobody theirs."""

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
        "logger": loggers(folder),
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    own = [GracefulStop(), Throughput(), BestCheckpoint(folder), LastCheckpoint(folder, MINUTES)]
    trainer = Trainer(**settings, callbacks=[*callbacks, *own])
    trainer.strategy.checkpoint_io = AtomicCheckpointIO()
    return trainer
