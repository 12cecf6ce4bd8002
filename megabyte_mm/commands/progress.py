"""How far a long command has come, and how fast it is."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def speedometer(total: int, done: str, bar: bool = True) -> Iterator[Callable[[int], None]]:
    """A progress bar with bytes a second where stderr is a terminal, and a closing line with the speed.

    total: bytes in all. done: what was done to them, as "drew". bar: False where something else is written on the
    terminal meanwhile. Gives a function to call with each new number of bytes. An interrupt gets its line as well.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.completed:,.0f} of {task.total:,.0f} bytes"), TextColumn("{task.speed:,.0f} bytes/s")
    console = Console(stderr=True)
    began, count = time.perf_counter(), 0
    hidden = not (bar and console.is_terminal)
    try:
        with Progress(BarColumn(), *columns, TimeRemainingColumn(), console=console, disable=hidden) as shown:
            task = shown.add_task("", total=total)

            def on_bytes(more: int) -> None:
                nonlocal count
                count += more
                shown.update(task, completed=count)

            yield on_bytes
    except KeyboardInterrupt:
        print(file=sys.stderr)
        _tell(done, count, time.perf_counter() - began)
        raise
    _tell(done, count, time.perf_counter() - began)


def _tell(done: str, count: int, seconds: float) -> None:
    print(f"{done} {count:,} bytes in {seconds:.1f} s, {count / seconds:,.0f} bytes/s", file=sys.stderr)
