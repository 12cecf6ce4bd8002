"""One run at a time in a folder: two would replace each other's checkpoints."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout
from lightning.pytorch.utilities import rank_zero_only

from megabyte_mm.errors import FieldError

log = logging.getLogger(__name__)
LOCK = ".lock"
"""In the folder of a run while it trains. The operating system frees it when the process ends, however it ends."""


@contextmanager
def claimed(root: Path) -> Iterator[None]:
    """Hold the folder of a run, in the process of rank 0, until the block ends.

    Raises FieldError where another process holds it. On a file system without locks it only logs that.
    """
    if rank_zero_only.rank:  # type: ignore[attr-defined] # Lightning sets it
        yield
        return
    lock = FileLock(root / LOCK, timeout=0)
    try:
        lock.acquire()
        if not (root / LOCK).exists():  # the last holder removed it just before it was acquired
            lock.release()
            lock.acquire()
    except Timeout:
        reason = f"{root}: another run is training in this folder: choose another one, or wait until that run ends"
        raise FieldError("trainer.default_root_dir", reason) from None
    except (NotImplementedError, OSError) as error:
        log.info("%s cannot be locked (%s): start no other run there", root, error)
    try:
        yield
    finally:
        with suppress(OSError):
            if lock.is_locked:
                (root / LOCK).unlink()
        lock.release()
