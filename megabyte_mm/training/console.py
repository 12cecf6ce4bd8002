"""What is shown while a program runs: log lines that keep clear of the progress bar, and no noise."""

from __future__ import annotations

import logging
import sys
import threading
import warnings
from typing import Any, TextIO

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.callbacks.progress.rich_progress import ProcessingSpeedColumn
from rich.progress import BarColumn

LOGGERS = ("lightning.pytorch", "lightning.fabric", "megabyte_mm")

NOISE = (
    # Advertising, and what our own first line says.
    "💡",
    "Seed set to",
    "`Trainer.fit` stopped: `max_steps",  # the checkpoint is named in the next line
    "GPU available: False",
    "TPU available",
    "Using bfloat16 Automatic Mixed Precision",
    "Using 16bit Automatic Mixed Precision",
    "LOCAL_RANK: ",
    "Restoring states from the checkpoint path",
    "Loaded model weights from",
    "`weights_only` was not set",
    "\nDetected KeyboardInterrupt",
)

WARNINGS = (
    # The libraries about each other, and advice that does not hold for memory-mapped data or for our run folders.
    ".*does not have many workers.*",
    ".*LeafSpec.*is deprecated.*",
    ".*add_instantiator.*",
    "Checkpoint directory .* exists and is not empty.*",
    "Experiment logs directory .* exists and is not empty.*",
    ".*smaller than the logging interval.*",
    # Nobody changes the nats in place.
    "FSDP2-wrapped module .* returned a view tensor.*",
    # A run's callbacks are none of the business of validate and test.
    "Be aware that when using `ckpt_path`.*",
)


class StderrHandler(logging.StreamHandler[TextIO]):
    """Writes to what sys.stderr is at the moment: a progress bar puts its own there, so that lines appear above it."""

    @property
    def stream(self) -> TextIO:
        """Where to write."""
        return sys.stderr

    @stream.setter
    def stream(self, value: TextIO) -> None:
        """Ignored."""


class StepProgressBar(RichProgressBar):
    """Lightning's bar on stderr, which counts the run's steps where the run has no set number of epochs."""

    def __init__(self) -> None:
        # More frequent updates slow small steps by half.
        super().__init__(refresh_rate=20, console_kwargs={"stderr": True})

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """The step, then what was logged; the number of the log folder is no metric."""
        metrics = {name: value for name, value in super().get_metrics(trainer, pl_module).items() if name != "v_num"}
        return {"step": format_step(trainer), **metrics}

    def configure_columns(self, trainer: Trainer) -> list[Any]:
        """A short bar and no batches a second, so that the figures find room beside it."""
        columns = [
            column for column in super().configure_columns(trainer) if not isinstance(column, ProcessingSpeedColumn)
        ]
        for column in columns:
            if isinstance(column, BarColumn):
                column.bar_width = 16
        return columns

    def _get_train_description(self, current_epoch: int) -> str:
        return super()._get_train_description(current_epoch).replace("/-2", "")


def format_step(trainer: Trainer) -> str:
    """How far the run is, as in 40/300."""
    return f"{trainer.global_step}/{trainer.max_steps}" if trainer.max_steps > 0 else f"{trainer.global_step}"


def configure_output() -> None:
    """Send the program's and Lightning's lines to stderr, one handler for all, without what tells a user nothing."""
    handler = StderrHandler()
    handler.addFilter(_tells_something)
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.setLevel(logging.INFO)
        logger.handlers = [handler]
        logger.propagate = False
    for message in WARNINGS:
        warnings.filterwarnings("ignore", message)
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
    threading.excepthook = _show_thread_error


def _show_thread_error(error: threading.ExceptHookArgs) -> None:
    """As Python does, but for the writer of TensorBoard: what stopped it is told where it is next written to."""
    if type(error.thread).__name__ != "_AsyncWriterThread":
        threading.__excepthook__(error)


def _tells_something(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(NOISE)
