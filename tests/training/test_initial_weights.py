"""`fit --init_from`: what a model takes over from another, and what it refuses."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from megabyte_mm import load_model
from megabyte_mm.cli.main import main

NET = (
    "{patch_size: 4, global_stack: {dim: 24, layers: 1, heads: 2}, local_stack: {dim: 16, layers: 1, heads: 2}, "
    "init_std: 0.1, neighbourhood: {}}"
)
TEXT = "What is begun is half done, and what is learned once is learned for other things too. "
STEP = ["--trainer.max_steps", "1", "--trainer.val_check_interval", "1", "--model.optimizer.lr", "1e-12"]


@pytest.fixture
def config(tmp_path) -> Path:
    for split, times in (("train", 12), ("val", 4)):
        for word in ("cat", "dog"):
            folder = tmp_path / "texts" / split / word
            folder.mkdir(parents=True)
            (folder / "a.txt").write_text(f"{word} and {split}: {TEXT * times}")
    path = tmp_path / "config.yaml"
    path.write_text(
        f"""
trainer: {{default_root_dir: {tmp_path / "first"}, max_steps: 30, val_check_interval: 30, accelerator: cpu, devices: 1,
  precision: 32-true, check_val_every_n_epoch: null}}
data: {{path: {tmp_path / "texts"}, window: 32, batch_size: 8}}
samples: {{count: 1}}
model: {{net: {NET}, optimizer: {{lr: 0.01, warmup_steps: 3}}}}
"""
    )
    return path


def fit(config: Path, run: str, *options: str) -> int:
    return main(["fit", "--config", str(config), "--trainer.default_root_dir", str(config.parent / run), *options])


def measured(config: Path, run: str) -> float:
    """The last val/bpb of a run."""
    table = config.parent / run / "logs/version_0/metrics.csv"
    rows = list(csv.DictReader(table.read_text(encoding="utf-8").splitlines()))
    return [float(row["val/bpb"]) for row in rows if row["val/bpb"]][-1]


def refuse(capsys, status, *expected):
    assert status == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert all(message in line for message in expected), line


@pytest.mark.parametrize("options", [[], ["--data.classes", "true"]], ids=["plain", "classes"])
def test_a_run_starts_where_the_model_stood(config, options, capsys):
    assert fit(config, "first", *options) == 0
    first = ["--init_from", str(config.parent / "first/last.ckpt")]
    capsys.readouterr()
    assert fit(config, "second", *options, *first, *STEP) == 0
    assert "starting with the weights of" in capsys.readouterr().err
    assert fit(config, "new", *options, *STEP) == 0
    assert measured(config, "second") == pytest.approx(measured(config, "first"), abs=1e-5)
    assert measured(config, "new") > measured(config, "first") + 1
    # An exported model too; moments and counters are those of a new run.
    assert main(["export", first[1], str(config.parent / "shared")]) == 0
    assert fit(config, "third", *options, "--init_from", str(config.parent / "shared"), *STEP) == 0
    assert measured(config, "third") == measured(config, "second")
    assert torch.load(config.parent / "second/last.ckpt", weights_only=True)["global_step"] == 1


def test_a_run_that_resumes_keeps_its_own_weights(config, capsys):
    first = ["--init_from", str(config.parent / "first/last.ckpt"), "--ckpt_path", "last"]
    assert fit(config, "first") == 0
    assert fit(config, "second", *first, "--trainer.max_steps", "4", "--trainer.val_check_interval", "4") == 0
    assert fit(config, "second", *first, "--trainer.max_steps", "6", "--trainer.val_check_interval", "6") == 0
    assert fit(config, "whole", *first, "--trainer.max_steps", "6", "--trainer.val_check_interval", "6") == 0
    checkpoints = [torch.load(config.parent / run / "last.ckpt", weights_only=True) for run in ("second", "whole")]
    resumed, whole = (checkpoint["state_dict"] for checkpoint in checkpoints)
    # Only the length of the run, which the learning rate follows, differs in the first four steps.
    assert all(torch.allclose(resumed[name], whole[name], atol=0.05) for name in whole)
    capsys.readouterr()
    other = [
        "--init_from",
        str(config.parent / "first/last.ckpt"),
        "--ckpt_path",
        str(config.parent / "first/best.ckpt"),
    ]
    refuse(capsys, fit(config, "third", *other), "--init_from", "has all weights; give one of the two")


def test_other_data_keep_what_they_share(config, capsys):
    assert fit(config, "first") == 0
    first = ["--init_from", str(config.parent / "first/last.ckpt")]
    old = load_model(first[1]).model.state_dict()
    capsys.readouterr()
    assert fit(config, "classes", *first, "--data.classes", "true", "--data.window", "48", *STEP) == 0
    line = next(line for line in capsys.readouterr().err.splitlines() if "starting with" in line)
    assert line.endswith("last.ckpt; cat is new; dog is new; positions from 32 on are new")
    new = load_model(config.parent / "classes/last.ckpt").model.state_dict()
    assert torch.allclose(new["start_CG"], old["start_CG"].expand(3, -1), atol=1e-6)
    assert torch.allclose(new["embedder.positions.weight"][:32], old["embedder.positions.weight"], atol=1e-6)
    # Back from classes to none.
    capsys.readouterr()
    classes = ["--init_from", str(config.parent / "classes/last.ckpt")]
    assert fit(config, "without", *classes, *STEP) == 0
    assert "without cat, dog: begins as their mean" in capsys.readouterr().err
    assert measured(config, "without") == pytest.approx(measured(config, "first"), abs=1e-4)


def test_a_model_of_texts_learns_pictures_too(config, capsys):
    rng = np.random.default_rng(0)
    for i in range(8):
        folder = config.parent / "pictures" / ("val" if i < 2 else "train")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    plain = ["--model.net.neighbourhood", "null"]
    texts = f"text: {{path: {config.parent / 'texts'}, window: 32, patch_size: 4}}"
    image = "{class_path: data_adapters.ImageAdapter, init_args: {size: [4, 4], patch: 2}}"
    pictures = f"image: {{path: {config.parent / 'pictures'}, adapter: {image}}}"
    assert fit(config, "first", *plain) == 0
    mix = config.parent / "mix.yaml"
    content = config.read_text().replace("patch_size: 4, global", "global").splitlines()
    content = [line for line in content if not line.startswith("data:")]
    mix.write_text("\n".join([*content, f"data: {{batch_size: 8, sources: {{{texts}, {pictures}}}}}"]))
    capsys.readouterr()
    assert fit(mix, "mix", *plain, "--init_from", str(config.parent / "first/last.ckpt"), *STEP) == 0
    line = next(line for line in capsys.readouterr().err.splitlines() if "starting with" in line)
    assert line.endswith("text is new; image is new; patches of 12 bytes are new")
    rows = list(csv.DictReader((config.parent / "mix/logs/version_0/metrics.csv").read_text().splitlines()))
    # The texts cost what they did but for what is new, and far less than a guess.
    [text] = [float(row["val/bpb/text"]) for row in rows if row["val/bpb"]]
    assert text < measured(config, "first") + 0.3
    # And the mix gives all that it has to another run.
    assert fit(mix, "again", *plain, "--init_from", str(config.parent / "mix/last.ckpt"), *STEP) == 0
    assert measured(mix, "again") == pytest.approx(measured(mix, "mix"), abs=1e-4)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--model.net.global_stack.dim", "48"], "model.net.global_stack.dim is 24 there, and here 48"),
        (["--model.net.local_start", "byte"], "model.net.local_start is 'learned' there, and here 'byte'"),
        (["--model.net.block.activation", "relu2"], "model.net.block.activation is 'relu' there, and here 'relu2'"),
        (["--model.net.neighbourhood", "null"], "has neighbourhood.groups.weight, and model.net of this run has none"),
        (["--model.net.global_stack", "null"], "model.net.global_stack.dim is 24 there, and here None"),
        (["--model.net.patch_size", "8"], "has patches of 4 bytes, and this run of 8"),
        (["--model.net", "TransformerConfig"], "is a megabyte, and model.net of this run a transformer"),
        (["--init_from", "missing.ckpt"], "missing.ckpt: no such file"),
    ],
)
def test_a_model_that_does_not_fit_is_refused(config, options, expected, save_checkpoint, tmp_path, capsys):
    first = tmp_path / "first/last.ckpt"
    if not first.exists():
        assert fit(config, "first", *STEP) == 0
    capsys.readouterr()
    refuse(capsys, fit(config, "second", "--init_from", str(first), *options, *STEP), expected)
    assert not (tmp_path / "second/last.ckpt").exists()
