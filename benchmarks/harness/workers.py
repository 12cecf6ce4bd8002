"""Processes that work when they are asked to, one at a time, so that each has memory and settings of its own."""

from __future__ import annotations

import multiprocessing
import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

import torch

Start = Callable[[], tuple[Any, Callable[[Any], Any]]]
"""Runs once in the new process: what there is to tell of it, and the function that answers questions."""
PATIENCE = 10.0
"""Seconds that a process has to end by itself."""


class WorkerError(RuntimeError):
    """A worker could not do what it was asked to; names it and says why."""


@dataclass(frozen=True)
class Worker:
    """A process that answers one question after the other.

    Args:
        name: What it is called in errors.
        about: What it told of itself when it was ready.
    """

    name: str
    about: Any
    _connection: Connection
    _process: BaseProcess

    def ask(self, question: Any) -> Any:
        """Its answer. Raises WorkerError where it fails or ends."""
        try:
            self._connection.send(question)
        except OSError:
            raise _ended(self.name, self._process) from None
        return _receive(self.name, self._connection, self._process)


@contextmanager
def worker(name: str, start: Start, threads: int) -> Iterator[Worker]:
    """A new process with so many torch threads, ready to be asked; it ends with the block, or with this process.

    start: importable, since it travels to that process. Raises WorkerError where it does not come to be ready.
    """
    # All are forked from a process that has imported everything and computed nothing.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.train_step.implementations", "benchmarks.decode.implementations"])
    ours, theirs = context.Pipe()
    # Not a daemon: torch.compile starts processes of its own. It ends when the pipe does.
    process = context.Process(target=_work, args=(theirs, start, threads), daemon=False)
    process.start()
    theirs.close()
    try:
        yield Worker(name, _receive(name, ours, process), ours, process)
    finally:
        ours.close()
        _end(process)


def _receive(name: str, connection: Connection, process: BaseProcess) -> Any:
    try:
        succeeded, value = connection.recv()
    except (EOFError, OSError):
        raise _ended(name, process) from None
    if not succeeded:
        raise WorkerError(f"{name}: {value}")
    return value


def _ended(name: str, process: BaseProcess) -> WorkerError:
    process.join(PATIENCE)
    code = process.exitcode
    if code is not None and code < 0:
        reason = f"was ended by signal {-code}" + (", as where memory runs out" if code == -signal.SIGKILL else "")
    else:
        reason = f"ended with exit code {code}"
    return WorkerError(f"{name}: its process {reason}")


def _end(process: BaseProcess) -> None:
    """Wait until it has ended; in the middle of a long step it is made to."""
    process.join(PATIENCE)
    if process.is_alive():
        process.terminate()
        process.join(PATIENCE)
    if process.is_alive():
        process.kill()
        process.join()


def _work(benchmark: Connection, start: Start, threads: int) -> None:
    # Ctrl-C is for the benchmark, which then closes the pipe.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(threads)
    try:
        about, answer = start()
        benchmark.send((True, about))
        while True:
            benchmark.send((True, answer(benchmark.recv())))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return
    except Exception as error:  # noqa: BLE001 - whatever it is, the benchmark tells it
        traceback.print_exc()
        told = " ".join(str(error).split())
        benchmark.send((False, f"{type(error).__name__}: {told}"))
