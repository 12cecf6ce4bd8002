"""Progress bars for what takes more than two seconds, where somebody looks."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TypeVar

T = TypeVar("T")

PATIENCE = 2.0


def progress(items: Sequence[T], what: str) -> Iterator[T]:
    """The items, and a bar on stderr once they have taken two seconds; none where stderr is no terminal."""
    if not sys.stderr.isatty():
        yield from items
        return
    from rich.console import Console
    from rich.progress import Progress

    began = time.monotonic()
    with ExitStack() as stack:
        bar: Progress | None = None
        for done, item in enumerate(items):
            if bar is None and time.monotonic() - began > PATIENCE:
                bar = stack.enter_context(Progress(console=Console(stderr=True), transient=True))
                bar.add_task(what, total=len(items))
            if bar is not None:
                bar.update(bar.task_ids[0], completed=done)
            yield item


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
