"""One model of three modalities, from its config to a file of each."""

import csv
import json
import math
import signal
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from megabyte_mm import load_model
from megabyte_mm.cli.main import main
from tests.training.conftest import SMALL_NET, same, weights
from tests.training.resilience.test_interrupting import Events


@pytest.fixture
def media(tmp_path) -> Path:
    rng = np.random.default_rng(0)
    for i in range(6):
        folder = tmp_path / "media" / ("val" if i < 2 else "train")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)).save(folder / f"{i}.png")
        soundfile.write(folder / f"{i}.wav", rng.integers(-999, 999, 60 + i, dtype=np.int16), 8000)
        (folder / f"{i}.txt").write_bytes(bytes(97 + (i + j) % 26 for j in range(90 + i)))
    return tmp_path / "media"


@pytest.fixture(params=["one patch size", "patch sizes of their own"])
def config(request, tmp_path, media) -> Path:
    path = tmp_path / "mixed.yaml"
    audio, text = ("", "") if request.param == "one patch size" else (", patch_size: 8", ", patch_size: 6, window: 24")
    net = SMALL_NET.replace("patch_size: 4", "patch_size: null").replace("dim: 16", "dim: 24")
    path.write_text(
        f"""
trainer: {{default_root_dir: {tmp_path / "run"}, max_steps: 4, val_check_interval: 4, accelerator: cpu, devices: 1,
  precision: 32-true}}
data:
  path: {media}
  sources:
    image: {{adapter: {{class_path: data_adapters.ImageAdapter, init_args: {{size: [4, 4], patch: 2}}}}}}
    audio: {{adapter: {{class_path: data_adapters.AudioAdapter, init_args: {{rate: 8000, channels: 1}}}},
      weight: 2{audio}}}
    text: {{adapter: data_adapters.TextAdapter{text}}}
  batch_size: 3
samples: {{count: 1, length: 16}}
model:
  net: {net}
"""
    )
    return path


def refuse(capsys, arguments, message):
    capsys.readouterr()
    assert main(arguments) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert message in line


def test_one_model_learns_shows_measures_and_generates_three_modalities(config, media, tmp_path, capsys):
    assert main(["fit", "--config", str(config)]) == 0
    log = tmp_path / "run/logs/version_0"
    rows = list(csv.DictReader((log / "metrics.csv").read_text(encoding="utf-8").splitlines()))
    [measured] = [{key: float(value) for key, value in row.items() if value} for row in rows if row["val/bpb"]]
    samples = log / "samples/step-0000004"
    assert sorted(path.name for path in samples.iterdir()) == ["audio", "image", "text"]
    assert (samples / "audio/val-00-000.wav").is_file()
    with Image.open(samples / "image/val-00-000.png") as picture:
        assert picture.size == (4, 4)
    assert "val/bpb/audio" in capsys.readouterr().err

    checkpoint, scores = tmp_path / "run/best.ckpt", tmp_path / "scores.json"
    assert main(["score", str(checkpoint), str(media / "val"), "--json", str(scores)]) == 0
    figures = json.loads(scores.read_text(encoding="utf-8"))
    kinds = {"image": ".png", "audio": ".wav", "text": ".txt"}
    bits, size = 0.0, 0
    for name, suffix in kinds.items():
        files = [file for file in figures["files"] if file["path"].endswith(suffix)]
        assert len(files) == 2
        nats, count = sum(file["nats"]["plain"] for file in files), sum(file["bytes"] for file in files)
        assert measured[f"val/bpb/{name}"] == pytest.approx(nats / count / math.log(2), rel=1e-5)
        bits, size = bits + nats / math.log(2), size + count
    assert measured["val/bpb"] == pytest.approx(bits / size, rel=1e-5)

    for name, suffix in kinds.items():
        out = tmp_path / f"out-{name}"
        common = ["generate", str(checkpoint), "--out", str(out), "--num_samples", "1"]
        assert main([*common, "--condition", name, "--length", "18"]) == 0
        [file] = [path for path in out.iterdir() if path.name != "contact_sheet.png"]
        assert file.suffix == suffix
        assert main([*common, "--prefix", str(media / f"val/0{suffix}"), "--keep", "0.5", "--length", "6"]) == 0
        assert (out / f"0-000{suffix}").is_file()
    refuse(capsys, [*common, "--overwrite"], "several modalities; choose one with --condition: image, audio, text")
    refuse(capsys, [*common, "--condition", "dog"], "dog: unknown to this model; it knows image, audio, text")
    two = ["--prefix", str(media / "val/0.png"), str(media / "val/0.wav")]
    refuse(capsys, [*common, *two], "files are of several modalities: image reads")
    refuse(capsys, ["score", str(checkpoint), str(checkpoint)], "none reads it")

    bundle = load_model(checkpoint)
    assert list(bundle.modalities) == ["image", "audio", "text"]
    assert (bundle.for_modality("audio").adapter.name, bundle.for_modality("image").fixed_length) == ("audio", True)
    with pytest.raises(ValueError, match="this model has several modalities, image, audio, text"):
        _ = bundle.adapter
    with pytest.raises(ValueError, match="this model has no modality 'dog'"):
        bundle.for_modality("dog")


def test_a_mix_that_is_stopped_inside_an_epoch_goes_on_exactly(config, tmp_path, monkeypatch):
    root, events = tmp_path / "run", Events(monkeypatch)
    run = ["fit", "--config", str(config), "--samples.count=0", "--data.num_workers=1"]
    assert main(run) == 0
    seen, events.seen, final = events.of("train"), [], weights(root / "last.ckpt")
    root.rename(tmp_path / "whole")
    events.at = {("train", 1, 1): [signal.SIGTERM]}
    assert main(run) == 143
    assert not events.at
    assert main([*run, "--ckpt_path=last"]) == 0
    assert events.of("train") == seen
    assert same(weights(root / "last.ckpt"), final)
