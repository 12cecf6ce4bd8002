"""Train models side by side on the same data, each for the same time, and compare their bits per byte.

All models and seeds are trained in one process, in turns of a few seconds. docs/benchmarks.md says what is held equal
and how to read the table.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.compare.experiment import Entry, read_experiment
from benchmarks.compare.plot import plot
from benchmarks.compare.results import Point, Results
from benchmarks.compare.rounds import Validation, train_interleaved
from benchmarks.compare.run import Limit, Machine, Run
from benchmarks.harness.program import add_device, check_device
from benchmarks.harness.report import describe_machine
from benchmarks.peers import PEERS
from megabyte_mm.evaluation import is_sliding
from megabyte_mm.training.trainer import best_precision, keep_freed_memory

PROG = "python -m benchmarks.compare"


def main(arguments: list[str] | None = None) -> int:
    """The exit code: 0, 2 for a mistake in the arguments or the experiment, 130 after Ctrl-C, which keeps results."""
    words = sys.argv[1:] if arguments is None else arguments
    options = _options(words)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    if options.device == "cpu":
        keep_freed_memory()
    machine = Machine(torch.device(options.device), bf16=_bf16(options))
    try:
        _refuse_earlier(options)
        entries = _entries(options)
        results = Results(_settings(options, machine, words))
        runs = _runs(entries, options, machine, results)
        _compare(runs, results, options)
    except (ValueError, OSError) as error:
        print(f"{PROG}: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"stopped; the results so far are in {options.out}", file=sys.stderr)
        return 130
    return 0


def _compare(runs: list[Run], results: Results, options: argparse.Namespace) -> None:
    options.out.mkdir(parents=True, exist_ok=True)
    validation = Validation(options.data, options.val_windows, options.final_windows)

    def validate(run: Run, share: float) -> Iterator[Point]:
        for point in validation.points(run, share):
            _print(point)
            yield point

    try:
        for points in train_interleaved(runs, options.slice, validate):
            results.points += points
            results.write(options.out)
    finally:
        if results.points:
            print(f"\n{results.table().text()}", flush=True)
            plot(results, options.out / "bpb.png", "flops" if options.flops else "seconds")


def _print(point: Point) -> None:
    print(
        f"{point.model:24} seed {point.seed}  {point.seconds:8.1f} s  {point.steps:7,} steps  "
        f"{point.bytes:13,} bytes  {point.bytes_per_second:10,.0f} bytes/s  {point.bpb:.4f} bpb  "
        f"({point.method}{', final' if point.final else ''})",
        flush=True,
    )


def _refuse_earlier(options: argparse.Namespace) -> None:
    """Raise ValueError where the results would replace those of an earlier comparison without --overwrite."""
    if (options.out / "results.json").exists() and not options.overwrite:
        raise ValueError(f"{options.out} holds an earlier comparison: name another --out, or add --overwrite")


def _runs(entries: list[Entry], options: argparse.Namespace, machine: Machine, results: Results) -> list[Run]:
    """Every model under every seed, untrained. Models that cannot take part are left out, with a note."""
    limit = Limit(options.seconds, options.flops)
    runs: list[Run] = []
    for entry in entries:
        if reason := _absent(entry, options):
            results.notes.append(reason)
            print(reason, flush=True)
            continue
        try:
            runs += [
                Run(entry, seed, entry.open_data(options.data, seed, None), machine, limit) for seed in options.seeds
            ]
        except ValueError as error:
            raise ValueError(f"model {entry.name}: {error}") from error
        results.settings["models"][entry.name] = _record(entry, runs[-1])
    if not runs:
        raise ValueError("no model is left to train")
    if options.final_windows and any(is_sliding(method) for run in runs for method in run.entry.methods):
        results.notes.append(
            f"Rows of sliding methods are of other bytes than the rest where --final_windows {options.final_windows} "
            "leaves any out: they then compare among themselves only."
        )
    return runs


def _entries(options: argparse.Namespace) -> list[Entry]:
    entries = read_experiment(options.experiment)
    names = [entry.name for entry in entries]
    if unknown := sorted(set(options.only or ()) - set(names)):
        raise ValueError(f"--only {' '.join(unknown)}: {options.experiment} knows {', '.join(names)}")
    return [entry for entry in entries if not options.only or entry.name in options.only]


def _absent(entry: Entry, options: argparse.Namespace) -> str | None:
    """Why a model takes no part, or None."""
    if entry.peer is None:
        return None
    if options.flops:
        return f"{entry.name} is left out under --flops: a peer counts no operations."
    if PEERS[entry.peer].installed() is None:
        return f"{entry.name} is left out: {PEERS[entry.peer].package} is not installed (docs/benchmarks.md)."
    return None


def _settings(options: argparse.Namespace, machine: Machine, words: list[str]) -> dict[str, Any]:
    """What the figures depend on besides the models."""
    precision = "bfloat16" if machine.bf16 else "float32"
    return {
        "command": shlex.join(["python", "-m", "benchmarks.compare", *words]),
        "machine": {**describe_machine(machine.device), "precision": precision},
        "experiment": options.experiment.read_text(encoding="utf-8"),
        "models": {},
    }


def _record(entry: Entry, run: Run) -> dict[str, Any]:
    """An entry as plain values, and its architecture as completed from the data."""
    net = run.model.config
    return {**asdict(replace(entry, net=net)), "architecture": net.name, "parameters": run.parameters}


def _bf16(options: argparse.Namespace) -> bool:
    if options.precision == "auto":
        return best_precision(options.device) == "bf16-mixed"
    return bool(options.precision == "bf16")


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=PROG, description=__doc__)
    add = parser.add_argument
    add(
        "experiment", type=Path, metavar="EXPERIMENT.yaml", help="the models, such as benchmarks/experiments/image.yaml"
    )
    add("--data", required=True, metavar="PATH", help="media files, as data.path of megabyte-mm fit")
    add("--out", required=True, type=Path, metavar="DIR", help="folder for results.json, table.md and bpb.png")
    add("--overwrite", action="store_true", help="replace the results of an earlier comparison in --out")
    add("--seconds", type=float, default=180.0, help="training time of each run, validation not counted (default: 180)")
    add("--flops", type=float, help="end each run after so many operations instead; peers are then left out")
    add("--seeds", type=int, nargs="+", default=[0], help="each model is trained once under each (default: 0)")
    add("--only", nargs="+", metavar="NAME", help="some of the experiment's models (default: all)")
    add("--slice", type=float, default=5.0, help="seconds that a run trains at a time (default: 5)")
    add("--val_windows", type=int, default=64, help="windows validated for the plot (default: 64)")
    add("--final_windows", type=int, help="windows validated at the end for the table (default: all)")
    add("--precision", choices=("auto", "bf16", "fp32"), default="auto", help="auto: bf16 where it is fast (default)")
    add_device(parser)
    add("--threads", type=int, help="CPU threads (default: torch's own choice)")
    options = parser.parse_args(arguments)
    check_device(parser, options)
    for name in ("seconds", "flops", "slice", "val_windows", "final_windows", "threads"):
        value = getattr(options, name)
        if value is not None and not value > 0:
            parser.error(f"--{name} must be above 0, not {value}")
    if len(set(options.seeds)) < len(options.seeds):
        parser.error("--seeds holds a seed twice")
    return options


if __name__ == "__main__":
    sys.exit(main())
