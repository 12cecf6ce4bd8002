"""Keep the remarks of decoder libraries off the terminal."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_LOCK = threading.Lock()


@contextmanager
def silenced_stderr(is_silent: bool = True) -> Iterator[None]:
    """Discard what is written to stderr inside the block, from C too; without `is_silent`, change nothing.

    libmpg123 prints warnings of its own, and libsndfile has no setting against it. The block must be short: what other
    threads print meanwhile is lost.
    """
    if not is_silent:
        yield
        return
    with _LOCK:
        try:
            saved = os.dup(2)
        except OSError:  # closed: nothing is printed
            saved = None
        if saved is not None:
            with suppress(OSError), Path(os.devnull).open("wb") as null:
                os.dup2(null.fileno(), 2)
        try:
            yield
        finally:
            if saved is not None:
                os.dup2(saved, 2)
                os.close(saved)
