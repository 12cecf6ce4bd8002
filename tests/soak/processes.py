"""A run as a chain of processes, each of which is killed but the last."""

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

EARLY = 4
"""Of so many lives, one is killed before it trains."""
NEVER = float("inf")


@dataclass(frozen=True)
class Life:
    """One process of a run.

    killed: it did not come to its end. startup, training: seconds before it trained, and from there on. phase: what it
    was doing at its end. left: the temporary files that lay in the run's folder then.
    """

    killed: bool
    startup: float
    training: float
    phase: str
    left: tuple[str, ...]


class Run:
    """`megabyte-mm fit` with a config, in folders below `folder`."""

    def __init__(self, config: Path, folder: Path, threads: int) -> None:
        self._command = [sys.executable, "-m", "megabyte_mm", "fit", "--config", str(config), "--ckpt_path", "last"]
        self._folder = folder
        # Encoded files are kept in the run's own folder, so that the first lives encode, too.
        own = {"MEGABYTE_MM_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": str(threads)}
        self._environment = {**os.environ, **own}

    def live(self, name: str, startup: float = NEVER, training: float = NEVER) -> Life:
        """Train in the folder `name`, on from where it was left, to the end or to a kill.

        startup: seconds that the process is given before it trains. training: seconds from there on. Raises
        RuntimeError where it ends by itself with an error.
        """
        root, log = self._folder / name, self._folder / f"{name}.log"
        (self._folder / FILE).unlink(missing_ok=True)
        with log.open("a") as out:
            command = [*self._command, f"--trainer.default_root_dir={root}"]
            process = subprocess.Popen(command, stdout=out, stderr=out, env=self._environment, start_new_session=True)
            try:
                first = self._wait(process, startup, until_training=True)
                second = self._wait(process, training) if first < startup else 0.0
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                code = process.wait()
        if code not in (0, -signal.SIGKILL):
            raise RuntimeError(f"{root}: ended with {code}: {log.read_text()[-2000:]}")
        left = tuple(path.name for path in root.glob(".*.tmp"))
        return Life(code != 0, first, second, self._phase(), left)

    def _wait(self, process: subprocess.Popen[bytes], seconds: float, until_training: bool = False) -> float:
        """Until it ends, the time is over, or it trains, if that is asked for: the seconds that passed."""
        began = time.monotonic()
        while (passed := time.monotonic() - began) < seconds and process.poll() is None:
            if until_training and self._phase() != START_UP:
                break
            time.sleep(0.002)
        return passed

    def _phase(self) -> str:
        path = self._folder / FILE
        digit = path.read_text() if path.exists() else ""
        return PHASES[int(digit)] if digit else START_UP


def live_and_die(run: Run, name: str, kills: int, seed: int, whole: Life) -> list[Life]:
    """The lives of a run that is killed so many times, or until it is done, and then left alone.

    The moments are drawn by `seed`: some in the start-up, the others in a life's share of the undisturbed training.
    """
    draw = random.Random(seed)
    share = whole.training / (kills * (1 - 1 / EARLY))
    lives: list[Life] = []
    while len(lives) < kills:
        early = len(lives) % EARLY == EARLY - 1
        moment = draw.random() * (whole.startup if early else share)
        lives.append(run.live(name, startup=moment) if early else run.live(name, training=moment))
        print(f"  {lives[-1]}", file=sys.stderr, flush=True)
        if not lives[-1].killed:
            return lives
    return [*lives, run.live(name)]
