"""The process that reads uploaded files: `python -m megabyte_mm.app.reader_process MEGABYTES`.

A line of JSON comes in for each file: its path, the adapter, and the most bytes to return. A line of JSON goes out,
with the number of bytes that follow it. Decoders of media formats are large C libraries: here a file can crash or fill
only this process.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any, BinaryIO

from data_adapters import Adapter, MediaError, build, load_class


def read(question: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """The stream of a file as an answer: its format, its notes and its bytes; or the reason for which it is refused."""
    path, limit = Path(question["path"]), question["limit"]
    try:
        adapter = _adapter(question)
        stream = adapter.read(path)
    except MediaError as error:
        return {"refused": error.reason}, b""
    except MemoryError:
        return {"refused": "needs too much memory to be read"}, b""
    kept = stream.data
    if not adapter.single_window and len(kept) > limit:
        kept = adapter.cut_to_units(kept, limit, adapter.unit_in(stream.format))
    answer = {"format": dict(stream.format), "notes": list(stream.notes), "whole": len(stream.data)}
    return answer, kept.tobytes()


def question_for(path: Path, adapter: Adapter, limit: int) -> dict[str, Any]:
    """The question of a file. An adapter that a user wrote is named by its import path."""
    kind = type(adapter)
    own = "" if kind.__module__.startswith("data_adapters") else f"{kind.__module__}.{kind.__qualname__}"
    return {
        "path": os.fspath(path),
        "adapter": adapter.name,
        "class": own,
        "settings": adapter.settings(),
        "limit": limit,
    }


def _adapter(question: dict[str, Any]) -> Adapter:
    if question["class"]:
        return load_class(question["class"])(**question["settings"])
    return build(question["adapter"], question["settings"])


def limit_memory(megabytes: int) -> None:
    """Let allocations beyond this size fail, where the system can do so."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        size = megabytes * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (size, size))


def serve(questions: BinaryIO, answers: BinaryIO) -> None:
    """Answer each line, until there are no more."""
    for line in questions:
        answer, data = read(json.loads(line))
        answers.write(json.dumps(answer | {"bytes": len(data)}).encode() + b"\n" + data)
        answers.flush()


if __name__ == "__main__":
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a decoder prints must not get among the answers
    limit_memory(int(sys.argv[1]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the server's, whose end closes standard input
    serve(sys.stdin.buffer, answers)
