"""What the program of before its modules were renamed has stored is read, resumed and gives the same numbers.

former/make.sh made one of each: checkpoints of the three architectures, one of them a folder of shards, an export, a
prepared folder, a config as a run saves it, and a container of compressed files.
"""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
import torch

from megabyte_mm import load_model
from megabyte_mm.cli.main import main
from megabyte_mm.compression.container import unpack
from tests.training.conftest import surroundings  # noqa: F401 - restores the state of the process after `fit`

FORMER = Path(__file__).parent / "former"
MODELS = ("megabyte.ckpt", "transformer.ckpt", "perceiver_ar.ckpt", "export")
CLOSE = 1e-4
"""Relative: another processor, another version of torch and other threads change the last bits."""


@pytest.fixture(autouse=True)
def former(surroundings: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:  # noqa: F811
    """A copy to work in."""
    shutil.copytree(FORMER, tmp_path / "former")
    monkeypatch.chdir(tmp_path / "former")
    return tmp_path / "former"


def figures(path: Path | str) -> dict[str, list[float]]:
    """The losses and bits per byte in a run's metrics.csv, in the order of the steps."""
    rows = list(csv.DictReader(Path(path).read_text(encoding="utf-8").splitlines()))
    return {name: [float(row[name]) for row in rows if row[name]] for name in ("train/loss", "train/bpb", "val/bpb")}


def assert_close(run: str, expected: str) -> None:
    measured, stored = figures(run), figures(expected)
    assert stored["train/loss"]
    for name, values in stored.items():
        assert measured[name] == pytest.approx(values, rel=CLOSE)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_scores_and_generates_as_before(name):
    condition = "text" if name == "export" else "verse"
    assert main(["score", name, "texts/val", "--json", "scores.json"]) == 0
    scores = json.loads(Path("scores.json").read_text(encoding="utf-8"))
    expected = json.loads(Path("expected", f"{name}.json").read_text(encoding="utf-8"))
    assert scores["window"] == expected["window"]
    for file, stored in zip(scores["files"], expected["files"], strict=True):
        assert (file["path"], file["bytes"]) == (stored["path"], stored["bytes"])
        assert file["nats"] == pytest.approx(stored["nats"], rel=CLOSE)

    options = ["--condition", condition, "--length", "40", "--num_samples", "1", "--seed", "1", "--backend", "eager"]
    assert main(["generate", name, "--out", "out", *options]) == 0
    [sample] = Path("out").iterdir()
    assert sample.read_bytes() == Path("expected", name, sample.name).read_bytes()


def test_the_fields_of_stored_configs_keep_their_values():
    config = load_model("megabyte.ckpt").config
    assert (config.name, config.patch_size, config.max_len, config.cross_patch) == ("megabyte", 4, 64, 4)
    assert (config.conditions, config.block.positions) == (3, "learned")
    models = {name: load_model(name) for name in MODELS}
    scaled = {name: bundle.config.embedding_scale for name, bundle in models.items()}
    assert scaled == {"megabyte.ckpt": 5.0, "transformer.ckpt": 5.0, "perceiver_ar.ckpt": 5.0, "export": 5.0}
    assert models["megabyte.ckpt"].conditions == ("none", "list", "verse")
    assert list(models["export"].modalities) == ["image", "text"]
    assert models["export"].provenance.steps == 400


@pytest.mark.parametrize(
    ("checkpoint", "config", "net"),
    [
        ("megabyte.ckpt", "config.yaml", []),
        (
            "transformer.ckpt",
            "text.yaml",
            [
                "--model.net=TransformerConfig",
                "--model.net.stack={dim: 8, layers: 1, heads: 2}",
                "--model.net.byte_scale=5",
            ],
        ),
    ],
)
def test_a_run_resumes_with_the_same_losses(checkpoint, config, net):
    arguments = ["--ckpt_path", checkpoint, "--trainer.max_steps", "6", "--trainer.default_root_dir", "run", *net]
    assert main(["fit", "--config", config, *arguments]) == 0
    assert_close("run/logs/version_0/metrics.csv", f"expected/{checkpoint}.csv")


def test_a_prepared_folder_gives_the_same_training_as_its_files():
    shutil.rmtree("texts")
    assert main(["fit", "--config", "text.yaml", "--data.path", "prepared", "--trainer.default_root_dir", "run"]) == 0
    last = load_model("run/last.ckpt").model.state_dict()
    for name, weight in load_model("megabyte.ckpt").model.state_dict().items():
        torch.testing.assert_close(last[name], weight, rtol=1e-3, atol=1e-4)


def test_a_config_of_a_mix_is_read(capsys):
    assert main(["info", "mixed.yaml"]) == 0
    assert "megabyte" in capsys.readouterr().out
    assert main(["fit", "--config", "mixed.yaml", "--trainer.max_steps", "1", "--trainer.val_check_interval", "1"]) == 0
    assert list(load_model("mixed/last.ckpt").modalities) == ["image", "text"]


def test_a_container_is_read_and_gives_back_its_files_where_the_machine_computes_the_same_numbers(capsys):
    container = unpack(Path("files.mbz").read_bytes())
    assert [entry.name for entry in container.entries] == ["picture.png", "river.txt"]
    assert [entry.recipe["kind"] for entry in container.entries] == ["tiles", "around"]
    assert set("".join(entry.kinds for entry in container.entries)) == {"m"}
    code = main(["decompress", "export", "files.mbz", "--out", "out"])
    if code:
        assert "this machine computes other probabilities" in capsys.readouterr().err
    else:
        assert Path("out/picture.png").read_bytes() == Path("picture.png").read_bytes()
        assert Path("out/river.txt").read_bytes() == Path("texts/train/verse/river.txt").read_bytes()
