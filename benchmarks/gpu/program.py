"""Each part in a process of its own, with a limit, and a JSON file for each."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from benchmarks.gpu.decoding import decoding
from benchmarks.gpu.environment import environment, run_tests
from benchmarks.gpu.settings import Settings
from benchmarks.gpu.training import memory, peers, profiled, training
from benchmarks.harness.program import check_device

PARTS: dict[str, tuple[Callable[[Settings], int | None], float]] = {
    "environment": (environment, 0.12),
    "tests": (run_tests, 0.22),
    "training": (training, 0.3),
    "decoding": (decoding, 0.15),
    "peers": (peers, 0.1),
    "memory": (memory, 0.06),
    "profile": (profiled, 0.05),
}
"""What is measured, in this order, each with its share of the minutes of all. An int is an exit code."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure: 0, or 1 if a part failed or ran past its limit."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.device is None:
        if not torch.cuda.is_available() and not options.tiny:
            line = "torch sees no GPU here: try it in toy sizes with --device cpu --tiny"
            parser.exit(2, f"{parser.prog}: error: {line}\n")
        options.device = "cuda" if torch.cuda.is_available() else "cpu"
    check_device(parser, options)
    if options.device == "cpu" and not options.tiny:
        parser.error("--device cpu needs --tiny: the other sizes are for a GPU")
    if not options.minutes > 0:
        parser.error(f"--minutes must be above 0, not {options.minutes}")
    if options.wheels is not None and not options.wheels.is_dir():
        parser.error(f"--wheels {options.wheels}: no such folder")
    options.out.mkdir(parents=True, exist_ok=True)
    if options.part is not None:
        return measure(options.part, options.out, torch.device(options.device), options.tiny)
    parts = list(dict.fromkeys(options.parts))
    shares = sum(PARTS[part][1] for part in parts)
    return max([_run(part, 60 * options.minutes * PARTS[part][1] / shares, options) for part in parts])


def measure(part: str, out: Path, device: torch.device, tiny: bool) -> int:
    """Measure one part in this process, and write OUT/PART.json: 0, or 1 where tests failed."""
    return PARTS[part][0](Settings(device, tiny, out.absolute() / f"{part}.json")) or 0


def unpacked(wheels: Path, out: Path) -> Path:
    """The folder OUT/wheels with the content of wheels of pure Python packages: no network and no pip are needed."""
    folder = out.resolve() / "wheels"
    for wheel in sorted(wheels.glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)
    return folder


def _run(part: str, limit: float, options: argparse.Namespace) -> int:
    """Measure a part in a process that is ended after so many seconds: 0, or 1 where it is not done."""
    start = time.monotonic()
    command = [sys.executable, "-m", "benchmarks.gpu", "--part", part]
    command += ["--out", str(options.out), "--device", options.device, *(["--tiny"] if options.tiny else [])]
    wheels = "" if options.wheels is None else str(unpacked(options.wheels, options.out))
    path = os.pathsep.join(filter(None, [wheels, os.environ.get("PYTHONPATH")]))
    print(f"== {part}, at most {limit:.0f} s", flush=True)
    # A session of its own, so that the tests that a part starts end with it.
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path}, start_new_session=True) as process:
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            print(f"{part}: ended after {limit:.0f} s; rows so far are in {options.out / part}.json", file=sys.stderr)
            return 1
        finally:  # Ctrl-C too
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    if code:
        print(f"{part}: failed after {time.monotonic() - start:.0f} s", file=sys.stderr)
    return int(code != 0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description="Measure on a GPU, in minutes.")
    add = parser.add_argument
    add(
        "--minutes",
        type=float,
        default=9.0,
        help="time for all parts that run; each is ended at its share (default: 9)",
    )
    add(
        "--out",
        type=Path,
        default=Path("gpu"),
        metavar="DIR",
        help="folder for a JSON file of each part (default: gpu)",
    )
    add("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="some of the parts (default: all)")
    add("--wheels", type=Path, metavar="DIR", help="folder with wheels of pure Python packages to use, such as peers")
    add("--device", choices=("cpu", "cuda"), help="default: cuda; with --tiny, cpu where torch sees no GPU")
    add("--tiny", action="store_true", help="toy sizes, to see that it runs; the figures mean nothing")
    add("--part", choices=PARTS, help=argparse.SUPPRESS)
    return parser
