"""Clients that call the server at the same time, each through its own gradio_client; the counts of their answers."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import CancelledError
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.app.requests import Request


class Counts:
    """Outcomes of the calls of all clients: the expected ones by request, the others as lines."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.outcomes: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.seconds: list[float] = []

    def add(self, request: Request, outcome: str, message: str, seconds: float) -> None:
        """Count a call. message: of a refusal."""
        with self._lock:
            self.outcomes[f"{request.name}: {outcome}"] += 1
            if outcome == "answer":
                self.seconds.append(seconds)
            if outcome != request.expected:
                self.errors[f"{request.name}: {outcome} instead of {request.expected}: {message[:200]}"] += 1


def run_client(
    address: str,
    make_requests: Callable[[np.random.Generator], list[Request]],
    seed: int,
    until: float,
    counts: Counts,
) -> None:
    """Call the server until a time (`time.monotonic`), one request after the other, in random order."""
    from gradio_client import Client

    rng = np.random.default_rng(seed)
    with TemporaryDirectory() as folder:
        client = Client(address, verbose=False, download_files=Path(folder, "got"))
        try:
            while time.monotonic() < until:
                asked = make_requests(rng)
                request = asked[int(rng.integers(len(asked)))]
                started = time.monotonic()
                outcome, message = _call(client, request, Path(folder))
                counts.add(request, outcome, message, time.monotonic() - started)
        finally:
            client.close()


def _call(client: Any, request: Request, folder: Path) -> tuple[str, str]:
    """The outcome of a call, and its message where it is refused."""
    from gradio_client import handle_file
    from gradio_client.exceptions import AppError

    values = dict(request.values)
    try:
        if path := request.saved(folder):
            values["file"] = handle_file(path)
        job = client.submit(**values, api_name=request.endpoint)
        if request.expected == "cancel":
            time.sleep(1)
            return ("cancel" if job.cancel() or job.done() else "answer"), ""
        job.result(timeout=600)
    except CancelledError:
        return "cancel", ""
    except AppError as error:
        return ("refusal" if str(error) and "\n" not in str(error) else "error"), str(error)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is counted
        # gradio_client knows the limit of uploads, and refuses to send a larger file.
        is_refused = "exceeds the maximum file size" in str(error)
        return ("refusal" if is_refused else "error"), f"{type(error).__name__}: {error}"
    return "answer", ""
