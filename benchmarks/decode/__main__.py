"""Time drawing bytes: by batch and context, beside Transformers and other packages, and against memory's limit.

Each candidate is a process of its own, and they take turns. Run it on a machine that does nothing else.
docs/benchmarks.md says what each part measures and how to read it.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

import torch

from benchmarks.decode import paper, speed
from benchmarks.decode.bandwidth import SUMMED
from benchmarks.decode.length import time_contexts
from benchmarks.decode.plot import PLOTTED, draw
from benchmarks.harness.program import Keep, Parts, check_files, run_parts
from benchmarks.train_step.stepper import Conditions

PARTS = ("speed", "paper", "length")
CONTEXTS = (1024, 8192, 65536)
LENGTHS = (1024, 4096, 16384, 65536)
BATCHES = (1, 16, 64)
PAPERS_LENGTH, PAPERS_WINDOW = 8192, 1024
PATCH = 8
TOY_SUMMED = 1000


def main(arguments: list[str] | None = None) -> int:
    """The exit code: 0, 1 where a candidate fails, 130 after Ctrl-C. Figures go to stdout, and to --json and --plot."""
    options = _options(arguments)
    return run_parts("python -m benchmarks.decode", options, partial(_parts, options), PLOTTED, draw)


def _parts(options: argparse.Namespace, device: torch.device, keep: Keep) -> Parts:
    conditions = Conditions(device, options.threads, options.rounds)
    toy, summed, memory = options.toy, TOY_SUMMED if options.toy else SUMMED, options.memory * speed.GIBIBYTE
    length, window = (64, 16) if toy else (PAPERS_LENGTH, PAPERS_WINDOW)
    sizes = (options.bytes, memory, summed, options.peers_everywhere, toy)
    spread = (options.stretches, options.stretch, options.whole)
    return {
        "speed": lambda: speed.time_speed(
            speed.Plan(options.batches, options.contexts, options.only, *sizes), conditions, keep
        ),
        "paper": lambda: paper.time_paper(paper.Plan(length, window, *spread, memory, summed, toy), conditions),
        "length": lambda: time_contexts(options.lengths, options.bytes, conditions, summed, memory, toy),
    }


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.decode", description=__doc__)
    default_device = "cuda" if torch.cuda.is_available() else "cpu"
    names = ", ".join(f'"{name}"' for name in speed.NAMES)
    add = parser.add_argument
    add("--parts", nargs="+", choices=PARTS, default=PARTS, help="what to measure (default: everything)")
    add("--device", choices=("cpu", "cuda"), default=default_device, help="default: cuda where it is")
    add("--threads", type=int, default=1, help="CPU threads of each candidate (default: 1)")
    add("--rounds", type=int, default=7, help="turns of each candidate (default: 7)")
    add("--batches", type=int, nargs="+", default=BATCHES, help="rows drawn together in speed (default: 1 16 64)")
    add("--contexts", type=int, nargs="+", help="contexts of speed (default: 1024 8192 65536)")
    add("--lengths", type=int, nargs="+", help="contexts of length, rising (default: 1024 4096 16384 65536)")
    add("--bytes", type=int, help="drawn in a turn of speed and length (default: 32)")
    add("--only", nargs="+", metavar="NAME", default=speed.NAMES, help=f"some of speed: {names} (default: all)")
    add("--peers_everywhere", action="store_true", help="other packages draw at long contexts of speed too")
    add("--memory", type=float, default=8.0, help="GiB that candidates may take together (default: 8)")
    add("--stretches", type=int, default=8, help="places of paper's sequence that stand for it (default: 8)")
    add("--stretch", type=int, help="bytes drawn at each (default: 64)")
    add("--whole", action="store_true", help="paper draws whole sequences instead: many minutes each")
    add("--json", type=Path, metavar="FILE", help="also write the machine and all figures there")
    add("--plot", type=Path, metavar="FILE", help="also draw speed and length there, as a PNG picture")
    add("--toy", action="store_true", help="tiny models, to see that all runs; the figures mean nothing")
    options = parser.parse_args(arguments)
    _fill(options)
    _check(parser, options)
    return options


def _fill(options: argparse.Namespace) -> None:
    """What was not given: short contexts for toys."""
    toy = {"contexts": (32, 64), "lengths": (32, 64), "bytes": 8, "stretch": 4}
    real = {"contexts": CONTEXTS, "lengths": LENGTHS, "bytes": 32, "stretch": 64}
    for name, default in (toy if options.toy else real).items():
        if getattr(options, name) is None:
            setattr(options, name, default)


def _check(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Leave with a line that names the first option that cannot be used."""
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch sees no GPU here")
    patch = 4 if options.toy else PATCH
    for name, least in (("threads", 1), ("rounds", 2), ("stretches", 1), ("bytes", patch), ("stretch", patch)):
        if getattr(options, name) < least:
            parser.error(f"--{name} must be at least {least}, not {getattr(options, name)}")
    if min(options.batches) < 1:
        parser.error(f"--batches must be at least 1, not {min(options.batches)}")
    for name in ("bytes", "stretch"):
        if getattr(options, name) % patch:
            parser.error(f"--{name} must be a multiple of the patch size {patch}, not {getattr(options, name)}")
    for name in ("contexts", "lengths"):
        if min(getattr(options, name)) < 2 * options.bytes:
            parser.error(f"--{name} must be at least twice --bytes, {2 * options.bytes}")
    length = 64 if options.toy else PAPERS_LENGTH
    if 2 * options.stretches * options.stretch > length:
        parser.error(f"--stretches of --stretch bytes must be at most half of {length} bytes together")
    if options.memory <= 0:
        parser.error(f"--memory must be above 0, not {options.memory}")
    if unknown := sorted(set(options.only) - set(speed.NAMES)):
        parser.error(f"--only: no {', '.join(unknown)}; known: {'; '.join(speed.NAMES)}")
    check_files(parser, options, PLOTTED)


if __name__ == "__main__":
    sys.exit(main())
