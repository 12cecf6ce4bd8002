"""From a checkpoint or a folder to a playground, and the mistakes that the command names in one line."""

import importlib.util

import pytest

from data_adapters import ImageAdapter
from megabyte_mm.app.open import model_name, open_playground
from megabyte_mm.cli.main import main


@pytest.fixture
def model(save_checkpoint) -> str:
    return str(save_checkpoint(ImageAdapter("L", (8, 4), patch=2), window=32))


def test_an_exported_folder_offers_its_samples(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["export", model, "shared", "--samples", "2"]) == 0
    playground = open_playground("shared")
    assert list(playground.files) == ["sample-000.png", "sample-001.png"]
    assert playground.name == "shared"


def test_files_that_the_model_reads_are_offered_without_hidden_ones(model, picture, tmp_path):
    (tmp_path / ".hidden.png").write_bytes(b"")
    assert set(open_playground(model, tmp_path).files) == {"grey.png"}


@pytest.mark.parametrize(
    ("path", "name"),
    [("runs/image/best.ckpt", "image"), ("user/name", "user/name"), ("user/name@v1", "user/name@v1")],
)
def test_a_page_is_named_after_the_run_or_the_hub_id(path, name):
    assert model_name(path) == name


def test_mistakes_are_named_in_one_line(model, tmp_path, capsys, monkeypatch):
    assert main(["app", model, "--files", str(tmp_path / "none")]) == 2
    assert f"--files {tmp_path / 'none'}: is no folder with files" in capsys.readouterr().err
    assert main(["app", model, "--max_count", "0"]) == 2
    assert "--max_count is 0; it must be at least 1" in capsys.readouterr().err
    assert main(["app", str(tmp_path / "none.ckpt")]) == 2
    assert main(["app", model, "--port", "99999"]) == 2
    assert "--port 99999" in capsys.readouterr().err
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main(["app", model]) == 2
    assert "the playground needs gradio: pip install 'megabyte-mm[app]'" in capsys.readouterr().err
