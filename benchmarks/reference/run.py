"""A run of `megabyte-mm fit`, the test of its best checkpoint, and its figures."""

from __future__ import annotations

import csv
import json
import resource
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from benchmarks.harness.report import Cell
from benchmarks.reference.sets import Reference, Size
from megabyte_mm import load_model
from megabyte_mm.cli.config import read_config
from megabyte_mm.cli.main import main as megabyte_mm

RESULT = "result.json"


class RunError(Exception):
    """A command has ended with an error, which it has printed. code: its exit code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def train_and_test(
    reference: Reference, size: Size, data: str, out: Path, minutes: float | None, options: Sequence[str]
) -> dict[str, Any]:
    """Train in the folder `out`, and return the figures that RESULT holds, but those of the machine.

    data: the path to train on. minutes: of training, in place of the config's number of steps. options: further ones of
    `fit`. Raises RunError.
    """
    arguments = [f"--config={path}" for path in reference.configs(size)]
    arguments += [f"--data.path={data}", f"--trainer.default_root_dir={out}"]
    if minutes is not None:
        arguments += ["--trainer.max_steps=-1", f"--trainer.max_time={_duration(minutes)}"]
    training = _timed("fit", [*arguments, *options])
    config = _saved_config(out)
    testing, bits = _tested(config, out, reference)
    best, run = load_model(out / "best.ckpt"), load_model(out / "last.ckpt").provenance
    split = _measured_split(config)
    return {
        "name": reference.name,
        "size": size,
        "data": data,
        "options": list(options),
        "published": [asdict(figure) for figure in reference.published],
        "bits_per_byte": bits,
        "method": reference.method,
        **split,
        "is_published_split": None if reference.split_bytes is None else split["split_bytes"] == reference.split_bytes,
        "val_bits_per_byte": best.provenance.best_val_bpb,
        "best_step": best.provenance.steps,
        "parameters": sum(weight.numel() for weight in best.model.parameters()),
        "steps": run.steps,
        "bytes_seen": run.bytes,
        "training": training,
        "testing": testing,
    }


def write_result(out: Path, result: dict[str, Any], machine: dict[str, Cell]) -> Path:
    """Write the figures and the machine as JSON into the folder of the run."""
    path = out / RESULT
    path.write_text(json.dumps({"machine": machine, **result}, indent=1) + "\n", encoding="utf-8")
    return path


def _timed(command: str, arguments: list[str]) -> dict[str, float]:
    """Seconds of the clock and of the processors that a command of `megabyte-mm` took. Raises RunError."""
    clock, used = time.perf_counter(), _cpu_seconds()
    code = megabyte_mm([command, *arguments])
    if code:
        raise RunError(code)
    return {"seconds": time.perf_counter() - clock, "cpu_seconds": _cpu_seconds() - used}


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _tested(config: Path, out: Path, reference: Reference) -> tuple[dict[str, float], float]:
    """The time that `test` takes with best.ckpt, and the bits per byte that it logs. Raises RunError."""
    logger = {"class_path": "lightning.pytorch.loggers.CSVLogger", "init_args": {"save_dir": str(out), "name": "test"}}
    arguments = [f"--config={config}", f"--ckpt_path={out / 'best.ckpt'}", f"--model.method={reference.method}"]
    taken = _timed("test", [*arguments, f"--trainer.logger={json.dumps(logger)}"])
    with (_newest(out / "test") / "metrics.csv").open(encoding="utf-8", newline="") as file:
        return taken, float(next(row["test/bpb"] for row in csv.DictReader(file)))


def _measured_split(config: Path) -> dict[str, Any]:
    """Files and bytes that `test` reads and that `fit` trains on."""
    data = read_config(str(config)).data
    data.setup()
    return {
        "split": "val" if data.test.rows.tolist() == data.val.rows.tolist() else "test",
        "split_files": len(data.test),
        "split_bytes": int(data.test.lengths.sum()),
        "train_files": len(data.train),
        "train_bytes": int(data.train.lengths.sum()),
    }


def _saved_config(out: Path) -> Path:
    return _newest(out / "logs") / "config.yaml"


def _newest(folder: Path) -> Path:
    """The folder of the latest version of a log."""
    return max(folder.glob("version_*"), key=lambda path: int(path.name.partition("_")[2]))


def _duration(minutes: float) -> str:
    """Days, hours, minutes and seconds, as trainer.max_time takes them."""
    seconds = max(round(minutes * 60), 1)
    days, seconds = divmod(seconds, 24 * 3600)
    return f"{days:02d}:{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def device() -> torch.device:
    """The device that runs are on by default."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
