"""Records of several parts, from a folder to what follows a caption or a picture."""

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from megabyte_mm import load_model
from megabyte_mm.cli.main import main
from megabyte_mm.generation import RecordRequest, SamplingParams, complete_records, convert, find_order
from megabyte_mm.generation.engine import generate_rows
from tests.training.conftest import same, weights

WORDS = ("dark", "bright")


@pytest.fixture
def pairs(tmp_path) -> Path:
    """Dark and bright pictures with their words."""
    rng = np.random.default_rng(0)
    for i in range(12):
        folder = tmp_path / "pairs" / ("val" if i < 4 else "train")
        folder.mkdir(parents=True, exist_ok=True)
        low = 20 + 200 * (i % 2)
        Image.fromarray(rng.integers(low, low + 12, (4, 4, 3), dtype=np.uint8)).save(folder / f"{i}.png")
        (folder / f"{i}.txt").write_text(WORDS[i % 2])
    return tmp_path / "pairs"


@pytest.fixture
def config(tmp_path, pairs) -> Path:
    path = tmp_path / "pairs.yaml"
    net = (
        "{global_stack: {dim: 24, layers: 2, heads: 2}, local_stack: {dim: 16, layers: 1, heads: 2}, init_std: 0.1, "
        "embedding_scale: 5.0, patch_scale: 10.0, block: {activation: relu2}}"
    )
    path.write_text(
        f"""
trainer: {{default_root_dir: {tmp_path / "run"}, max_steps: 240, val_check_interval: 240, accelerator: cpu, devices: 1,
  precision: 32-true, check_val_every_n_epoch: null}}
data:
  path: {pairs}
  parts: [[text, image], [image, text]]
  drop_part: 0.2
  part_weights: [0.5, 1]
  sources:
    text: {{patch_size: 4}}
    image: {{adapter: {{class_path: data_adapters.ImageAdapter, init_args: {{size: [4, 4], patch: 2}}}}}}
  batch_size: 8
samples: {{count: 1}}
model:
  net: {net}
  optimizer: {{lr: 0.01, warmup_steps: 10}}
"""
    )
    return path


def refuse(capsys, arguments, message):
    capsys.readouterr()
    assert main(arguments) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_losses_are_those_of_the_parts_with_weight(config, tmp_path, capsys):
    """An untrained model has the nats of a guess for each symbol that counts; words that were left out would have 0."""
    data = ["--data.parts", "[[text, image]]", "--data.drop_part", "0", "--data.part_weights", "[0, 1]"]
    steps = ["--trainer.max_steps", "1", "--trainer.log_every_n_steps", "1", "--trainer.val_check_interval", "1"]
    assert main(["fit", "--config", str(config), *data, *steps]) == 0
    rows = list(csv.DictReader((tmp_path / "run/logs/version_0/metrics.csv").read_text(encoding="utf-8").splitlines()))
    (loss,) = [float(row["train/loss"]) for row in rows if row["train/loss"]]
    assert loss == pytest.approx(math.log(257), rel=0.04)
    (measured,) = [row for row in rows if row["val/bpb"]]
    assert float(measured["val/bpb"]) == pytest.approx(math.log2(257), rel=0.04)
    assert measured["val/bpb/text+image/image"] == measured["val/bpb"]
    assert "val/bpb/text+image/text" not in measured
    capsys.readouterr()
    assert main(["validate", "--config", str(config), *data, "--ckpt_path", str(tmp_path / "run/last.ckpt")]) == 0
    assert measured["val/bpb"][:8] in capsys.readouterr().out


def test_a_part_of_weight_0_is_read_and_not_generated(config, pairs, tmp_path, capsys):
    data = ["--data.parts", "[[text, image]]", "--data.drop_part", "0.1", "--data.part_weights", "[0, 1]"]
    assert main(["fit", "--config", str(config), *data, "--trainer.max_steps=1", "--trainer.val_check_interval=1"]) == 0
    checkpoint, shared, out = str(tmp_path / "run/last.ckpt"), tmp_path / "shared", ["--out", str(tmp_path / "out")]
    assert load_model(checkpoint).unlearned == {"text+image": ("text",)}
    whole = ["--condition", "text+image"]
    refuse(capsys, ["generate", checkpoint, *out, *whole], "this model has not learned the text of text+image")
    half = ["--text", "dark", "--keep", "0.5"]
    refuse(capsys, ["generate", checkpoint, *out, *whole, *half], "this model has not learned the text of text+image")
    assert main(["generate", checkpoint, *out, "--text", "dark", "--num_samples", "1"]) == 0
    assert main(["generate", checkpoint, *out, "--condition", "image", "--num_samples", "1"]) == 0

    assert main(["export", checkpoint, str(shared)]) == 0
    assert load_model(shared).unlearned == {"text+image": ("text",)}
    assert "--condition text+image --text a_text" in (shared / "README.md").read_text()
    capsys.readouterr()
    assert main(["score", checkpoint, str(pairs / "val")]) == 0
    _, text, image = (line.split() for line in capsys.readouterr().out.splitlines())
    assert text == ["text+image/text", "4", "20", "not", "learned"]
    assert float(image[3]) == pytest.approx(math.log2(257), rel=0.04)


def test_score_reports_records_without_figures(config, pairs, tmp_path, capsys):
    assert main(["fit", "--config", str(config), "--trainer.max_steps=1", "--trainer.val_check_interval=1"]) == 0
    (pairs / "val/0.png").write_bytes(b"no picture")
    (pairs / "val/1.txt").unlink()
    json_file = tmp_path / "scores.json"
    score = ["score", str(tmp_path / "run/last.ckpt"), str(pairs / "val"), "--json", str(json_file)]
    refuse(capsys, score, "2 of 4 records of text+image could not be scored: 0.png: ")
    content = json.loads(json_file.read_text())
    assert list(content["orders"]["text+image"]) == ["2", "3"]
    assert [entry["path"] for entry in content["skipped"]["text+image"]] == ["0.png", "1"]
    assert content["skipped"]["text+image"][1]["reason"] == "has no text"


def test_with_other_parts_that_count_best_is_compared_anew(config, tmp_path, capsys):
    orders = ["--data.parts", "[[text, image]]", "--data.drop_part", "0", "--trainer.val_check_interval", "1"]
    assert (
        main(["fit", "--config", str(config), *orders, "--data.part_weights", "[1, 1]", "--trainer.max_steps", "1"])
        == 0
    )
    best = tmp_path / "run/best.ckpt"
    longer = ["--ckpt_path", "last", "--trainer.max_steps", "2", "--model.optimizer.lr", "1e-9"]
    state = torch.load(best, weights_only=True)["callbacks"]["BestCheckpoint"]
    assert state["parts"] == ["text+image/image", "text+image/text"]
    capsys.readouterr()
    assert main(["fit", "--config", str(config), *orders, "--data.part_weights", "[0, 1]", *longer]) == 0
    assert "data.part_weights have changed: the next validation replaces best.ckpt" in capsys.readouterr().err
    assert torch.load(best, weights_only=True)["global_step"] == 2


def test_words_make_pictures_and_pictures_make_words(config, pairs, tmp_path, capsys, monkeypatch):
    assert main(["fit", "--config", str(config)]) == 0
    log, checkpoint = tmp_path / "run/logs/version_0", str(tmp_path / "run/last.ckpt")
    rows = list(csv.DictReader((log / "metrics.csv").read_text(encoding="utf-8").splitlines()))
    measured = [{key: float(value) for key, value in row.items() if value} for row in rows if row["val/bpb"]][-1]
    names = ["text+image/text", "text+image/image", "image", "image+text/image", "image+text/text", "text"]
    assert {f"val/bpb/{name}" for name in names} <= set(measured)
    assert load_model(checkpoint).provenance.val_share is None  # records are not split by the names of files
    # Both directions are learned: the word costs little behind its picture, and a guess in front of it.
    assert measured["val/bpb/text+image/text"] > measured["val/bpb/image+text/text"] + 0.03
    samples = log / "samples/step-0000240"
    assert (samples / "text+image/val-00-000.png").is_file()
    assert (samples / "image+text/val-00-000.txt").is_file()
    assert (samples / "image/val-00-000.png").is_file()

    out = ["--out", str(tmp_path / "out"), "--num_samples", "1"]
    assert main(["generate", checkpoint, *out, "--text", *WORDS, "--guidance", "2", "--temperature", "0.5"]) == 0
    for word, is_dark in zip(WORDS, (True, False), strict=True):
        with Image.open(tmp_path / f"out/{word}-000.png") as picture:
            assert bool(np.asarray(picture).mean() < 128) is is_dark
    capsys.readouterr()
    files = [str(pairs / f"val/{i}.png") for i in range(4)]
    assert main(["generate", checkpoint, *out, "--prefix", *files, "--temperature", "0"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line.rpartition(": ")[2] for line in printed] == [WORDS[i % 2] for i in range(4)]
    # All of a word and half of a picture.
    files = [str(pairs / "val/0.txt"), str(pairs / "val/0.png")]
    assert main(["generate", checkpoint, *out, "--prefix", *files, "--overwrite", "--condition", "text+image"]) == 0
    with Image.open(tmp_path / "out/0-000.png") as picture, Image.open(pairs / "val/0.png") as original:
        assert np.array_equal(np.asarray(picture)[:2], np.asarray(original)[:2])
    assert main(["generate", checkpoint, "--out", str(tmp_path / "both"), "--condition", "text+image"]) == 0
    made = sorted(path.name for path in (tmp_path / "both").iterdir())
    assert made == ["contact_sheet.png", *(f"sample-{i:03d}.{end}" for i in range(4) for end in ("png", "txt"))]

    scores, heat = tmp_path / "scores.json", ["--heatmap", str(tmp_path / "heat")]
    assert main(["score", checkpoint, str(pairs / "val"), "--json", str(scores), *heat]) == 0
    orders = json.loads(scores.read_text())["orders"]
    for order, part in (("text+image", "image"), ("image+text", "text")):
        costs = [record[part] for record in orders[order].values()]
        bits = sum(cost["nats"] for cost in costs) / sum(cost["bytes"] for cost in costs) / math.log(2)
        assert measured[f"val/bpb/{order}/{part}"] == pytest.approx(bits, rel=1e-4)

    names = sorted(path.name for path in (tmp_path / "heat").glob("0.*"))
    texts = [f"0.{order}.text.{end}" for order in ("image+text", "text+image") for end in ("html", "png")]
    assert names == sorted([*texts, "0.image+text.image.png", "0.text+image.image.png"])
    refuse(capsys, ["score", checkpoint, str(pairs / "val"), *heat], "exists already; choose another --heatmap")

    refuse(capsys, ["generate", checkpoint, *out], "several kinds of records; choose one of text+image, image")
    refuse(capsys, ["generate", checkpoint, *out, "--text", "a", "--length", "3"], "--length: parts of records have")
    refuse(capsys, ["generate", checkpoint, *out, "--text", "a" * 99], "the text has 99 bytes, and this model reads 8")
    two = ["--prefix", str(pairs / "val/0.png"), str(pairs / "val/1.png"), str(pairs / "val/0.txt")]
    refuse(capsys, ["generate", checkpoint, *out, *two], "2 of image, 1 of text; give as many files of each part")
    refuse(capsys, ["score", checkpoint, *files], "give one folder that holds them")

    shared = tmp_path / "shared"
    assert main(["export", checkpoint, str(shared)]) == 0
    assert "generate shared --out image+text --condition image+text" in (shared / "README.md").read_text()
    assert main(["generate", str(shared), "--text", "dark", "--out", str(tmp_path / "again")]) == 0
    assert main(["report", str(tmp_path / "run")]) == 0

    bundle = load_model(checkpoint)
    assert bundle.orders == (("text", "image"), ("text", "image"), ("image",), ("image", "text"), ("text",))
    [record] = convert(bundle, {"image": pairs / "val/1.png"}, count=1, temperature=0.0)
    assert (record.parts["text"].data.tobytes(), record.generated) == (b"bright", ("text",))


def test_a_run_on_records_resumes_exactly(config, tmp_path):
    root, run = tmp_path / "run", ["fit", "--config", str(config), "--samples.count=0"]
    half = "--trainer.val_check_interval=3"
    assert main([*run, half, "--trainer.max_steps=6"]) == 0
    final = weights(root / "last.ckpt")
    root.rename(tmp_path / "whole")
    assert main([*run, half, "--trainer.max_steps=3"]) == 0
    assert main([*run, half, "--trainer.max_steps=6", "--ckpt_path=last"]) == 0
    assert same(weights(root / "last.ckpt"), final)


def test_prepared_records_train_as_their_files(config, pairs, tmp_path):
    run = [
        "fit",
        "--config",
        str(config),
        "--samples.count=0",
        "--trainer.max_steps=3",
        "--trainer.val_check_interval=3",
    ]
    assert main([*run, f"--trainer.default_root_dir={tmp_path / 'files'}"]) == 0
    assert main(["prepare", str(pairs), "--config", str(config), "--out", str(tmp_path / "prepared")]) == 0
    assert main([*run, f"--data.path={tmp_path / 'prepared'}"]) == 0
    assert same(weights(tmp_path / "run/last.ckpt"), weights(tmp_path / "files/last.ckpt"))


def test_orders_seeds_and_interrupts_of_records(config, tmp_path, monkeypatch):
    assert main(["fit", "--config", str(config), "--trainer.max_steps=1", "--trainer.val_check_interval=1"]) == 0
    checkpoint = str(tmp_path / "run/last.ckpt")
    bundle = load_model(checkpoint)
    # The whole order comes before the last part of others.
    assert find_order(bundle, [], "image") == ("image",)
    assert find_order(bundle, ["text"], "image") == find_order(bundle, ["text"]) == ("text", "image")
    assert find_order(bundle, ["image"], "text") == ("image", "text")
    with pytest.raises(ValueError, match="several kinds of records; choose one of text"):
        find_order(bundle, [])
    with pytest.raises(ValueError, match="there is no part in front of the image to follow"):
        complete_records(bundle, [RecordRequest(("image",), ())], SamplingParams(), guidance=2.0)
    with pytest.raises(ValueError, match="guidance is nan; it must be a number"):
        complete_records(bundle, [RecordRequest(("text", "image"), ())], SamplingParams(), guidance=float("nan"))

    seeds: list[tuple[int, ...]] = []

    def remember(decoder, prefixes, lengths, sampling, row_seeds, condition_B):
        seeds.append(tuple(row_seeds))
        if len(seeds) == 4:
            raise KeyboardInterrupt
        return generate_rows(decoder, prefixes, lengths, sampling, row_seeds, condition_B)

    monkeypatch.setattr("megabyte_mm.generation.records.generate_rows", remember)
    run = ["generate", checkpoint, "--condition", "text+image", "--num_samples", "2", "--batch_size", "1"]
    # A record is complete, the other has its text: then comes Ctrl-C.
    assert main([*run, "--out", str(tmp_path / "out")]) == 130
    assert len(set(seeds)) == 4
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == ["contact_sheet.png", "sample-000.png", "sample-000.txt"]


DAMAGED = [
    (lambda spec: spec["data"]["sources"]["text"].update(window=99), "window 99 of a source is not one of its model"),
    (lambda spec: spec["data"]["sources"]["text"].pop("window"), "window None of a source is not one of its model"),
    (lambda spec: spec["data"]["sources"]["text"].update(files=["x"]), "the files of a source are"),
    (lambda spec: spec["data"]["sources"].pop("image"), "its model reads more parts than its sources"),
    (lambda spec: spec["data"]["conditions"].reverse(), "are not its conditions"),
    (lambda spec: spec["data"].update(unlearned={"text+image": ["sound"]}), "its unlearned parts {'text"),
    (lambda spec: spec["model"]["config"].update(orders=[[0, 7]]), "orders must hold numbers of parts"),
    (lambda spec: spec["model"]["config"].update(parts=[]), "parts and orders come together"),
    (lambda spec: spec["model"]["config"]["parts"][0].update(patch_size=5), "must be a multiple of patch_size 5"),
    (lambda spec: spec["model"]["config"].update(max_len=99), "max_len is 99, but the parts make it 56"),
]


def test_a_spec_that_no_run_wrote_is_refused(config, tmp_path):
    assert main(["fit", "--config", str(config), "--trainer.max_steps=1", "--trainer.val_check_interval=1"]) == 0
    for change, message in DAMAGED:
        checkpoint = torch.load(tmp_path / "run/last.ckpt", weights_only=True)
        change(checkpoint["megabyte_mm"])
        torch.save(checkpoint, tmp_path / "damaged.ckpt")
        with pytest.raises(ValueError, match=message):
            load_model(tmp_path / "damaged.ckpt")


def test_guidance_mixes_the_logits_with_and_without_the_first_part(config, tmp_path):
    assert main(["fit", "--config", str(config), "--trainer.max_steps=2", "--trainer.val_check_interval=2"]) == 0
    bundle = load_model(tmp_path / "run/last.ckpt")
    from megabyte_mm.generation.guidance import GuidedDecoder

    words, pixels = torch.full((2, 8), 256), torch.randint(0, 256, (2, 48))
    words[:, :4] = torch.tensor([list(b"dark"), list(b"brig")])
    with torch.no_grad():
        given = bundle.model(torch.cat([words, pixels], dim=1), torch.tensor([1, 1]))[:, 8:]
        alone = bundle.model(pixels, torch.tensor([2, 2]))
    decoder = GuidedDecoder(bundle.model.decoder(4), 3.0, 8, 2)
    logits = [decoder.prefill_rows([torch.cat([words[0], pixels[0, :5]]), words[1]], torch.tensor([1, 1]))]
    expected = alone + 3.0 * (given - alone)
    torch.testing.assert_close(logits[0], torch.stack([expected[0, 5], expected[1, 0]]), atol=1e-4, rtol=1e-4)
    stepped = decoder.step(torch.stack([pixels[0, 5], pixels[1, 0]]))
    torch.testing.assert_close(stepped, torch.stack([expected[0, 6], expected[1, 1]]), atol=1e-4, rtol=1e-4)
    assert decoder.lengths == [14, 9]
    with pytest.raises(ValueError, match="guidance needs the whole first part"):
        decoder.prefill_rows([words[0, :3]])
