"""Texts that every Python comes with: modules of its standard library, chosen the same way in every version."""

from __future__ import annotations

import sysconfig
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path, PurePath

TRAIN_BYTES = 1_750_000
VAL_BYTES = 100_000
MIN_BYTES, MAX_BYTES = 1_000, 40_000  # of a file: no stubs, and none that would be most of a split
SKIPPED = {
    *("test", "tests", "idle_test", "idlelib", "lib2to3", "distutils", "encodings", "pydoc_data", "turtledemo"),
    *("ensurepip", "site-packages", "dist-packages", "__pycache__", "__phello__"),
}
GENERATED = ("_sysconfigdata", "config-")


def choose_sources(seed: int) -> dict[str, dict[str, bytes]]:
    """Choose modules of the standard library: split ("train", "val") -> dotted name -> content.

    The splits have about TRAIN_BYTES and VAL_BYTES. A module's rank depends only on its name and the seed, so versions
    of Python differ only where the library does. Raises FileNotFoundError for a Python without the sources.
    """
    library = Path(sysconfig.get_paths()["stdlib"])
    ranked = sorted(_modules(library), key=lambda path: blake2b(f"{seed}:{_name(path, library)}".encode()).digest())
    if not ranked:
        raise FileNotFoundError(f"{library}: this Python has no sources of its standard library")
    texts = iter([(_name(path, library), path.read_bytes()) for path in ranked])
    return {"val": _take(texts, VAL_BYTES), "train": _take(texts, TRAIN_BYTES)}


def _modules(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.name in SKIPPED or path.name.startswith(GENERATED):
            continue
        if path.is_dir():
            yield from _modules(path)
        elif path.suffix == ".py" and MIN_BYTES <= path.stat().st_size <= MAX_BYTES:
            yield path


def _name(path: Path, library: Path) -> str:
    """Name such as `email.mime.text.py`, for one flat folder: subfolders would be classes."""
    return ".".join(PurePath(path.relative_to(library)).parts)


def _take(texts: Iterator[tuple[str, bytes]], budget: int) -> dict[str, bytes]:
    """Take texts from the front until they reach the budget."""
    taken: dict[str, bytes] = {}
    for name, text in texts:
        taken[name] = text
        if sum(map(len, taken.values())) >= budget:
            break
    return taken
