"""The phase of a run, in a file that outlives it. Apart from the script, since the run imports it as a callback."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

PHASES = (START_UP, TRAINING, VALIDATION, END) = ("start-up", "training", "validation", "end")
FILE = "PHASE"


class PhaseFile(Callback):
    """Keeps the run's phase, a digit, in the file PHASE beside the run's folder."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._file = os.open(Path(trainer.default_root_dir).parent / FILE, os.O_WRONLY | os.O_CREAT, 0o644)
        self._write(TRAINING)

    def on_validation_start(self, *_: Any) -> None:
        self._write(VALIDATION)

    def on_validation_end(self, *_: Any) -> None:
        self._write(TRAINING)

    def on_train_end(self, *_: Any) -> None:
        self._write(END)

    def _write(self, phase: str) -> None:
        os.pwrite(self._file, str(PHASES.index(phase)).encode(), 0)
