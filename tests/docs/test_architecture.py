"""docs/architecture.md names every file of the packages once, and its walks name files that exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def files_of_the_layout():
    """Path of each file and folder in the tree of the layout, from the repository's root."""
    tree = ARCHITECTURE.split("\n## Layout\n")[1].split("```")[1]
    folders: list[str] = []
    paths: list[str] = []
    for indent, names in re.findall(r"^( *)((?:\w+\.py|\w+/)(?: \w+\.py)*)(?= {2}|$)", tree, re.MULTILINE):
        del folders[len(indent) // 2 :]
        paths += ["/".join([*folders, name.rstrip("/")]) for name in names.split()]
        if names.endswith("/"):
            folders.append(names.rstrip("/"))
    return paths


def test_the_layout_names_every_file_once():
    named = files_of_the_layout()
    assert len(named) == len(set(named))
    assert [name for name in named if not (ROOT / name).exists()] == []
    files = [path for package in ("data_adapters", "megabyte_mm") for path in (ROOT / package).rglob("*.py")]
    present = {path.relative_to(ROOT).as_posix() for path in files if not path.name.startswith("__")}
    assert sorted(present - set(named)) == []


@pytest.mark.parametrize("walk", ["A PNG to a training step", "A WAV to a longer WAV"])
def test_a_walk_names_at_most_15_files_each_once(walk):
    section = ARCHITECTURE.split(f"\n### {walk}\n")[1].split("\n#")[0]
    files = re.findall(r"^\d+\. `([\w/.]+)`", section, re.MULTILINE)
    assert 5 < len(files) <= 15
    assert len(files) == len(set(files))
    assert [file for file in files if not (ROOT / file).is_file()] == []
