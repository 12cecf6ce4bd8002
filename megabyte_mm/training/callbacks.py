"""Log entries of a run: its speed, and a line for every validation."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only

from data_adapters import Adapter
from megabyte_mm.checkpoint.provenance import data_name
from megabyte_mm.data.dataset import Batch
from megabyte_mm.data.module import ByteData
from megabyte_mm.data.records import Records
from megabyte_mm.models import ModelConfig
from megabyte_mm.models.neighbourhood import NeighbourhoodConfig
from megabyte_mm.progress import format_bytes
from megabyte_mm.training.checkpointing import BestCheckpoint
from megabyte_mm.training.console import format_step
from megabyte_mm.training.module import ByteLM

log = logging.getLogger(__name__)
MOST_CLASSES = 12
"""Of the classes, how many are named."""


class Throughput(Callback):
    """Logs bytes a second and estimated floating-point operations a second of training, over all devices.

    `train/bytes` counts the bytes of all windows since the run began, each window as full; validations take no time.
    """

    def __init__(self) -> None:
        self.bytes = 0
        self._step, self._bytes_at_update = 0, 0
        self._since: tuple[float, int] | None = None

    def state_dict(self) -> dict[str, Any]:
        """The count at the last update: a resumed run repeats the batches after it."""
        return {"bytes": self._bytes_at_update}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue the count."""
        self.bytes = self._bytes_at_update = state_dict["bytes"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the number of the next update."""
        self._step = trainer.global_step

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Exclude the validation from the speed."""
        self._since = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Count, and log at the interval of the trainer."""
        interval = max(trainer.log_every_n_steps, 1)  # type: ignore[attr-defined] # set by a connector
        logging_now = trainer.global_step % interval == 0
        self.bytes += batch.ids.numel() * trainer.world_size
        if trainer.global_step != self._step:
            self._step, self._bytes_at_update = trainer.global_step, self.bytes
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
    """Logs the model and the data in one line, and a line for every validation.

    Checkpoints store its figures as the provenance of the model (`megabyte_mm.checkpoint.provenance`).
    """

    def __init__(self) -> None:
        self._provenance: dict[str, Any] = {"data_name": "", "data": {}, "val_bpb": {}, "method": ""}

    def state_dict(self) -> dict[str, Any]:
        """The training data, and the latest validation."""
        return dict(self._provenance)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the figures of the resumed run until the next validation."""
        self._provenance |= state_dict

    @rank_zero_only
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the model and the data, and options that have no effect on them."""
        assert isinstance(pl_module, ByteLM)
        model, data = pl_module.model, trainer.datamodule  # type: ignore[attr-defined] # set by a connector
        self._provenance |= {
            "data_name": ", ".join(map(data_name, data.paths)),
            "data": {
                source.name: {split: counts(data.records(split)[number]) for split in ("train", "val")}
                for number, source in enumerate(data.sources)
            },
            "method": pl_module.method,
            "val_share": None if data.settings.in_parts else data.settings.val_share,
        }
        sizes = ", ".join(map(str, model.patch_sizes))
        facts = [
            f"{model.config.name}, {model.num_parameters / 1e6:.2f} M parameters"
            + (f", patch {sizes}" if max(model.patch_sizes) > 1 else ""),
            f"window {data.geometry.window}",
            describe_data(data),
            f"{trainer.num_training_batches} batches an epoch",
            f"{trainer.precision} on {trainer.world_size} x {pl_module.device.type}",
            f"{model.flops_per_byte() / 1e6:.2f} MFLOP/byte forward",
        ]
        log.info("%s", "; ".join(facts))
        unused = unused_options(model.config, [source.adapter for source in data.sources])
        if unused:
            log.warning("without effect: %s; this data's adapters look up no groups of bytes", ", ".join(unused))

    @rank_zero_only
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the figures of the validation."""
        if trainer.sanity_checking:
            return
        figures = {name: float(value) for name, value in trainer.callback_metrics.items()}
        measured = {name: value for name, value in figures.items() if name.startswith("val/bpb")}
        self._provenance["val_bpb"] = {
            name.removeprefix("val/bpb").strip("/"): value for name, value in measured.items()
        }
        shown = ["train/bpb", *measured]
        entries = [f"{name} {figures[name]:.4f}" for name in shown if name in figures]
        if "train/bytes_per_s" in figures:
            entries.append(f"{format_bytes(figures['train/bytes_per_s'])}/s")
        log.info("step %s: %s", format_step(trainer), ", ".join(entries))

    @rank_zero_only
    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the path of the best checkpoint, and its score."""
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, BestCheckpoint) and callback.best_model_score is not None:
                path = os.path.relpath(callback.best_model_path)
                log.info("%s: val/bpb %.4f", path, float(callback.best_model_score))


def unused_options(net: ModelConfig, adapters: Iterable[Adapter]) -> list[str]:
    """The options of groups of neighbours that differ from their defaults, where no adapter has groups."""
    if net.neighbourhood is None or any(adapter.neighbourhood.groups for adapter in adapters):
        return []
    defaults = NeighbourhoodConfig()
    changed = {
        name: getattr(net.neighbourhood, name)
        for name in ("rows", "dropout", "max_group")
        if getattr(net.neighbourhood, name) != getattr(defaults, name)
    }
    return [f"model.net.neighbourhood.{name} {value}" for name, value in changed.items()]


def counts(records: Records) -> dict[str, int]:
    """The number of files and of bytes of a split."""
    return {"files": len(records), "bytes": int(records.lengths.sum())}


def describe_data(data: ByteData) -> str:
    """The files and the size of what trains and what validates, of each source; and the classes."""
    named = [
        f"{source.name} {_size(train)} to train on and {_size(val)} to validate".strip()
        for source, train, val in zip(data.sources, data.records("train"), data.records("val"), strict=True)
    ]
    classes = data.geometry.conditions[1:] if data.settings.classes else ()
    shown = ", ".join(classes[:MOST_CLASSES]) + (", ..." if len(classes) > MOST_CLASSES else "")
    return ", ".join(named) + (f"; {len(classes)} classes: {shown}" if classes else "")


def _size(records: Records) -> str:
    """Such as 640 files (2.0 MB)."""
    count = int(records.lengths.sum())
    return f"{len(records):,} {'file' if len(records) == 1 else 'files'} ({format_bytes(count)})"
