"""`export --space`: a folder that runs by itself."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from data_adapters import ImageAdapter
from megabyte_mm.cli.main import main


@pytest.fixture
def model(save_checkpoint) -> str:
    return str(save_checkpoint(ImageAdapter("L", (8, 8), patch=2), window=64))


def export(*arguments: object) -> int:
    return main(["export", *map(str, arguments), "--space", "--samples", "1"])


def test_a_space_has_a_program_requirements_a_card_and_the_model(model, tmp_path, capsys):
    space = tmp_path / "space"
    assert export(model, space, "--license", "mit") == 0
    _, front, _ = (space / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    card = yaml.safe_load(front)
    assert (card["sdk"], card["app_file"], card["license"], card["title"]) == ("gradio", "app.py", "mit", "space")
    assert (space / "model" / "samples" / "sample-000.png").is_file()
    wanted = (space / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in wanted if line.startswith("torch>=")]
    assert not [line for line in wanted if ";" in line]
    assert not list(space.rglob("__pycache__"))
    ast.parse((space / "app.py").read_text(encoding="utf-8"))


def test_a_space_runs_on_its_own_sources(model, tmp_path):
    space = tmp_path / "space"
    assert export(model, space) == 0
    program = (space / "app.py").read_text(encoding="utf-8")
    # In place of serving for ever.
    program = program.replace("serve_model(", "print(serve_model.__code__.co_filename); open_it(").replace(
        ', host="0.0.0.0", port=7860', ""
    )
    read = "p = open_playground(m, name=name); [f] = p.files.values(); print(len(p.reader.read(p.adapters[0], f).data))"
    start = f"from megabyte_mm.app.open import open_playground\ndef open_it(m, name):\n    {read}; p.reader.close()\n"
    (space / "trial.py").write_text(start + program, encoding="utf-8")
    # -S: without what this environment has installed, but for the requirements that PYTHONPATH adds behind the Space.
    others = [folder for folder in sys.path if "site-packages" in folder]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(others)}
    command = [sys.executable, "-S", "trial.py"]
    done = subprocess.run(command, cwd=space, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    source, size = done.stdout.split()
    assert Path(source) == space / "megabyte_mm" / "app" / "open.py"
    assert size == "64"


def test_an_earlier_space_is_replaced_whole(model, tmp_path, capsys):
    space = tmp_path / "space"
    assert export(model, space) == 0
    (space / "model" / "old.txt").write_text("old")
    (space / "mine.txt").write_text("mine")
    assert export(model, space) == 2
    assert "is not empty" in capsys.readouterr().err
    assert export(model, space, "--overwrite") == 0
    assert not (space / "model" / "old.txt").exists()
    assert (space / "mine.txt").read_text() == "mine"
