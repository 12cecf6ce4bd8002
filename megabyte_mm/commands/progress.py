"""How far a long command has come, and how fast it is."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def speedometer(total: int, done: str) -> Iterator[Callable[[int], None]]:
    """A progress bar with bytes a second where stderr is a terminal, and a closing line with the speed.

    total: bytes in all. done: what was done to them, as "drew". Gives a function to call with each new number of bytes.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.completed:,.0f} of {task.total:,.0f} bytes"), TextColumn("{task.speed:,.0f} bytes/s")
    console = Console(stderr=True)
    began, count = time.perf_counter(), 0
    with Progress(
        BarColumn(), *columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("", total=total)

        def on_bytes(more: int) -> None:
            nonlocal count
            count += more
            bar.update(task, completed=count)

        yield on_bytes
    seconds = time.perf_counter() - began
    print(f"{done} {count:,} bytes in {seconds:.1f} s, {count / seconds:,.0f} bytes/s", file=sys.stderr)
