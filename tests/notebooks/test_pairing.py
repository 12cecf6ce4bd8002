"""Notebooks: both files of each agree, hold no output, and leave logic to the package."""

import ast
import json
from pathlib import Path

import jupytext
import pytest

FOLDER = Path(__file__).parents[2] / "notebooks"
NAMES = sorted(path.stem for path in FOLDER.glob("*.py"))

LOGIC = (
    *(ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef),
    *(ast.For, ast.While, ast.If, ast.Try, ast.With, ast.Global),
)
LONGEST = 30
"""Lines of a cell; the first, with imports and settings, is the longest."""


def cells(path):
    return [(cell.cell_type, cell.source) for cell in jupytext.read(path).cells]


def statements(name):
    """The code cells, without magics."""
    for cell in jupytext.read(FOLDER / f"{name}.py").cells:
        if cell.cell_type == "code":
            lines = [line for line in cell.source.splitlines() if not line.startswith("%")]
            yield "\n".join(lines)


def test_there_are_six_and_each_has_both_files():
    assert [name[0] for name in NAMES] == list("123456")
    assert sorted(path.stem for path in FOLDER.glob("*.ipynb")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_both_files_hold_the_same_cells(name):
    assert cells(FOLDER / f"{name}.py") == cells(FOLDER / f"{name}.ipynb"), "run `make format`"


@pytest.mark.parametrize("name", NAMES)
def test_no_output_is_committed(name):
    notebook = json.loads((FOLDER / f"{name}.ipynb").read_text(encoding="utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert code
    advice = "run `jupyter nbconvert --clear-output --inplace notebooks/*.ipynb`"
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in code), advice


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_holds_no_logic_of_its_own(name):
    for source in statements(name):
        logic = [node for node in ast.walk(ast.parse(source)) if isinstance(node, LOGIC)]
        assert not logic, f"{type(logic[0]).__name__} in line {logic[0].lineno} of\n{source}"
        assert len(source.splitlines()) <= LONGEST, source


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_begins_with_its_title(name):
    kind, source = cells(FOLDER / f"{name}.py")[0]
    assert kind == "markdown"
    assert source.startswith(f"# {name[0]} ")
