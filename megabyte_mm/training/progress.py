"""The curves of a run while it trains, for live plots."""

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
    """The figures of a run so far.

    steps: of the whole run. samples: the files of its last validation; none without a SampleWriter.
    """

    steps: int
    train: Curve = field(default_factory=list)
    val: Curve = field(default_factory=list)
    samples: list[Path] = field(default_factory=list)


class ProgressCallback(Callback):
    """Calls `show` with the progress of the run every `every` steps, and after each validation.

    The run waits for it. Its argument is always the same TrainingProgress, which the run continues to fill.
    """

    def __init__(self, show: Callable[[TrainingProgress], object], every: int = 10) -> None:
        if every < 1:
            raise ValueError(f"every is {every}; it must be at least 1")
        self._show, self._every = show, every
        self.progress = TrainingProgress(0)
        self._last = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Clear the curves."""
        self.progress, self._last = TrainingProgress(int(trainer.max_steps)), trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add the bits per byte of every `every`-th step."""
        step = trainer.global_step
        if step != self._last and step % self._every == 0 and "train/bpb" in trainer.callback_metrics:
            self.progress.train.append((step, float(trainer.callback_metrics["train/bpb"])))
            self._show(self.progress)
        self._last = step

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add the bits per byte of the validation, and its samples."""
        if trainer.sanity_checking:
            return
        step = trainer.global_step
        self.progress.val.append((step, float(trainer.callback_metrics["val/bpb"])))
        folder = Path(trainer.log_dir or trainer.default_root_dir, "samples", f"step-{step:07d}")
        self.progress.samples = sorted(path for path in folder.rglob("*") if path.is_file())
        self._show(self.progress)
