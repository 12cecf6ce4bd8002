"""Runs that kill themselves at a chosen moment, as `kill -9` does: a process that forks one for each line of stdin.

A line is JSON: the program's arguments, and a moment or null; the answer on stdout is the exit code. Each run is a copy
of a process that has imported everything, and starts at once.
"""

import io
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

import torch
import torch.utils.tensorboard

import megabyte_mm.cli.fit  # noqa: F401 - imported here, once for all runs
from megabyte_mm.cli.main import main
from megabyte_mm.training import ByteLM

Moment = tuple[str, str, int]
"""Activity, its object and the number of updates before it: ("in", "training_step", 3), ("writing", "last.ckpt", 3) or
("replacing", "last.ckpt", 3)."""


def serve() -> None:
    for line in sys.stdin:
        arguments, moment = json.loads(line)
        if (child := os.fork()) == 0:
            run(arguments, moment)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def run(arguments: list[str], moment: Moment | None) -> NoReturn:
    """Run the program until its end or the moment."""
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    if moment is not None and moment[0] == "in":
        die_in_hook(*moment[1:])
    elif moment is not None:
        die_at_file(*moment)
    sys.exit(main(arguments))


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_in_hook(hook: str, step: int) -> None:
    original = getattr(ByteLM, hook)

    def deadly(module: ByteLM, *arguments: Any) -> Any:
        if module.trainer.global_step == step:
            die()
        return original(module, *arguments)

    setattr(ByteLM, hook, deadly)


def die_at_file(activity: str, name: str, step: int) -> None:
    """Die with half of a checkpoint written, or with a whole checkpoint or log written but not yet renamed."""
    save, replace, reached = torch.save, Path.replace, step == 0

    def deadly_save(checkpoint: dict[str, Any], file: io.BufferedWriter) -> None:
        nonlocal reached
        reached = checkpoint["global_step"] >= step
        if not (reached and activity == "writing" and Path(file.name).name == f".{name}.tmp"):
            save(checkpoint, file)
            return
        whole = io.BytesIO()
        save(checkpoint, whole)
        file.write(whole.getvalue()[: len(whole.getvalue()) // 2])
        file.flush()
        die()

    def deadly_replace(path: Path, target: Path) -> Path:
        if reached and activity == "replacing" and Path(target).name == name:
            die()
        return replace(path, target)

    torch.save, Path.replace = deadly_save, deadly_replace  # type: ignore[assignment,method-assign]


if __name__ == "__main__":
    serve()
