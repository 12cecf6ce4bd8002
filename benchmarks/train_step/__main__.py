"""Time training steps: beside other implementations, by length, beside their input; measure their memory.

Each implementation is a process of its own, and all are measured in turns. Run it on an otherwise idle machine.
docs/benchmarks.md explains the parts.
"""

from __future__ import annotations

import argparse
import sys

import torch

from benchmarks.harness.program import (
    Save,
    add_options,
    check_at_least,
    check_known,
    check_options,
    run_parts,
)
from benchmarks.harness.report import Table
from benchmarks.harness.timing import Conditions
from benchmarks.harness.workers import WorkerError
from benchmarks.harness.workloads import Workload
from benchmarks.peers import PEERS
from benchmarks.train_step.allocator import measure_allocator
from benchmarks.train_step.attention import measure_attention
from benchmarks.train_step.implementations import IMPLEMENTATIONS, Implementation
from benchmarks.train_step.input import measure_input
from benchmarks.train_step.lengths import PATCH_SIZES, TOY_PATCH_SIZES, measure_lengths, workload_of_length
from benchmarks.train_step.memory import measure_memory
from benchmarks.train_step.plot import PLOTTED, plot
from benchmarks.train_step.speed import PRODUCT_SIZES, measure_speed
from benchmarks.train_step.workloads import workloads_for

PROG = "python -m benchmarks.train_step"
PARTS = ("speed", "lengths", "memory", "input", "attention", "allocator")
TOY_PRODUCT = 64


def main(arguments: list[str] | None = None) -> int:
    """The exit code: 0, 1 where a worker fails, 130 after Ctrl-C. Figures go to stdout, --json and --plot."""
    options = _options(arguments)
    device = torch.device(options.device)
    conditions = Conditions(device, options.threads, options.rounds)
    by_length = Conditions(device, options.threads, options.length_rounds)
    parts = {
        "speed": lambda save: _speed(options, conditions, save),
        "lengths": lambda _: measure_lengths(_lengths(options), by_length),
        "memory": lambda _: measure_memory(conditions, options.toy),
        "input": lambda _: measure_input(conditions, options.toy),
        "attention": lambda _: measure_attention(conditions, options.toy),
        "allocator": lambda _: measure_allocator(conditions, options.toy),
    }
    return run_parts(options, parts, PLOTTED, plot, PROG)


def _speed(options: argparse.Namespace, conditions: Conditions, save: Save) -> list[Table]:
    implementations, notes = choose_implementations(options.only, conditions.device)
    if not implementations:
        raise WorkerError(f"nothing is left to time. {' '.join(notes)}")
    known = workloads_for(conditions.device, options.toy)
    workloads = [one for one in known if options.workloads is None or one.name in options.workloads]
    size = TOY_PRODUCT if options.toy else PRODUCT_SIZES[conditions.device.type]
    steps, products = measure_speed(workloads, implementations, conditions, size, save)
    steps.notes += notes
    return [steps, products]


def choose_implementations(only: list[str] | None, device: torch.device) -> tuple[list[Implementation], list[str]]:
    """Implementations to time, and notes on those that are left out."""
    chosen = [one for one in IMPLEMENTATIONS if only is None or one.name in only]
    peers = dict.fromkeys(one.peer for one in chosen if one.peer)
    absent = [peer for peer in peers if PEERS[peer].installed() is None]
    notes = [
        f"{PEERS[peer].package} is not installed, so its rows are left out (docs/benchmarks.md)." for peer in absent
    ]
    if any(one.is_redundant(device) for one in chosen):
        notes.append("fit trains in float32 here, so rows in float32 would repeat the others.")
    return [one for one in chosen if one.peer not in absent and not one.is_redundant(device)], notes


def _lengths(options: argparse.Namespace) -> list[Workload]:
    if options.toy:
        return [workload_of_length(power, tiny=True) for power in TOY_PATCH_SIZES]
    return [workload_of_length(power) for power in PATCH_SIZES if power <= options.longest]


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=PROG, description=__doc__)
    names = ", ".join(f'"{one.name}"' for one in IMPLEMENTATIONS)
    add_options(parser, PARTS, PLOTTED)
    add = parser.add_argument
    add("--length_rounds", type=int, default=3, help="measurements of each length of lengths (default: 3)")
    add("--longest", type=int, default=max(PATCH_SIZES), help="the longest of lengths, as a power of two (default: 21)")
    add("--workloads", nargs="+", metavar="NAME", help="some of the workloads of speed (default: all)")
    add("--only", nargs="+", metavar="NAME", help=f"some of the implementations of speed: {names} (default: all)")
    options = parser.parse_args(arguments)
    check_options(parser, options, PLOTTED)
    check_at_least(parser, options, "length_rounds", 1)
    shortest, *_, longest = PATCH_SIZES
    if not shortest < options.longest <= longest:
        parser.error(f"--longest must be from {shortest + 1} to {longest}, not {options.longest}")
    known = [one.name for one in workloads_for(torch.device(options.device), options.toy)]
    check_known(parser, "workloads", options.workloads or (), known)
    check_known(parser, "only", options.only or (), [one.name for one in IMPLEMENTATIONS])
    return options


if __name__ == "__main__":
    sys.exit(main())
