"""The command line of benchmarks that measure in parts and compare worker processes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import torch

from benchmarks.harness.report import Table, describe_machine, one_line, write_json
from benchmarks.harness.workers import WorkerError

Save = Callable[[list[Table]], None]
"""Receives the tables that a part has measured so far."""
Plot = Callable[[Mapping[str, list[Table]], Path], None]


def run_parts(
    options: argparse.Namespace,
    parts: Mapping[str, Callable[[Save], list[Table]]],
    plotted: Collection[str],
    plot: Plot,
    prog: str,
) -> int:
    """Measure `options.parts` one after the other: the exit code, 0, 1 where a worker fails, 130 after Ctrl-C.

    Figures go to stdout, --json and --plot. plotted: parts that `plot` draws. prog: named in errors.
    """
    torch.set_num_threads(options.threads)
    machine = describe_machine(torch.device(options.device))
    print(one_line(machine), flush=True)
    tables: dict[str, list[Table]] = {}
    try:
        for part in options.parts:
            print(f"measuring {part} ...", file=sys.stderr, flush=True)

            def save(measured: list[Table], part: str = part) -> None:
                tables[part] = measured
                if options.json is not None:
                    write_json(options.json, machine, tables)

            save(parts[part](save))
            for table in tables[part]:
                print(f"\n{table.text()}", flush=True)
            if options.plot is not None and set(plotted) & set(tables):
                plot(tables, options.plot)
    except WorkerError as error:
        print(f"{prog}: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def add_options(parser: argparse.ArgumentParser, parts: Sequence[str], plotted: Sequence[str]) -> None:
    """Add the options that all these benchmarks have."""
    add = parser.add_argument
    add("--parts", nargs="+", choices=parts, default=parts, help="what to measure (default: everything)")
    add_device(parser)
    add("--threads", type=int, default=1, help="CPU threads of each worker (default: 1)")
    add("--rounds", type=int, default=7, help="measurements of each implementation (default: 7)")
    add("--json", type=Path, metavar="FILE", help="also write the machine and all figures there")
    add("--plot", type=Path, metavar="FILE", help=f"also draw {' and '.join(plotted)} there, as a PNG picture")
    add("--toy", action="store_true", help="tiny models, to see that everything runs; the figures mean nothing")


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add --device."""
    default = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", choices=("cpu", "cuda"), default=default, help="default: cuda if torch sees a GPU")


def check_options(parser: argparse.ArgumentParser, options: argparse.Namespace, plotted: Collection[str]) -> None:
    """Exit with one line that names the first option of `add_options` that cannot be used."""
    check_device(parser, options)
    for name, least in (("threads", 1), ("rounds", 2)):
        check_at_least(parser, options, name, least)
    for name in ("json", "plot"):
        path = getattr(options, name)
        if path is not None and not path.parent.is_dir():
            parser.error(f"--{name} {path}: no such folder")
    if options.plot is not None and not set(plotted) & set(options.parts):
        parser.error(f"--plot draws {' and '.join(plotted)}, and neither is among --parts")


def check_device(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Exit with one line where there is no such device."""
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch sees no GPU here")


def check_at_least(parser: argparse.ArgumentParser, options: argparse.Namespace, name: str, least: int) -> None:
    """Exit with one line where an option is below its least value."""
    if getattr(options, name) < least:
        parser.error(f"--{name} must be at least {least}, not {getattr(options, name)}")


def check_known(parser: argparse.ArgumentParser, name: str, values: Collection[str], known: Collection[str]) -> None:
    """Exit with one line where an option names something unknown."""
    if unknown := sorted(set(values) - set(known)):
        parser.error(f"--{name}: no {', '.join(unknown)}; known: {'; '.join(known)}")
