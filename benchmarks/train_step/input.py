"""Part `input`: rates of the loader, of bare steps and of a real `fit`, and the time that `fit` waits for batches."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch
import yaml
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.profilers import SimpleProfiler

from benchmarks.compare.experiment import Entry, read_experiment
from benchmarks.harness.report import Table
from benchmarks.harness.timing import Conditions, timed
from benchmarks.harness.training import fit_precision, training_step
from benchmarks.harness.workers import worker
from benchmarks.harness.workloads import SHIPPED, shipped
from benchmarks.train_step.implementations import OURS, Implementation, build
from megabyte_mm.data.dataset import Batch
from megabyte_mm.data.module import ByteData
from megabyte_mm.demo_data import make_demo_data
from megabyte_mm.training.callbacks import Throughput
from megabyte_mm.training.console import LOGGERS, configure_output
from megabyte_mm.training.loggers import make_loggers
from megabyte_mm.training.module import ByteLM
from megabyte_mm.training.trainer import TRAINER_DEFAULTS, best_precision, keep_freed_memory

REPEATS = 3
FOLDERS = {"image": "images", "audio": "audio", "text": "text"}
"""Folder of the demo data of each shipped config."""
NEXT_BATCH = "[_TrainingEpochLoop].train_dataloader_next"
"""Name of the wait for a batch in Lightning's profiler."""


@dataclass(frozen=True)
class Amounts:
    """How much is measured at a time.

    Args:
        batches: Read from the loader alone.
        warm_up: Steps before those that are timed.
        steps: Steps that are timed, bare and in `fit`.
    """

    batches: int = 200
    warm_up: int = 10
    steps: int = 40


@dataclass(frozen=True)
class Rates:
    """Bytes a second of the loader alone, of bare steps and of `fit`, and the share of `fit` spent waiting."""

    loader: float
    step: float
    fit: float
    waiting: float


def measure_input(conditions: Conditions, tiny: bool) -> list[Table]:
    """One row for each shipped config on demo data, medians of some repeats; a toy measures the first config alone."""
    columns = ("config", "batch", "window", "loader bytes/s", "step bytes/s", "step time / loader time", "fit bytes/s")
    table = Table("Input", (*columns, "waiting in fit"))
    amounts = Amounts(batches=4, warm_up=1, steps=2) if tiny else Amounts()
    with TemporaryDirectory() as folder:
        media = Path(folder, "media")
        make_demo_data(media, **({"pictures": 16, "melodies": 2} if tiny else {}))
        for name in SHIPPED[:1] if tiny else SHIPPED:
            setup = partial(set_up_input, name, media / FOLDERS[name], Path(folder), amounts, conditions.device)
            with worker(f"input, {name}", setup, conditions.threads) as process:
                rates: list[Rates] = [process.call() for _ in range(1 if tiny else REPEATS)]
            workload = shipped(name)
            loader, step, fit, waiting = (
                median(getattr(one, kind) for one in rates) for kind in ("loader", "step", "fit", "waiting")
            )
            ratio = median(one.loader / one.step for one in rates)
            table.rows.append((name, workload.batch, workload.window, loader, step, ratio, fit, waiting))
    table.notes.append(
        "The loader runs alone, in the training process, on encoded files. Waiting: the share of its steps' time in "
        "which fit waits for a batch. It runs without validation and checkpoints, with its loggers."
    )
    return [table]


def set_up_input(
    name: str, media: Path, folder: Path, amounts: Amounts, device: torch.device
) -> tuple[None, Callable[[None], Rates]]:
    """For a worker: a function that measures loader, steps and `fit` once, one after the other."""
    configure_output()
    for logger in LOGGERS:
        logging.getLogger(logger).setLevel(logging.WARNING)
    if device.type == "cpu":
        keep_freed_memory()
    entry = _entry(name, folder)
    data = entry.open_data(str(media), 0, None)
    step = _bare_step(name, entry, device)
    for _ in range(amounts.warm_up):
        step()
    batches = _endless(data)

    def measure(_: None) -> Rates:
        window = data.geometry.window * entry.batch_size
        read = timed(partial(next, batches), amounts.batches, torch.device("cpu"))
        bare = timed(step, amounts.steps, device)
        fit, waiting = _fit(entry, str(media), folder, amounts, device)
        return Rates(window / read, window / bare, window / fit, waiting)

    return None, measure


def _entry(name: str, folder: Path) -> Entry:
    """A shipped config's data, model and optimizer; encoded files are cached in the folder."""
    experiment = folder / f"{name}.yaml"
    models = {name: {"extends": f"configs/{name}.yaml"}}
    experiment.write_text(yaml.safe_dump({"models": models}), encoding="utf-8")
    [entry] = read_experiment(experiment)
    return replace(entry, data={**entry.data, "cache_dir": str(folder / "cache")})


def _endless(data: ByteData) -> Iterator[Batch]:
    loader = data.train_dataloader()
    while True:
        yield from loader


def _bare_step(name: str, entry: Entry, device: torch.device) -> Callable[[], None]:
    workload = shipped(name)
    model = build(Implementation(OURS), workload, device)
    ids_BT = workload.ids(entry.batch_size, workload.window, device)
    return training_step(model, ids_BT, fit_precision(device))


class Clock(Callback):
    """Seconds from the end of step `first` to the end of step `last`, a GPU's unfinished work included."""

    def __init__(self, first: int, last: int) -> None:
        self._first, self._last = first, last
        self._start = 0.0
        self.seconds = 0.0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Read the clock after both steps."""
        if trainer.global_step not in (self._first, self._last):
            return
        if pl_module.device.type == "cuda":
            torch.cuda.synchronize(pl_module.device)
        if trainer.global_step == self._first:
            self._start = time.perf_counter()
        else:
            self.seconds = time.perf_counter() - self._start


def _fit(entry: Entry, media: str, folder: Path, amounts: Amounts, device: torch.device) -> tuple[float, float]:
    """Seconds of a step of a real `fit`, and the share of them spent waiting for a batch."""
    clock = Clock(amounts.warm_up, amounts.warm_up + amounts.steps)
    profiler = SimpleProfiler(dirpath=folder, filename="profile")
    settings = {
        **TRAINER_DEFAULTS,
        "accelerator": "cpu" if device.type == "cpu" else "gpu",
        "devices": 1,
        "precision": best_precision("cpu" if device.type == "cpu" else "auto"),
        "default_root_dir": folder,
        "max_steps": amounts.warm_up + amounts.steps,
        "limit_val_batches": 0,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "logger": make_loggers(folder),
        "callbacks": [clock, Throughput(), LearningRateMonitor("step")],
        "profiler": profiler,
    }
    trainer = Trainer(**settings)
    assert entry.net is not None
    trainer.fit(ByteLM(entry.net, entry.optimizer), datamodule=entry.open_data(media, 0, None))
    # One wait for each step: the last ones are those of the timed steps.
    waits = profiler.recorded_durations[NEXT_BATCH][-amounts.steps :]
    return clock.seconds / amounts.steps, sum(waits) / clock.seconds
