"""Time training steps beside other implementations, over lengths, and beside their input; measure their memory.

Each candidate is a process of its own, and they take turns. Run it on a machine that does nothing else.
docs/benchmarks.md says what each part measures and how to read it.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

import torch

from benchmarks.harness.program import Keep, Parts, check_files, run_parts
from benchmarks.harness.report import Table
from benchmarks.harness.workers import WorkerError
from benchmarks.harness.workloads import Workload
from benchmarks.peers import PEERS
from benchmarks.train_step.implementations import CANDIDATES, Candidate
from benchmarks.train_step.input import measure_input
from benchmarks.train_step.lengths import PATCH_SIZES, TOY_PATCH_SIZES, shape_of, time_lengths
from benchmarks.train_step.memory import measure_memory
from benchmarks.train_step.plot import PLOTTED, draw
from benchmarks.train_step.shapes import shapes
from benchmarks.train_step.speed import PRODUCT_SIZES, time_steps
from benchmarks.train_step.stepper import Conditions

PARTS = ("speed", "lengths", "memory", "input")
TOY_PRODUCT = 64


def main(arguments: list[str] | None = None) -> int:
    """The exit code: 0, 1 where a candidate fails, 130 after Ctrl-C. Figures go to stdout, and to --json and --plot."""
    options = _options(arguments)
    return run_parts("python -m benchmarks.train_step", options, partial(_parts, options), PLOTTED, draw)


def _parts(options: argparse.Namespace, device: torch.device, keep: Keep) -> Parts:
    conditions = Conditions(device, options.threads, options.rounds)
    few = Conditions(device, options.threads, options.length_rounds)
    return {
        "speed": lambda: _speed(options, conditions, keep),
        "lengths": lambda: time_lengths(_lengths(options), few),
        "memory": lambda: measure_memory(conditions, options.toy),
        "input": lambda: measure_input(conditions, options.toy),
    }


def _speed(options: argparse.Namespace, conditions: Conditions, keep: Keep) -> list[Table]:
    candidates, notes = _candidates(options, conditions.device)
    if not candidates:
        raise WorkerError(f"nothing is left to time. {' '.join(notes)}")
    size = TOY_PRODUCT if options.toy else PRODUCT_SIZES[conditions.device.type]
    steps, *others = time_steps(_shapes(options), candidates, conditions, size, keep)
    steps.notes += notes
    return [steps, *others]


def _candidates(options: argparse.Namespace, device: torch.device) -> tuple[list[Candidate], list[str]]:
    """Those that take part, and why others do not."""
    asked = [candidate for candidate in CANDIDATES if options.only is None or candidate.name in options.only]
    peers = dict.fromkeys(candidate.peer for candidate in asked if candidate.peer)
    absent = [peer for peer in peers if PEERS[peer].installed() is None]
    notes = [
        f"{PEERS[peer].package} is not installed, so its rows are left out (docs/benchmarks.md)." for peer in absent
    ]
    if any(candidate.twin(device) for candidate in asked):
        notes.append("fit takes float32 here: rows in float32 would say the same again.")
    return [one for one in asked if one.peer not in absent and not one.twin(device)], notes


def _shapes(options: argparse.Namespace) -> list[Workload]:
    known = shapes(torch.device(options.device), options.toy)
    return [shape for shape in known if options.shapes is None or shape.name in options.shapes]


def _lengths(options: argparse.Namespace) -> list[Workload]:
    if options.toy:
        return [shape_of(power, toy=True) for power in TOY_PATCH_SIZES]
    return [shape_of(power) for power in PATCH_SIZES if power <= options.longest]


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.train_step", description=__doc__)
    default_device = "cuda" if torch.cuda.is_available() else "cpu"
    names = ", ".join(f'"{candidate.name}"' for candidate in CANDIDATES)
    add = parser.add_argument
    add("--parts", nargs="+", choices=PARTS, default=PARTS, help="what to measure (default: everything)")
    add("--device", choices=("cpu", "cuda"), default=default_device, help="default: cuda where it is")
    add("--threads", type=int, default=1, help="CPU threads of each candidate (default: 1)")
    add("--rounds", type=int, default=7, help="turns of each candidate of speed (default: 7)")
    add("--length_rounds", type=int, default=3, help="turns of each length of lengths (default: 3)")
    add("--longest", type=int, default=max(PATCH_SIZES), help="the longest of lengths, as a power of two (default: 21)")
    add("--shapes", nargs="+", metavar="SHAPE", help="some of the shapes of speed (default: all)")
    add("--only", nargs="+", metavar="NAME", help=f"some of the candidates of speed: {names} (default: all)")
    add("--json", type=Path, metavar="FILE", help="also write the machine and all figures there")
    add("--plot", type=Path, metavar="FILE", help="also draw speed and lengths there, as a PNG picture")
    add("--toy", action="store_true", help="tiny models, to see that all runs; the figures mean nothing")
    options = parser.parse_args(arguments)
    _check(parser, options)
    return options


def _check(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Leave with a line that names the first option that cannot be used."""
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch sees no GPU here")
    for name, least in (("threads", 1), ("rounds", 2), ("length_rounds", 1)):
        if getattr(options, name) < least:
            parser.error(f"--{name} must be at least {least}, not {getattr(options, name)}")
    shortest, *_, longest = PATCH_SIZES
    if not shortest < options.longest <= longest:
        parser.error(f"--longest must be from {shortest + 1} to {longest}, not {options.longest}")
    known = {
        "shapes": [shape.name for shape in shapes(torch.device(options.device), options.toy)],
        "only": [candidate.name for candidate in CANDIDATES],
    }
    for name, names in known.items():
        if unknown := sorted(set(getattr(options, name) or ()) - set(names)):
            parser.error(f"--{name}: no {', '.join(unknown)}; known: {'; '.join(names)}")
    check_files(parser, options, PLOTTED)


if __name__ == "__main__":
    sys.exit(main())
