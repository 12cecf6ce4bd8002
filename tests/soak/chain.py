"""A run as a chain of processes, all of which are killed but the last."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tests.soak.phases import FILE, PHASES, START_UP

PROGRAM = (sys.executable, "-m", "megabyte_mm")
ROOT = Path(__file__).parents[2]
EARLY_INTERVAL = 4
"""One of so many attempts is killed before it trains."""
NEVER = float("inf")


@dataclass(frozen=True)
class Attempt:
    """One process of a run.

    Args:
        killed: It was killed before its end.
        startup: Seconds before it trained.
        training: Seconds from there on.
        phase: Its phase at its end.
        temporary_files: Names of the temporary files that lay in the run's folder then.
    """

    killed: bool
    startup: float
    training: float
    phase: str
    temporary_files: tuple[str, ...]


class Run:
    """`megabyte-mm fit` with a config, in folders below `folder`."""

    def __init__(self, config: Path, folder: Path, threads: int) -> None:
        self._command = [*PROGRAM, "fit", "--config", str(config), "--ckpt_path", "last"]
        self._folder = folder
        # Encoded files are cached in the run's own folder, so that the first attempts encode, too.
        own = {"MEGABYTE_MM_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": str(threads)}
        self._environment = {**os.environ, **own}

    def start(self, name: str, startup: float = NEVER, training: float = NEVER) -> Attempt:
        """Train in the folder `name` from its last checkpoint to the end, or to a kill.

        startup: seconds that the process gets before it trains. training: seconds from there on. Raises RuntimeError
        where it fails.
        """
        root, log = self._folder / name, self._folder / f"{name}.log"
        (self._folder / FILE).unlink(missing_ok=True)
        with log.open("a") as out:
            command = [*self._command, f"--trainer.default_root_dir={root}"]
            process = subprocess.Popen(
                command, cwd=ROOT, stdout=out, stderr=out, env=self._environment, start_new_session=True
            )
            try:
                first = self._wait(process, startup, until_training=True)
                second = self._wait(process, training) if first < startup else 0.0
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                code = process.wait()
        if code not in (0, -signal.SIGKILL):
            raise RuntimeError(f"{root}: ended with {code}: {log.read_text()[-2000:]}")
        temporary = tuple(path.name for path in root.glob(".*.tmp"))
        return Attempt(code != 0, first, second, self._phase(), temporary)

    def _wait(self, process: subprocess.Popen[bytes], seconds: float, until_training: bool = False) -> float:
        """Wait until it ends, the time is over, or it trains, if that is asked for: the seconds that passed."""
        start = time.monotonic()
        while (passed := time.monotonic() - start) < seconds and process.poll() is None:
            if until_training and self._phase() != START_UP:
                break
            time.sleep(0.002)
        return passed

    def _phase(self) -> str:
        path = self._folder / FILE
        digit = path.read_text() if path.exists() else ""
        return PHASES[int(digit)] if digit else START_UP


def run_with_kills(run: Run, name: str, kills: int, seed: int, undisturbed: Attempt) -> list[Attempt]:
    """The attempts of a run that is killed so many times, or until it is done, and then left alone.

    `seed` decides the moments: some in the start-up, the others within an attempt's share of the undisturbed training.
    """
    rng = random.Random(seed)
    share = undisturbed.training / (kills * (1 - 1 / EARLY_INTERVAL))
    attempts: list[Attempt] = []
    while len(attempts) < kills:
        early = len(attempts) % EARLY_INTERVAL == EARLY_INTERVAL - 1
        moment = rng.random() * (undisturbed.startup if early else share)
        attempts.append(run.start(name, startup=moment) if early else run.start(name, training=moment))
        print(f"  {attempts[-1]}", file=sys.stderr, flush=True)
        if not attempts[-1].killed:
            return attempts
    return [*attempts, run.start(name)]
