"""Whether a run that is killed over and over ends as one that nothing disturbs: the same checkpoints, bit for bit.

Every life is `megabyte-mm fit` in a process group of its own, killed by SIGKILL at a random moment of real time and
gone on with by --ckpt_path last. last.ckpt is written after every update, so that many moments fall into a writing.
docs/benchmarks.md says what is compared.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path

import torch

from benchmarks.harness.report import Table, in_a_line, machine, write_figures
from tests.soak.differences import differences
from tests.soak.phases import PHASES
from tests.soak.processes import Life, Run, live_and_die
from tests.soak.settings import SETTINGS, UPDATES_TO_VALIDATION, write_settings


def main(arguments: list[str] | None = None) -> int:
    """The exit code: 0 where all runs ended alike, 1 where one did not. Figures go to stdout, and to --json."""
    options = _options(arguments)
    found = machine(torch.device("cpu"))
    print(in_a_line(found), flush=True)
    tables, failed = {}, False
    for name in options.settings:
        with tempfile.TemporaryDirectory(prefix="kills-", dir=options.folder) as folder:
            tables[name] = [_experiment(name, Path(folder), options)]
        print(f"\n{tables[name][0].text()}", flush=True)
        failed |= bool(tables[name][0].rows[-1][-1])
    if options.json is not None:
        write_figures(options.json, found, tables)
    return int(failed)


def _experiment(name: str, folder: Path, options: argparse.Namespace) -> Table:
    run = Run(write_settings(name, folder, options.steps), folder, options.threads)
    print(f"{name}: an undisturbed run ...", file=sys.stderr, flush=True)
    whole = run.live("whole")
    print(f"{name}: {options.kills} kills ...", file=sys.stderr, flush=True)
    lives = live_and_die(run, "killed", options.kills, options.seed, whole)
    differing = differences(folder / "whole", folder / "killed")
    for line in differing[:20]:
        print(f"{name}: {line}", file=sys.stderr, flush=True)
    return _table(name, [life for life in lives if life.killed], len(differing))


def _table(name: str, killed: list[Life], differing: int) -> Table:
    phases = Counter(life.phase for life in killed)
    writing = sum(bool(life.left) for life in killed)
    columns = ("kills", *(f"in {phase}" for phase in PHASES), "with a checkpoint half written", "differences")
    row = (len(killed), *(phases[phase] for phase in PHASES), writing, differing)
    return Table(f"Killed and resumed: {name}", columns, [row])


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.soak.kill_and_resume", description=__doc__)
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=SETTINGS, help="default: all of them")
    parser.add_argument("--kills", type=int, default=20, help="how often each run is killed (default: 20)")
    parser.add_argument("--steps", type=int, default=120, help="updates of a run (default: 120)")
    parser.add_argument("--seed", type=int, default=0, help="decides the moments (default: 0)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of each run (default: 1)")
    parser.add_argument("--folder", type=Path, help="where the runs' folders are made (default: the system's own)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the machine and all figures there")
    options = parser.parse_args(arguments)
    for name, least in {"kills": 1, "steps": UPDATES_TO_VALIDATION, "threads": 1}.items():
        if getattr(options, name) < least:
            parser.error(f"--{name} must be at least {least}, not {getattr(options, name)}")
    for name, folder in {"folder": options.folder, "json": options.json and options.json.parent}.items():
        if folder is not None and not folder.is_dir():
            parser.error(f"--{name}: there is no folder {folder}")
    return options


if __name__ == "__main__":
    sys.exit(main())
