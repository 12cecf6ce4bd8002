"""Output on stderr: log lines above the progress bar, without the noise of the libraries."""

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
    # Advertising, and lines that repeat RunReport's.
    "💡",
    "Seed set to",
    "`Trainer.fit` stopped: `max_steps",  # the next line names the checkpoint
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
    # Between the libraries, and advice that is wrong for memory-mapped data and for our run folders.
    ".*does not have many workers.*",
    ".*LeafSpec.*is deprecated.*",
    ".*add_instantiator.*",
    "Checkpoint directory .* exists and is not empty.*",
    "Experiment logs directory .* exists and is not empty.*",
    ".*smaller than the logging interval.*",
    # The nats are not changed in place.
    "FSDP2-wrapped module .* returned a view tensor.*",
    # Of torch's compiler about itself, and about products that model.matmul_precision is for.
    ".*torch.jit.script_method.* is deprecated.*",
    "TensorFloat32 tensor cores .* not enabled.*",
    # Lightning wraps models on a stream of its own.
    "The AccumulateGrad node's stream does not match.*",
    # validate and test need no callbacks of the run.
    "Be aware that when using `ckpt_path`.*",
)


class StderrHandler(logging.StreamHandler[TextIO]):
    """Writes to the current sys.stderr: a progress bar replaces it, so that lines appear above the bar."""

    @property
    def stream(self) -> TextIO:
        """The current sys.stderr."""
        return sys.stderr

    @stream.setter
    def stream(self, value: TextIO) -> None:
        """Ignored."""


class StepProgressBar(RichProgressBar):
    """Lightning's progress bar on stderr, with the step of the run."""

    def __init__(self) -> None:
        # More frequent updates slow small steps by half.
        super().__init__(refresh_rate=20, console_kwargs={"stderr": True})

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """The step and the metrics, without the number of the log folder."""
        metrics = {name: value for name, value in super().get_metrics(trainer, pl_module).items() if name != "v_num"}
        return {"step": format_step(trainer), **metrics}

    def configure_columns(self, trainer: Trainer) -> list[Any]:
        """A short bar without batches per second, to make room for the metrics."""
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
    """The step and the last one, such as 40/300."""
    return f"{trainer.global_step}/{trainer.max_steps}" if trainer.max_steps > 0 else f"{trainer.global_step}"


def configure_output() -> None:
    """Log the lines of this package and of Lightning on stderr with one handler, and filter the noise."""
    handler = StderrHandler()
    handler.addFilter(_is_not_noise)
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
    """Show errors as Python does, but not those of TensorBoard's writer, which its next call raises again."""
    if type(error.thread).__name__ != "_AsyncWriterThread":
        threading.__excepthook__(error)


def _is_not_noise(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(NOISE)
