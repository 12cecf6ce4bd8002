"""Batches of windows in an order that is a pure function of (seed, epoch), and a loader that resumes inside an epoch.

How a batch comes about: `WindowSampler` yields a `Request` for each batch of its rank, `WindowDataset` turns that into
a `Batch`, here or in a worker process, and `ResumableLoader` counts what it handed out. The pass travels with the items
because workers live for many epochs and would not hear of a new one.
"""

from __future__ import annotations

import atexit
import math
import signal
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, nullcontext
from types import MappingProxyType
from typing import Any

from torch.utils.data import DataLoader

from megabyte_mm.data.ahead import FarSource, FetchAhead
from megabyte_mm.data.dataset import Batch, WindowDataset
from megabyte_mm.data.sampler import WindowSampler

BATCH_SIZE = 16
"""Windows in a batch where nothing else is said."""

SHARES = ("data.batch_size", "devices")
"""Entries of a loader's state whose product must stay the same: the windows of one batch on all devices."""


def _told_plainly(batches: Iterator[Batch]) -> Iterator[Batch]:
    """The batches; an error of a loading process, which torch wraps into its traceback, as it was raised there."""
    try:
        yield from batches
    except (OSError, ValueError) as error:
        lines = str(error).strip().splitlines()
        if not lines or not lines[0].startswith("Caught "):
            raise
        raise type(error)(lines[-1].partition(": ")[2]) from error


def _leave_signals_to_the_run(worker: int) -> None:
    """Let a loading process go on where a signal meets a whole group: the process that trains decides when to end."""
    for name in ("SIGINT", "SIGTERM", "SIGUSR1"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


def _end_workers(loader: weakref.ref[ResumableLoader]) -> None:
    """End loading processes that are left when Python ends: it would send them SIGTERM and then wait for them."""
    found = loader()
    iterator = None if found is None else found._iterator
    if iterator is not None:
        iterator._shutdown_workers()  # type: ignore[attr-defined] # as Lightning does after an orderly end


class ResumableLoader(DataLoader[Batch]):
    """A DataLoader whose state is plain values, and which continues after exactly the batches it had handed out.

    After `load_state_dict` the next pass is the rest of the saved epoch; every other pass is a whole epoch. A pass that
    ran to its end moves on to the next epoch, as does the sampler's `set_epoch`. fixed: what else must be the same for
    a state to be taken up. far: sources whose shards are fetched before their turn.
    """

    sampler: WindowSampler

    def __init__(
        self,
        dataset: WindowDataset,
        sampler: WindowSampler,
        fixed: Mapping[str, int | str] = MappingProxyType({}),
        far: Sequence[FarSource] = (),
        num_workers: int = 0,
        pin_memory: bool = False,
    ) -> None:
        super().__init__(
            dataset,
            sampler=sampler,
            batch_size=None,
            num_workers=num_workers,
            pin_memory=pin_memory,
            persistent_workers=num_workers > 0,
            worker_init_fn=_leave_signals_to_the_run,
        )
        self._settings = dict(fixed)
        self._far = far
        if num_workers > 0:
            atexit.register(_end_workers, weakref.ref(self))

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        # A generator, so that it looks at the sampler only when the first batch is asked for: Lightning calls `iter`
        # before it calls `set_epoch`.
        sampler = self.sampler
        sampler.done = sampler.start
        batches = super().__iter__()
        sampler.start = 0
        with closing(FetchAhead(self._far)) if self._far else nullcontext() as ahead:
            for batch in _told_plainly(batches):
                sampler.done += 1
                if ahead is not None:
                    ahead.note(sampler.request(sampler.done - 1))
                yield batch
        sampler.set_epoch(sampler.epoch + 1)

    def state_dict(self) -> dict[str, int | str]:
        """The epoch, the batches handed out in it, and all that must stay the same for them to mean anything."""
        return {"epoch": self.sampler.epoch, "batches": self.sampler.done, **self._fixed()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Make the next pass the rest of the saved epoch. Raises ValueError naming what is no longer the same."""
        fixed = self._fixed()
        if math.prod(state.get(name, 0) for name in SHARES) == math.prod(int(fixed[name]) for name in SHARES):
            # Each update learns from the same windows, on however many devices.
            fixed = {name: value for name, value in fixed.items() if name not in SHARES}
        changed = [
            f"{name} was {state.get(name)} and is {now}" for name, now in fixed.items() if state.get(name) != now
        ]
        if changed:
            raise ValueError(
                f"cannot resume in the middle of the data, which changed: {'; '.join(changed)}. Resume with the data "
                "and settings of the checkpoint, or start a new run from its weights"
            )
        self.sampler.epoch = int(state["epoch"])
        self.sampler.start = self.sampler.done = int(state["batches"])

    def _fixed(self) -> dict[str, int | str]:
        sampler = self.sampler
        return {
            "windows": sampler.items,
            "data.batch_size": sampler.batch_size,
            "devices": sampler.world_size,
            **self._settings,
        }
