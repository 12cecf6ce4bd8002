"""A folder of generated files: written whole or not at all, and never over other files."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

MARKER = "samples.json"


def make_folder(
    folder: Path, recipe: Mapping[str, int], readme: str, fill: Callable[[Path], list[str]]
) -> dict[str, int]:
    """Fill a new or empty folder. Returns the number of files of each split.

    recipe: the arguments that determine the files. fill: writes them into a folder and returns its splits, as paths
    below it. A folder of the same recipe is left unchanged. On failure no folder is left. Raises ValueError for a
    negative argument, and for a folder that holds anything else.
    """
    if min(recipe.values()) < 0:
        values = ", ".join(f"{name} {value}" for name, value in recipe.items())
        raise ValueError(f"seed and counts must not be negative, but are {values}")
    if folder.exists() and (folder.is_file() or any(folder.iterdir())):
        return _read_counts(folder, recipe)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as temporary:
        new = Path(temporary, "new")
        counts = {split: _count(new / split) for split in fill(new)}
        (new / "README.txt").write_text(readme, encoding="utf-8")
        (new / MARKER).write_text(json.dumps({"recipe": recipe, "files": counts}, indent=2) + "\n", encoding="utf-8")
        new.replace(folder)
    return counts


def eighth(count: int) -> int:
    """The number of validation files beside `count` to train on."""
    return -(-count // 8)


def numbered(folder: Path, count: int, suffix: str) -> Iterator[Path]:
    """Paths of `count` files in a new folder: 0000.suffix and so on."""
    folder.mkdir(parents=True)
    for index in range(count):
        yield folder / f"{index:04}{suffix}"


def _read_counts(folder: Path, recipe: Mapping[str, int]) -> dict[str, int]:
    """Counts of an existing folder. Raises ValueError unless this recipe generated it and it is unchanged."""
    marker = folder / MARKER
    if not marker.is_file():
        raise ValueError(f"{folder}: not empty, and not demo data; name a new folder")
    record = json.loads(marker.read_text(encoding="utf-8"))
    if record["recipe"] != recipe:
        raise ValueError(f"{folder}: generated with {record['recipe']}, not {recipe}; delete it or name a new folder")
    if record["files"] != {split: _count(folder / split) for split in record["files"]}:
        raise ValueError(f"{folder}: files were added or removed; delete it or name a new folder")
    counts: dict[str, int] = record["files"]
    return counts


def _count(folder: Path) -> int:
    return sum(path.is_file() for path in folder.rglob("*"))
