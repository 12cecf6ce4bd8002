"""What a run tells while it trains: speed, a line for every validation, and samples as files."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only

from megabyte_mm.checkpoint.provenance import data_name
from megabyte_mm.data.dataset import Batch
from megabyte_mm.data.records import Records
from megabyte_mm.training.checkpointing import BestCheckpoint
from megabyte_mm.training.console import format_step
from megabyte_mm.training.module import ByteLM

log = logging.getLogger(__name__)


class Throughput(Callback):
    """Logs bytes a second and estimated floating-point operations a second of training, over all devices.

    `train/bytes` counts what was read since the run began, windows counted full; time spent validating does not count.
    """

    def __init__(self) -> None:
        self.bytes = 0
        self._step, self._learned = 0, 0
        self._since: tuple[float, int] | None = None

    def state_dict(self) -> dict[str, Any]:
        """The count goes on after a resume, which repeats the batches since the last update."""
        return {"bytes": self._learned}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        self.bytes = self._learned = state_dict["bytes"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note which update comes next."""
        self._step = trainer.global_step

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Do not count the pause."""
        self._since = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Count, and log at the trainer's interval."""
        interval = max(trainer.log_every_n_steps, 1)  # type: ignore[attr-defined] # set by a connector
        logging_now = trainer.global_step % interval == 0
        self.bytes += batch.ids.numel() * trainer.world_size
        if trainer.global_step != self._step:
            self._step, self._learned = trainer.global_step, self.bytes
        if logging_now:
            pl_module.log("train/bytes", float(self.bytes))
        if self._since is None:
            self._since = time.perf_counter(), self.bytes
        elif logging_now:
            began, before = self._since
            speed = (self.bytes - before) / max(time.perf_counter() - began, 1e-9)
            self._since = time.perf_counter(), self.bytes
            flops = pl_module.model.training_flops_per_byte() * speed  # type: ignore[union-attr,operator]
            pl_module.log_dict({"train/bytes_per_s": speed, "train/flops_per_s": float(flops)})


class RunReport(Callback):
    """Says in a line what is trained on what, then a line for every validation: a run can be followed in a log file.

    Checkpoints keep what it said, for whoever asks a model where it comes from (`megabyte_mm.checkpoint.provenance`).
    """

    def __init__(self) -> None:
        self._told: dict[str, Any] = {"data_name": "", "data": {}, "val_bpb": {}, "method": ""}

    def state_dict(self) -> dict[str, Any]:
        """What the run was trained on, and its latest validation."""
        return dict(self._told)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Until the next validation, the latest is that of the run before."""
        self._told |= state_dict

    @rank_zero_only
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say what begins."""
        assert isinstance(pl_module, ByteLM)
        model, data = pl_module.model, trainer.datamodule  # type: ignore[attr-defined] # set by a connector
        self._told |= {
            "data_name": data_name(data.path),
            "data": {
                source.name: {split: counts(data.records(split)[number]) for split in ("train", "val")}
                for number, source in enumerate(data.sources)
            },
            "method": pl_module.method,
        }
        size = sum(parameter.numel() for parameter in model.parameters())
        train, val = data.records("train"), data.records("val")
        patch = model.patch_size if model.patch_size > 1 else None
        told = [
            f"{model.config.name}, {size / 1e6:.2f} M parameters" + (f", patch {patch}" if patch else ""),
            f"window {data.window}, {count_bytes(train)} to train on, {count_bytes(val)} to validate",
            f"{trainer.num_training_batches} batches an epoch",
            f"{trainer.precision} on {trainer.world_size} x {pl_module.device.type}",
            f"{model.flops_per_byte() / 1e6:.2f} MFLOP/byte forward",
        ]
        log.info("%s", "; ".join(told))

    @rank_zero_only
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say the figures that were just measured."""
        if trainer.sanity_checking:
            return
        figures = {name: float(value) for name, value in trainer.callback_metrics.items()}
        measured = {name: value for name, value in figures.items() if name.startswith("val/bpb")}
        self._told["val_bpb"] = {name.removeprefix("val/bpb").strip("/"): value for name, value in measured.items()}
        shown = ["train/bpb", *measured]
        told = [f"{name} {figures[name]:.4f}" for name in shown if name in figures]
        if "train/bytes_per_s" in figures:
            told.append(f"{figures['train/bytes_per_s'] / 1e3:.1f} kB/s")
        log.info("step %s: %s", format_step(trainer), ", ".join(told))

    @rank_zero_only
    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say where the results lie."""
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, BestCheckpoint) and callback.best_model_score is not None:
                path = os.path.relpath(callback.best_model_path)
                log.info("%s: val/bpb %.4f", path, float(callback.best_model_score))


def counts(records: Records) -> dict[str, int]:
    """Files of a split, and their bytes."""
    return {"files": len(records), "bytes": int(records.lengths.sum())}


def count_bytes(sources: Sequence[Records]) -> str:
    """How much data there is, for people."""
    count = sum(int(records.lengths.sum()) for records in sources)
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"
