"""A run on sound whose checkpoint was written before the high bytes of samples were read with their sign."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from megabyte_mm import load_model
from megabyte_mm.checkpoint import SPEC_KEY
from megabyte_mm.cli.main import main
from megabyte_mm.models.neighbourhood import former_layouts
from tests.training.conftest import Fit
from tests.training.test_fit import logged

SOUND = ("--data.path=sounds", "--data.adapter=data_adapters.AudioAdapter", "--model.net.neighbourhood={rows: 16}")


@pytest.fixture
def former(fit: Fit, root: Path, tmp_path: Path) -> Path:
    """The last checkpoint of a run, as a former version wrote it."""
    for split in ("train", "val"):
        (tmp_path / "sounds" / split).mkdir(parents=True)
        samples = np.random.default_rng(len(split)).integers(-(2**15), 2**15, 400).astype(np.int16)
        soundfile.write(tmp_path / "sounds" / split / "a.wav", samples, 8000)
    assert fit(*SOUND) == 0
    path = root / "last.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    for layout in checkpoint[SPEC_KEY]["model"]["config"]["neighbourhood"]["layouts"]:
        for predictor in layout["predictors"]:
            del predictor["signed"]
    torch.save(checkpoint, path)
    return path


def test_it_is_measured_and_resumed_with_the_guesses_that_it_was_trained_with(fit, root, former, capfd):
    layouts = load_model(former).config.neighbourhood.layouts
    assert layouts == former_layouts(layouts)
    assert main(["score", str(former), "sounds/val", "--json", "scores.json"]) == 0
    [file] = json.loads(Path("scores.json").read_text(encoding="utf-8"))["files"]
    capfd.readouterr()
    assert fit(*SOUND, f"--ckpt_path={former}", command="validate") == 0
    assert f"{file['nats']['plain'] / file['bytes'] / math.log(2):.4f}" in capfd.readouterr().out
    assert fit(*SOUND, "--ckpt_path=last", "--trainer.max_steps=10") == 0
    assert logged(root, "step", 1)[-1] == 9
    assert load_model(former).config.neighbourhood.layouts == layouts


def test_layouts_of_other_data_are_refused(fit, former, capfd):
    assert fit(*SOUND, "--data.adapter.encoding=pcm16be", "--ckpt_path=last", "--trainer.max_steps=10") == 2
    assert "data.adapter.encoding is 'pcm16be', but 'pcm16' in the checkpoint" in capfd.readouterr().err
