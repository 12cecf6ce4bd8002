"""The direction of the imports, as docs/architecture.md draws it: down only, and never between rooms of one level."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

LEVELS = [
    {"cli", "notebook"},
    {"app", "training", "export"},
    {"generation", "evaluation", "compression", "data", "features"},
    {"checkpoint"},
    {"models", "plots", "demo_data", "metrics"},
    {"alphabet", "windows", "errors", "progress", "lazy"},
]
"""The rooms of megabyte_mm, top to bottom: a room may import those of every lower level."""

ENTRY = {"__init__": None, "__main__": {"cli"}}
"""Modules above the levels and what they may import; None is anything (__init__ only names, lazily)."""

OUTSIDE = {
    "data_adapters": (
        "app",
        "checkpoint",
        "cli",
        "compression",
        "data",
        "evaluation",
        "export",
        "features",
        "generation",
        "notebook",
        "training",
    ),
    "lightning": ("cli", "data/module.py", "training"),
    "pytorch_lightning": (),
}
"""Packages that only some rooms, or single files, of megabyte_mm may import."""

ROOMS = {path.stem for path in (ROOT / "megabyte_mm").iterdir()}
NO_LEVEL = "megabyte_mm/{} has no level yet: give it one in LEVELS of tests/test_imports.py, and in the docs"

ADAPTERS_NEVER_IMPORT = {"megabyte_mm", "torch", "torchmetrics", "lightning", "pytorch_lightning"}


def allowed_rooms(room: str) -> set[str] | None:
    if room in ENTRY:
        return ENTRY[room]
    level = next((i for i, rooms in enumerate(LEVELS) if room in rooms), None)
    if level is None:
        raise AssertionError(NO_LEVEL.format(room))
    return set().union(*LEVELS[level + 1 :])


def room_of(file: str) -> str:
    """megabyte_mm/models/base.py -> models, megabyte_mm/cli/main.py -> cli."""
    return Path(file).parts[1].removesuffix(".py")


def imported(source: str, file: str) -> Iterator[tuple[int, str]]:
    """Line and dotted name of each import of a file, those in functions and type-checking blocks too."""
    folder = Path(file).parent.parts
    for node in ast.walk(ast.parse(source, filename=file)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = folder[: len(folder) - node.level + 1] if node.level else ()
            for alias in node.names:
                yield node.lineno, ".".join(filter(None, [*base, node.module, alias.name]))


def violations(source: str, file: str) -> list[str]:
    """One line for each import of a file (named from the repository's root) that goes the wrong way."""
    package = Path(file).parts[0]
    found = []
    for line, name in imported(source, file):
        reason = _adapter_reason(name) if package == "data_adapters" else _room_reason(name, file)
        if reason:
            found.append(f"{file}:{line} imports {name}: {reason}")
    return found


def _adapter_reason(name: str) -> str | None:
    if name.split(".")[0] in ADAPTERS_NEVER_IMPORT:
        return "data_adapters stands alone, without megabyte_mm and without torch"
    return None


def _room_reason(name: str, file: str) -> str | None:
    room, (top, *rest) = room_of(file), name.split(".")
    if top in OUTSIDE and room != "__init__":
        inside = file.removeprefix("megabyte_mm/")
        if room not in OUTSIDE[top] and inside not in OUTSIDE[top]:
            return f"only {', '.join(OUTSIDE[top]) or 'nobody'} may import {top}"
    allowed = allowed_rooms(room)
    if top != "megabyte_mm" or allowed is None:
        return None
    target = rest[0] if rest else ""
    if target in allowed | {room} or (target.startswith("__") and target not in ENTRY):
        return None
    if target in set().union(*LEVELS) | set(ENTRY):
        return f"{room} may import only {', '.join(sorted(allowed)) or 'nothing'} of megabyte_mm"
    if target in ROOMS:
        return NO_LEVEL.format(target)
    return "import the module that defines the name, not the package that passes it on"


def modules() -> list[str]:
    found = [p for package in ("data_adapters", "megabyte_mm") for p in (ROOT / package).rglob("*.py")]
    return sorted(p.relative_to(ROOT).as_posix() for p in found)


@pytest.mark.parametrize("file", modules())
def test_imports_go_down_only(file):
    wrong = violations((ROOT / file).read_text(encoding="utf-8"), file)
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("megabyte_mm/models/base.py", "from megabyte_mm.training.module import ByteLM"),
        ("megabyte_mm/models/base.py", "from ..training import module"),
        ("megabyte_mm/models/base.py", "from megabyte_mm.metrics import BitsPerByte"),
        ("megabyte_mm/alphabet.py", "def late():\n    from megabyte_mm import models"),
        ("megabyte_mm/generation/engine.py", "import megabyte_mm.evaluation.scoring"),
        ("megabyte_mm/generation/engine.py", "from megabyte_mm import Megabyte"),
        ("megabyte_mm/models/base.py", "from data_adapters import registry"),
        ("megabyte_mm/plots/runs.py", "from data_adapters import registry"),
        ("megabyte_mm/training/module.py", "from megabyte_mm.cli.main import main"),
        ("megabyte_mm/checkpoint/load.py", "import lightning.pytorch as pl"),
        ("megabyte_mm/data/loader.py", "import lightning"),
        ("megabyte_mm/metrics.py", "def late():\n    import lightning"),
        ("megabyte_mm/data/loader.py", "import pytorch_lightning"),
        ("megabyte_mm/data/loader.py", "from megabyte_mm.evaluation import score_files"),
        ("megabyte_mm/demo_data/make.py", "from megabyte_mm.alphabet import END\nimport megabyte_mm.models"),
        ("data_adapters/image/adapter.py", "import torch.nn"),
        ("data_adapters/image/adapter.py", "if TYPE_CHECKING:\n    from megabyte_mm.alphabet import END"),
    ],
)
def test_an_import_in_the_wrong_direction_is_found(file, source):
    assert len(violations(source, file)) == 1


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("megabyte_mm/__init__.py", "from megabyte_mm.training.module import ByteLM"),
        ("megabyte_mm/__main__.py", "from megabyte_mm.cli.main import main"),
        ("megabyte_mm/cli/fit.py", "from megabyte_mm.training import trainer\nimport lightning"),
        ("megabyte_mm/cli/generate.py", "from megabyte_mm import demo_data\nfrom data_adapters import registry"),
        ("megabyte_mm/checkpoint/load.py", "from data_adapters import registry"),
        ("megabyte_mm/data/module.py", "from lightning.pytorch import LightningDataModule"),
        ("megabyte_mm/training/callbacks.py", "from megabyte_mm.generation import generate"),
        ("megabyte_mm/training/callbacks.py", "import data_adapters\nfrom lightning.pytorch import Callback"),
        ("megabyte_mm/models/base.py", "from . import layers\nfrom ..alphabet import END\nimport torch"),
        ("data_adapters/image/adapter.py", "from data_adapters.base import Adapter\nimport numpy"),
    ],
)
def test_an_import_in_the_right_direction_passes(file, source):
    assert violations(source, file) == []


def test_a_room_without_a_level_is_reported():
    with pytest.raises(AssertionError, match="megabyte_mm/attic has no level yet"):
        violations("import megabyte_mm.alphabet", "megabyte_mm/attic/trunk.py")


@pytest.mark.parametrize("arguments", [[], ["--help"]], ids=["import", "help"])
def test_the_command_line_starts_without_what_is_slow_to_import(arguments):
    call = f"sys.argv[1:] = {arguments}; cli.main()" if arguments else "pass"
    code = f"""
import sys
from megabyte_mm.cli import main as cli
try:
    {call}
except SystemExit as stop:
    assert not stop.code, stop.code
heavy = {{"torch", "lightning", "torchmetrics", "tensorboard", "matplotlib"}} & set(sys.modules)
assert not heavy, f"imported at the start: {{heavy}}"
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
