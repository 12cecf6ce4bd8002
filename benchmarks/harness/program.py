"""What programs have in common whose candidates take turns in processes of their own."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import torch

from benchmarks.harness.report import Table, in_a_line, machine, write_figures
from benchmarks.harness.workers import WorkerError

Keep = Callable[[list[Table]], None]
"""Receives what a part has measured so far."""
Parts = Mapping[str, Callable[[], list[Table]]]


def run_parts(
    name: str,
    options: argparse.Namespace,
    parts: Callable[[torch.device, Keep], Parts],
    plotted: Collection[str],
    draw: Callable[[Mapping[str, list[Table]], Path], None],
) -> int:
    """Measure `options.parts` one after the other: the exit code, 0, 1 where a candidate fails, 130 after Ctrl-C.

    Figures go to stdout, and to --json and --plot. name: the program's, for errors. plotted: parts that `draw` draws.
    """
    device = torch.device(options.device)
    torch.set_num_threads(options.threads)
    found = machine(device)
    print(in_a_line(found), flush=True)
    tables: dict[str, list[Table]] = {}
    try:
        for part in options.parts:
            print(f"measuring {part} ...", file=sys.stderr, flush=True)

            def keep(measured: list[Table], part: str = part) -> None:
                tables[part] = measured
                if options.json is not None:
                    write_figures(options.json, found, tables)

            keep(parts(device, keep)[part]())
            for table in tables[part]:
                print(f"\n{table.text()}", flush=True)
            if options.plot is not None and set(plotted) & set(tables):
                draw(tables, options.plot)
    except WorkerError as error:
        print(f"{name}: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def check_files(parser: argparse.ArgumentParser, options: argparse.Namespace, plotted: Collection[str]) -> None:
    """Leave with a line that names --json or --plot where it cannot be used."""
    for name in ("json", "plot"):
        path = getattr(options, name)
        if path is not None and not path.parent.is_dir():
            parser.error(f"--{name} {path}: there is no such folder")
    if options.plot is not None and not set(plotted) & set(options.parts):
        parser.error(f"--plot draws {' and '.join(plotted)}, and neither is among --parts")
