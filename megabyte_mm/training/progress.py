"""The curves of a run while it trains, for whoever shows them live."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

Curve = list[tuple[int, float]]
"""Steps and bits per byte."""


@dataclass
class TrainingProgress:
    """How far a run is. samples: the files that its last validation drew; none without a SampleWriter."""

    steps: int
    train: Curve = field(default_factory=list)
    val: Curve = field(default_factory=list)
    samples: list[Path] = field(default_factory=list)


class ProgressCallback(Callback):
    """Tells a function how far the run is, every so many steps and after each validation.

    show: is given the one TrainingProgress that the run goes on filling. It is called between steps, which wait for it.
    """

    def __init__(self, show: Callable[[TrainingProgress], object], every: int = 10) -> None:
        if every < 1:
            raise ValueError(f"every is {every}; it must be at least 1")
        self._show, self._every = show, every
        self.progress = TrainingProgress(0)
        self._last = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin anew."""
        self.progress, self._last = TrainingProgress(int(trainer.max_steps)), trainer.global_step

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
