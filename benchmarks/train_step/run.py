"""`make bench`: time attention and kept memory, and print tables.

Run it on a machine that does nothing else. docs/benchmarks.md says what each part measures and how to read it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.harness.report import Table, in_a_line, machine, write_figures
from benchmarks.harness.workloads import workloads
from benchmarks.train_step.allocator import time_kept_memory
from benchmarks.train_step.attention import time_attention

PARTS = ("attention", "memory")


def main(arguments: list[str] | None = None) -> int:
    """The exit code, 0. Figures go to stdout, and to a file with --json."""
    options = _options(arguments)
    device = torch.device(options.device)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    found = machine(device)
    print(in_a_line(found), flush=True)
    tables: dict[str, list[Table]] = {}
    for part in options.parts:
        print(f"timing {part} ...", file=sys.stderr, flush=True)
        tables[part] = _parts(options, device)[part]()
        for table in tables[part]:
            print(f"\n{table.text()}", flush=True)
    if options.json is not None:
        write_figures(options.json, found, tables)
    return 0


def _parts(options: argparse.Namespace, device: torch.device) -> dict[str, Callable[[], list[Table]]]:
    timed, seconds, toy = workloads(options.toy), options.seconds, options.toy
    return {
        "attention": lambda: time_attention(timed, device, seconds, toy),
        "memory": lambda: time_kept_memory(timed, device, seconds),
    }


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.train_step.run", description=__doc__)
    default_device = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what to time (default: everything)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default=default_device, help="default: cuda where it is")
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's own choice)")
    parser.add_argument("--seconds", type=float, default=60.0, help="about how long each part measures (default: 60)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the machine and all figures there")
    parser.add_argument(
        "--toy", action="store_true", help="tiny models, to see that all runs; the figures mean nothing"
    )
    options = parser.parse_args(arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch sees no GPU here")
    if options.threads is not None and options.threads < 1:
        parser.error(f"--threads must be at least 1, not {options.threads}")
    if options.seconds < 0:
        parser.error(f"--seconds must not be negative, not {options.seconds}")
    return options


if __name__ == "__main__":
    sys.exit(main())
