"""Kill runs at random moments, resume them, and check that they end like undisturbed runs, bit for bit.

Not part of `make test`: it takes minutes. Every process is `megabyte-mm fit`, killed by SIGKILL together with its
loading processes at a random moment of real time, and resumed by --ckpt_path last. last.ckpt is written after every
update, so that many moments fall into a write. docs/benchmarks.md lists what is compared.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path

import torch

from benchmarks.harness.program import check_at_least
from benchmarks.harness.report import Table, describe_machine, one_line, write_json
from tests.soak.chain import Attempt, Run, run_with_kills
from tests.soak.config import SETTINGS, UPDATES_TO_VALIDATION, write_config
from tests.soak.differences import differences
from tests.soak.phases import PHASES


def main(arguments: list[str] | None = None) -> int:
    """The exit code: 0 where all runs ended alike, 1 where one did not. Figures go to stdout and --json."""
    options = _options(arguments)
    machine = describe_machine(torch.device("cpu"))
    print(one_line(machine), flush=True)
    tables, failed = {}, False
    for name in options.settings:
        with tempfile.TemporaryDirectory(prefix="soak-", dir=options.folder) as folder:
            table = _experiment(name, Path(folder), options)
        tables[name] = [table]
        print(f"\n{table.text()}", flush=True)
        failed |= bool(table.rows[-1][-1])
    if options.json is not None:
        write_json(options.json, machine, tables)
    return int(failed)


def _experiment(name: str, folder: Path, options: argparse.Namespace) -> Table:
    run = Run(write_config(name, folder, options.steps), folder, options.threads)
    print(f"{name}: an undisturbed run ...", file=sys.stderr, flush=True)
    undisturbed = run.start("undisturbed")
    print(f"{name}: {options.kills} kills ...", file=sys.stderr, flush=True)
    attempts = run_with_kills(run, "killed", options.kills, options.seed, undisturbed)
    differing = differences(folder / "undisturbed", folder / "killed")
    for line in differing[:20]:
        print(f"{name}: {line}", file=sys.stderr, flush=True)
    return _table(name, [attempt for attempt in attempts if attempt.killed], len(differing))


def _table(name: str, killed: list[Attempt], differing: int) -> Table:
    phases = Counter(attempt.phase for attempt in killed)
    half_written = sum(bool(attempt.temporary_files) for attempt in killed)
    columns = ("kills", *(f"in {phase}" for phase in PHASES), "with a checkpoint half written", "differences")
    row = (len(killed), *(phases[phase] for phase in PHASES), half_written, differing)
    return Table(f"Killed and resumed: {name}", columns, [row])


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.soak.kill_and_resume", description=__doc__)
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=SETTINGS, help="default: all of them")
    parser.add_argument("--kills", type=int, default=20, help="kills of each run (default: 20)")
    parser.add_argument("--steps", type=int, default=120, help="updates of a run (default: 120)")
    parser.add_argument("--seed", type=int, default=0, help="decides the moments (default: 0)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of each run (default: 1)")
    parser.add_argument("--folder", type=Path, help="temporary run folders go there (default: the system's own)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the machine and all figures there")
    options = parser.parse_args(arguments)
    for name, least in {"kills": 1, "steps": UPDATES_TO_VALIDATION, "threads": 1}.items():
        check_at_least(parser, options, name, least)
    for name, folder in {"folder": options.folder, "json": options.json and options.json.parent}.items():
        if folder is not None and not folder.is_dir():
            parser.error(f"--{name}: no folder {folder}")
    return options


if __name__ == "__main__":
    sys.exit(main())
