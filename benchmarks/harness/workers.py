"""Processes that compute on request, one at a time, so that each has memory and settings of its own."""

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

Setup = Callable[[], tuple[Any, Callable[[Any], Any]]]
"""Runs once in the new process and returns `Worker.info` and the function that `Worker.call` calls."""
END_TIMEOUT = 10.0
"""Seconds that a process has to end by itself."""


class WorkerError(RuntimeError):
    """A worker failed; names it and says why."""


@dataclass(frozen=True)
class Worker:
    """A process that answers one call after the other.

    Args:
        name: Named in errors.
        info: What its setup returned about it.
    """

    name: str
    info: Any
    _connection: Connection
    _process: BaseProcess

    def call(self, argument: Any = None) -> Any:
        """The result of its function. Raises WorkerError where that fails or the process ends."""
        try:
            self._connection.send(argument)
        except OSError:
            raise _ended(self.name, self._process) from None
        return _receive(self.name, self._connection, self._process)


@contextmanager
def worker(name: str, setup: Setup, threads: int) -> Iterator[Worker]:
    """A new process with so many torch threads, ready for calls; it ends with the block, or with this process.

    setup: picklable. Raises WorkerError where it fails.
    """
    # All are forked from a process that has imported the slow packages and computed nothing.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["megabyte_mm.training.module", "megabyte_mm.generation.engine"])
    connection, other_end = context.Pipe()
    # Not a daemon: torch.compile starts processes of its own. It ends when the pipe does.
    process = context.Process(target=_serve, args=(other_end, setup, threads), daemon=False)
    process.start()
    other_end.close()
    try:
        yield Worker(name, _receive(name, connection, process), connection, process)
    finally:
        connection.close()
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
    process.join(END_TIMEOUT)
    code = process.exitcode
    if code is not None and code < 0:
        reason = f"was ended by signal {-code}" + (", as where memory runs out" if code == -signal.SIGKILL else "")
    else:
        reason = f"ended with exit code {code}"
    return WorkerError(f"{name}: its process {reason}")


def _end(process: BaseProcess) -> None:
    """Wait until it has ended, and end it where it is busy for longer than `END_TIMEOUT`."""
    process.join(END_TIMEOUT)
    if process.is_alive():
        process.terminate()
        process.join(END_TIMEOUT)
    if process.is_alive():
        process.kill()
        process.join()


def _serve(connection: Connection, setup: Setup, threads: int) -> None:
    # Ctrl-C is for the benchmark, which then closes the pipe.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(threads)
    try:
        info, function = setup()
        connection.send((True, info))
        while True:
            connection.send((True, function(connection.recv())))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return
    except Exception as error:  # noqa: BLE001 - whatever it is, the benchmark reports it
        traceback.print_exc()
        message = " ".join(str(error).split())
        connection.send((False, f"{type(error).__name__}: {message}"))
