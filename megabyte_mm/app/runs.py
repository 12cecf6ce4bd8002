"""The generations that users still want: Stop, or a newer one, ends a run at its next step, also one in the queue.

gradio can cancel events too, but then refuses an event that follows at once.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict

MAX_RUNS = 10_000
"""Runs that are remembered; those of closed pages are never taken back."""


class Runs:
    """Tokens of runs, in the order in which they began."""

    def __init__(self) -> None:
        self._wanted: OrderedDict[str, None] = OrderedDict()

    def begin(self, former: str | None) -> str:
        """Return the token of a new run, which takes the place of the page's former one."""
        self.stop(former)
        token = secrets.token_hex(16)
        self._wanted[token] = None
        while len(self._wanted) > MAX_RUNS:
            self._wanted.popitem(last=False)
        return token

    def stop(self, token: str | None) -> None:
        """End a run. A run that has ended, and no run, are fine."""
        self._wanted.pop(token or "", None)

    def is_wanted(self, token: str | None) -> bool:
        """True until the run is stopped."""
        return token in self._wanted
