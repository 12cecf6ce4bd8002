"""Progress bars on a terminal: `progress` over items, `byte_progress` over bytes with their speed."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TypeVar

T = TypeVar("T")

DELAY = 2.0
"""Seconds before a bar over items appears."""


def format_bytes(count: float) -> str:
    """A number of bytes, such as 640 bytes, 2.0 kB or 1.5 MB."""
    if count >= 999_950:
        return f"{count / 1e6:.1f} MB"
    return f"{count / 1e3:.1f} kB" if count >= 1e3 else f"{count:.0f} byte{'s' * (round(count) != 1)}"


def progress(items: Sequence[T], description: str) -> Iterator[T]:
    """The items, with a bar on stderr once they have taken DELAY seconds; none where stderr is not a terminal."""
    if not sys.stderr.isatty():
        yield from items
        return
    from rich.console import Console
    from rich.progress import Progress

    start = time.monotonic()
    with ExitStack() as stack:
        bar: Progress | None = None
        for done, item in enumerate(items):
            if bar is None and time.monotonic() - start > DELAY:
                bar = stack.enter_context(Progress(console=Console(stderr=True), transient=True))
                bar.add_task(description, total=len(items))
            if bar is not None:
                bar.update(bar.task_ids[0], completed=done)
            yield item


@contextmanager
def byte_progress(total: int, verb: str, bar: bool = True) -> Iterator[Callable[[int], None]]:
    """A function to call with each new number of bytes, which moves a bar with the speed; a last line sums up.

    total: bytes in all. verb: in the last line, as "scored"; an interrupt prints it too. bar: False where something
    else writes to the terminal meanwhile; there is none either where stderr is not a terminal.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.completed:,.0f} of {task.total:,.0f} bytes"), TextColumn("{task.speed:,.0f} bytes/s")
    console = Console(stderr=True)
    start, count = time.perf_counter(), 0
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
        _print_speed(verb, count, time.perf_counter() - start)
        raise
    _print_speed(verb, count, time.perf_counter() - start)


def _print_speed(verb: str, count: int, seconds: float) -> None:
    print(f"{verb} {count:,} bytes in {seconds:.1f} s, {count / seconds:,.0f} bytes/s", file=sys.stderr)
