"""A run that kills itself at a given moment, as `kill -9` does: for a process of its own."""

import io
import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import torch

from megabyte_mm.cli.main import main
from megabyte_mm.training import ByteLM

Moment = tuple[str, str, int]
"""What is done, to what, after how many updates: (in, training_step, 3), (writing or replacing, last.ckpt, 3)."""


def run(arguments: list[str], moment: Moment | None, start_method: str) -> None:
    """The program, which ends with its exit code, or at the moment. start_method: how it starts loading processes."""
    torch.set_num_threads(1)
    multiprocessing.set_start_method(start_method, force=True)
    if moment is not None and moment[0] == "in":
        die_in_hook(*moment[1:])
    elif moment is not None:
        die_at_file(*moment)
    raise SystemExit(main(arguments))


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_in_hook(hook: str, step: int) -> None:
    original = getattr(ByteLM, hook)

    def deadly(module: ByteLM, *arguments: Any) -> Any:
        if module.trainer.global_step == step:
            die()
        return original(module, *arguments)

    setattr(ByteLM, hook, deadly)


def die_at_file(doing: str, name: str, step: int) -> None:
    """While half of a checkpoint is written, or all of it (or of a log) and not yet in its place."""
    save, replace, reached = torch.save, Path.replace, step == 0

    def deadly_save(checkpoint: dict[str, Any], file: io.BufferedWriter) -> None:
        nonlocal reached
        reached = checkpoint["global_step"] >= step
        if not (reached and doing == "writing" and Path(file.name).name == f".{name}.tmp"):
            save(checkpoint, file)
            return
        whole = io.BytesIO()
        save(checkpoint, whole)
        file.write(whole.getvalue()[: len(whole.getvalue()) // 2])
        file.flush()
        die()

    def deadly_replace(path: Path, target: Path) -> Path:
        if reached and doing == "replacing" and Path(target).name == name:
            die()
        return replace(path, target)

    torch.save, Path.replace = deadly_save, deadly_replace  # type: ignore[assignment,method-assign]
