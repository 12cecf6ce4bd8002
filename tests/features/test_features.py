"""Features of files, what they say of classes, and what goes together in bits."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from data_adapters import ByteStream, ImageAdapter, TextAdapter
from megabyte_mm import load_model
from megabyte_mm.checkpoint import Bundle, Modality
from megabyte_mm.cli.main import main
from megabyte_mm.features import embed, embed_streams
from megabyte_mm.features.head import HeadSettings, train_classifier
from megabyte_mm.features.probe import linear_accuracy, neighbour_accuracies, principal_components
from megabyte_mm.models import Megabyte, MegabyteConfig, StackConfig, Transformer, TransformerConfig, global_states

TEXTS = ["a text of several windows, read one after the other", "short", "exactly 24 bytes of text", "x"]


def refuse(capsys, arguments, message):
    capsys.readouterr()
    assert main(arguments) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


@pytest.fixture
def text_model(save_checkpoint) -> str:
    return str(save_checkpoint(TextAdapter(), window=24))


def test_a_state_depends_on_the_patches_up_to_its_own(text_model):
    model = load_model(text_model).model
    assert isinstance(model, Megabyte)
    assert model.config.global_stack is not None
    ids = torch.randint(0, 256, (1, 20), generator=torch.Generator().manual_seed(0))
    before = global_states(model, ids)
    assert len(before) == model.config.global_stack.layers + 2
    assert all(state.shape == (1, 5, 16) for state in before)
    for patch in range(5):
        changed = ids.clone()
        changed[0, 4 * patch] ^= 1
        for old, new in zip(before, global_states(model, changed), strict=True):
            assert torch.equal(old[:, :patch], new[:, :patch])
            assert not torch.equal(old[:, patch], new[:, patch])
    # The last is what predicts the patches that follow, and a row that fills the model has no state of its last patch.
    full = torch.cat([ids, ids[:, :4]], dim=1)
    states = global_states(model, full)
    assert states[-1].shape == (1, 5, 16)
    output = model.global_output(full, torch.zeros(1, dtype=torch.long))
    assert output is not None
    assert torch.allclose(states[-1], output[:, 1:], atol=1e-5)
    assert torch.allclose(states[-1], before[-1], atol=1e-5)


def test_features_of_a_file_do_not_depend_on_the_others(text_model, tmp_path):
    bundle, files = load_model(text_model), []
    for number, text in enumerate(TEXTS):
        files.append(tmp_path / f"{number}.txt")
        files[-1].write_text(text)
    together = embed(bundle, files, pooling="patches", batch_size=3)
    for file, states in zip(files, together, strict=True):
        [alone] = embed(bundle, [file], pooling="patches", batch_size=1)
        assert states.shape == alone.shape
        np.testing.assert_allclose(states, alone, atol=1e-5)
    # Windows of 24 bytes: of the six patches of a full one, the last is never read.
    assert [len(states) for states in together] == [5 + 5 + 1, 2, 5, 1]
    for pooling, expected in (
        ("mean", lambda states: states.mean(axis=0)),
        ("max", lambda states: states.max(axis=0)),
        ("last", lambda states: states[-1]),
    ):
        for states, vector in zip(together, embed(bundle, files, pooling=pooling), strict=True):
            np.testing.assert_allclose(vector, expected(states), atol=1e-5)
    # Sixteen sections of eleven states, the first and the last of one.
    [sections] = embed(bundle, files[:1])
    np.testing.assert_allclose(sections[:16], together[0][0], atol=1e-5)
    np.testing.assert_allclose(sections[16:32], together[0][:2].mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(sections[-16:], together[0][10], atol=1e-5)
    assert all(len(vector) == 256 for vector in embed(bundle, files))

    [bytes_of] = embed_streams(bundle, [ByteStream(np.frombuffer(b"abc", np.uint8), {})], layer="bytes")
    assert bytes_of.tolist() == [97, 98, 99]
    with pytest.raises(ValueError, match="layer 7: the global model of this checkpoint has layers 0 to 1"):
        embed(bundle, files, layer=7)
    with pytest.raises(ValueError, match="pooling median: known are sections, squares, mean"):
        embed(bundle, files, pooling="median")
    with pytest.raises(ValueError, match="pooling squares: of pictures alone, and this model reads text"):
        embed(bundle, files, pooling="squares")


@pytest.mark.parametrize(("scan", "patch_size"), [("patch", 12), ("raster", 24)])
def test_squares_are_the_means_of_parts_of_a_picture(scan, patch_size, tmp_path):
    """Of 8 x 8 pixels: patches of 2 x 2 are its squares; in a raster scan a square is a part of two patches."""
    adapter = ImageAdapter(size=(8, 8), scan=scan, patch=2)
    stack = StackConfig(dim=48, layers=1, heads=2)
    model = MegabyteConfig(patch_size, 192, stack, StackConfig(dim=8, layers=1, heads=2)).build().eval()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)).save(tmp_path / "a.png")
    bundle = Bundle(model, {"": Modality(adapter, True)}, ("none",), 192)
    [states_KD], [squares] = (embed(bundle, [tmp_path / "a.png"], pooling=name) for name in ("patches", "squares"))
    known = np.concatenate([states_KD, states_KD[-1:]])  # the last patch of a full window has none
    expected = known if scan == "patch" else known.reshape(4, 2, -1).mean(axis=1).repeat(4, axis=0)
    np.testing.assert_allclose(squares.reshape(16, -1), expected, atol=1e-5)


@pytest.mark.parametrize("pooling", ["mean", "patches"])
def test_a_table_holds_the_same_features(text_model, tmp_path, pooling):
    import pyarrow.parquet

    for number, text in enumerate(TEXTS):
        (tmp_path / "texts" / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
        (tmp_path / "texts" / "ab"[number % 2] / f"{number}.txt").write_text(text)
    for name in ("f.npz", "f.parquet"):
        command = ["embed", text_model, str(tmp_path / "texts"), "--pooling", pooling, "--out", str(tmp_path / name)]
        assert main(command) == 0
    table = pyarrow.parquet.read_table(tmp_path / "f.parquet").to_pydict()
    with np.load(tmp_path / "f.npz") as arrays:
        counts = arrays["counts"] if pooling == "patches" else np.ones(len(TEXTS), int)
        np.testing.assert_array_equal(np.array(table["vector"], np.float32), arrays["vectors"])
        assert table["path"] == np.repeat(arrays["paths"], counts).tolist()
        assert table["class"] == np.repeat(arrays["classes"], counts).tolist()
        assert table["patch"] == [patch for count in counts for patch in range(count)]


def test_a_model_without_patches_has_no_features():
    model = Transformer(TransformerConfig(max_len=8))
    with pytest.raises(ValueError, match="this model has no global model"):
        global_states(model, torch.zeros(1, 8, dtype=torch.long))


def clusters(rng, count):
    """Points around three corners, in 8 dimensions, two of them constant, with a corner's scale of its own."""
    labels = rng.integers(0, 3, count)
    points = rng.normal(size=(count, 8)) * [1, 1, 1, 1, 1, 1, 0, 0] + 6 * np.eye(3, 8)[labels]
    return (points * [1, 100, 1, 1, 1, 1, 1, 1]).astype(np.float32), labels


def test_probes_find_classes_that_are_there_and_no_others():
    rng = np.random.default_rng(0)
    train, labels = clusters(rng, 200)
    val, wanted = clusters(rng, 100)
    nearest = neighbour_accuracies(train, labels, val, wanted)
    assert [accuracy.name for accuracy in nearest] == ["1 nearest", "5 nearest", "20 nearest"]
    assert all(accuracy.share > 0.97 for accuracy in [*nearest, linear_accuracy(train, labels, val, wanted)])
    guess = linear_accuracy(train, rng.permutation(labels), val, wanted)
    assert guess.share < 0.55
    assert guess.error == pytest.approx(math.sqrt(guess.share * (1 - guess.share) / 100))
    # Of the three directions that differ, the large one first.
    assert abs(np.corrcoef(principal_components(val)[:, 0], val[:, 1])[0, 1]) > 0.99


@pytest.fixture
def pictures(tmp_path) -> Path:
    """Dark and bright pictures in class folders, with their words beside."""
    rng = np.random.default_rng(0)
    for i in range(72):
        word, low = ("dark", 20) if i % 2 else ("bright", 220)
        folder = tmp_path / "pictures" / ("val" if i < 8 else "train") / word
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(low, low + 12, (4, 4), dtype=np.uint8)).save(folder / f"{i}.png")
        (folder / f"{i}.txt").write_text(word)
    return tmp_path / "pictures"


def config(tmp_path: Path, data: str, patch: str = "") -> str:
    path = tmp_path / "config.yaml"
    path.write_text(
        f"""
trainer: {{default_root_dir: {tmp_path / "run"}, max_steps: 160, val_check_interval: 160, accelerator: cpu, devices: 1,
  precision: 32-true, check_val_every_n_epoch: null}}
data: {{path: {tmp_path / "pictures"}, batch_size: 8, {data}}}
samples: {{count: 1}}
model:
  net: {{{patch} global_stack: {{dim: 24, layers: 2, heads: 2}}, local_stack: {{dim: 16, layers: 1, heads: 2}},
    init_std: 0.1, embedding_scale: 5.0, patch_scale: 10.0, block: {{activation: relu2}}}}
  optimizer: {{lr: 0.01, warmup_steps: 10}}
"""
    )
    return str(path)


IMAGE = "{class_path: data_adapters.ImageAdapter, init_args: {mode: L, size: [4, 4], patch: 2}}"


def test_features_recognise_classes_and_classes_files(pictures, tmp_path, capsys):
    assert main(["fit", "--config", config(tmp_path, f"adapter: {IMAGE}, classes: true")]) == 0
    checkpoint = str(tmp_path / "run/last.ckpt")
    for split in ("train", "val"):
        out = str(tmp_path / f"{split}.npz")
        assert main(["embed", checkpoint, str(pictures / split), "--out", out]) == 0
    with np.load(tmp_path / "val.npz") as arrays:
        assert arrays["vectors"].shape == (8, 16 * 24)
        assert {Path(path).parent.name for path in arrays["paths"]} == set(arrays["classes"]) == {"dark", "bright"}
    capsys.readouterr()
    probe = ["probe", str(tmp_path / "train.npz"), str(tmp_path / "val.npz")]
    assert main([*probe, "--map", str(tmp_path / "map.png")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["1 nearest", "5 nearest", "20 nearest", "linear probe"]

    assert all("100.0 %" in line for line in lines)
    with Image.open(tmp_path / "map.png") as picture:
        assert picture.size == (1050, 900)

    bits = tmp_path / "bits.json"
    assert main(["classify", checkpoint, str(pictures / "val"), "--json", str(bits)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "8 of 8 right (100.0 %)"
    costs = json.loads(bits.read_text())["bits"]
    assert main(["score", checkpoint, str(pictures / "val"), "--json", str(tmp_path / "score.json")]) == 0
    for file in json.loads((tmp_path / "score.json").read_text())["files"]:
        word = Path(file["path"]).parent.name
        assert costs[file["path"]][word] == pytest.approx(file["nats"]["plain"] / math.log(2), rel=1e-5)

    logs, before = tmp_path / "logs.json", Path(checkpoint).read_bytes()
    head = ["classify", checkpoint, str(pictures / "val"), "--head", str(pictures / "train"), "--epochs", "1"]
    assert main([*head, "--json", str(logs)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "8 of 8 right (100.0 %)"
    of_files = json.loads(logs.read_text())["log-probabilities"].values()
    assert all(sum(map(math.exp, of_file.values())) == pytest.approx(1, rel=1e-4) for of_file in of_files)
    assert Path(checkpoint).read_bytes() == before

    one = str(next((pictures / "val/dark").glob("*.png")))
    capsys.readouterr()
    assert main(["search", checkpoint, one, str(pictures / "train"), "--count", "8"]) == 0
    assert all(
        line.split()[1].startswith(str(pictures / "train/dark")) for line in capsys.readouterr().out.splitlines()
    )

    refuse(capsys, ["classify", checkpoint, one, "--candidates", "dark", "cat"], "--candidates cat: unknown to this")
    refuse(capsys, ["search", checkpoint, "a cat", str(pictures)], "a cat: no such file, and this model has not")
    refuse(capsys, ["embed", checkpoint, one, "--out", "a.txt"], "--out a.txt: the name must end in .npz or .parquet")
    refuse(capsys, ["embed", checkpoint, one, "--out", str(tmp_path / "val.npz")], "exists already")
    (pictures / "val/dark/broken.png").write_bytes(b"no picture")
    broken = ["embed", checkpoint, str(pictures / "val"), "--out", str(tmp_path / "val.npz"), "--overwrite"]
    refuse(capsys, broken, "1 files could not be read")
    refuse(capsys, ["probe", str(bits), str(bits)], "not a file of megabyte-mm embed")
    np.savez(tmp_path / "wide.npz", vectors=np.zeros((2, 3), np.float32), classes=["dark", "bright"])
    refuse(capsys, [*probe[:2], str(tmp_path / "wide.npz")], "of another layer or model")
    np.savez(tmp_path / "flat.npz", vectors=np.zeros((2, 384), np.float32), classes=["dark", ""])
    refuse(capsys, [*probe[:2], str(tmp_path / "flat.npz")], "some of its files lie in no class folder")


@pytest.mark.parametrize("order", ["[image, text]", "[text, image]"])
def test_words_find_pictures_and_pictures_their_words(order, pictures, tmp_path, capsys):
    data = f"parts: [{order}], drop_part: 0.2, part_weights: [0, 1], sources: {{text: {{patch_size: 4}}, "
    assert main(["fit", "--config", config(tmp_path, f"{data} image: {{adapter: {IMAGE}}}}}")]) == 0
    checkpoint, val = str(tmp_path / "run/last.ckpt"), str(pictures / "val")
    capsys.readouterr()
    assert main(["classify", checkpoint, val, "--candidates", "dark", "bright"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "8 of 8 right (100.0 %)"
    for word in ("dark", "bright"):
        assert main(["search", checkpoint, word, val, "--count", "4"]) == 0
        found = [line.split()[-1] for line in capsys.readouterr().out.splitlines()]
        assert [Path(file).parent.name for file in found] == [word] * 4
    refuse(capsys, ["classify", checkpoint, val], "--candidates: give the texts to choose from")
    refuse(capsys, ["classify", checkpoint, val, "--candidates", "dark", "b" * 99], "the text has 99 bytes, and this")


def test_several_models_add_up_their_bits(pictures, tmp_path, capsys):
    sources = f"{{text: {{patch_size: 4}}, image: {{adapter: {IMAGE}}}}}"
    steps = ["--trainer.max_steps", "2", "--trainer.val_check_interval", "2"]
    checkpoints = []
    for order in ("image, text", "text, image"):
        settings = config(tmp_path, f"parts: [[{order}]], part_weights: [0, 1], sources: {sources}")
        root = tmp_path / order[:1]
        assert main(["fit", "--config", settings, *steps, "--trainer.default_root_dir", str(root)]) == 0
        checkpoints.append(str(root / "last.ckpt"))
    for file in (pictures / "val").rglob("*.png"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
        (tmp_path / file.with_suffix(".txt").name).write_text(file.parent.name + "\n")
    files = [str(path) for path in sorted(tmp_path.glob("*.png"))]
    capsys.readouterr()

    def costs(*options):
        json_file = tmp_path / "bits.json"
        json_file.unlink(missing_ok=True)
        command = ["classify", options[0], *files, "--candidates", "dark", "bright", *options[1:]]
        assert main([*command, "--json", str(json_file)]) == 0
        assert " of 8 right (" in capsys.readouterr().out.splitlines()[-1]  # by the texts beside the files
        return {path: list(bits.values()) for path, bits in json.loads(json_file.read_text())["bits"].items()}

    of_text, of_image = (costs(checkpoint) for checkpoint in checkpoints)
    both = costs(checkpoints[0], "--also", checkpoints[1], "--weights", "1", "0.25")
    for path, bits in both.items():
        wanted = [a + 0.25 * b for a, b in zip(of_text[path], of_image[path], strict=True)]
        assert bits == pytest.approx(wanted, rel=1e-6)
    also = ["classify", *checkpoints[:1], files[0], "--candidates", "dark", "bright", "--also", checkpoints[1]]
    refuse(capsys, [*also, "--weights", "1"], "--weights: 1 for 2 models; give one for each")
    refuse(capsys, [*also, "--weights", "1", "-1"], "--weights 1.0 -1.0: they must be numbers from 0 up")
    refuse(capsys, [*also[:3], *also[-2:], "--head", str(pictures)], "--also and --head: give one of them")


def test_pictures_behind_words_alone_are_not_compared(pictures, tmp_path, capsys):
    data = "parts: [[text, image]], sources: {text: {patch_size: 4}, image: {adapter: " + IMAGE + "}}"
    steps = ["--trainer.max_steps", "1", "--trainer.val_check_interval", "1"]
    assert main(["fit", "--config", config(tmp_path, data), *steps]) == 0
    search = ["search", str(tmp_path / "run/last.ckpt"), "dark", str(pictures / "val")]
    refuse(capsys, search, "does not compare files and texts: train with --data.parts '[[image, text]]'")


def test_files_of_different_lengths_have_no_common_bytes(text_model, tmp_path, capsys):
    for text in TEXTS[:2]:
        (tmp_path / f"{len(text)}.txt").write_text(text)
    command = ["embed", text_model, *map(str, tmp_path.glob("*.txt")), "--out", str(tmp_path / "o.npz")]
    refuse(capsys, [*command, "--layer", "bytes"], "--layer bytes: the files have different lengths")
    assert not (tmp_path / "o.npz").exists()
    refuse(capsys, ["classify", text_model, str(tmp_path)], "this model was trained without classes")


def test_pictures_have_the_same_features_as_their_bytes(save_checkpoint, tmp_path):
    checkpoint = save_checkpoint(ImageAdapter("L", (8, 8), patch=2), window=64)
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert main(["embed", str(checkpoint), str(tmp_path), "--out", str(tmp_path / "a.npz"), "--layer", "bytes"]) == 0
    with np.load(tmp_path / "a.npz") as arrays:
        assert sorted(arrays["vectors"][0].tolist()) == sorted(pixels.flatten().tolist())


def test_a_head_reads_files_window_by_window_and_not_their_padding(text_model, tmp_path):
    bundle = load_model(text_model)
    lengths = (5, 24, 30, 61, 8, 47)
    streams = [np.frombuffer((letter * length).encode(), np.uint8) for length in lengths for letter in "ab"]
    labels = np.array([0, 1] * len(lengths))
    classifier = train_classifier(bundle, streams, labels, HeadSettings())
    logs = classifier.log_probabilities(streams)
    assert (logs.argmax(axis=1) == labels).all()
    alone = np.concatenate([classifier.log_probabilities([stream]) for stream in streams])
    np.testing.assert_allclose(alone, logs, atol=1e-4)


def test_a_head_begins_at_zero_and_then_changes_the_model_the_same_way_each_time(text_model):
    streams = [np.frombuffer((letter * 24).encode(), np.uint8) for letter in "ab"]
    labels = np.array([0, 1])
    unmoved = train_classifier(load_model(text_model), streams, labels, HeadSettings(epochs=1, lr=0.0))
    np.testing.assert_allclose(unmoved.log_probabilities(streams), math.log(0.5), rtol=1e-6)
    before, logs = load_model(text_model).model.state_dict(), []
    for seed in (0, 0, 1):
        bundle = load_model(text_model)
        classifier = train_classifier(bundle, streams, labels, HeadSettings(epochs=4, seed=seed))
        logs.append(classifier.log_probabilities(streams))
        after = bundle.model.state_dict()
        assert not any(
            torch.equal(before[name], after[name]) for name in before if name.startswith("global_stack.blocks")
        )
    np.testing.assert_array_equal(logs[0], logs[1])
    assert not np.array_equal(logs[0], logs[2])


def test_a_head_that_cannot_be_trained_is_refused(pictures, text_model, tmp_path, capsys, save_checkpoint):
    checkpoint = str(save_checkpoint(ImageAdapter("L", (4, 4), patch=2), window=16))
    one_class = sorted((pictures / "train").iterdir())[0]
    refuse(capsys, ["classify", checkpoint, str(pictures), "--head", str(one_class)], "must lie in two class folders")
    arguments = ["classify", checkpoint, str(pictures), "--head", str(pictures), "--candidates", "a", "b"]
    refuse(capsys, arguments, "--candidates and --head: give one of them")
    refuse(capsys, [*arguments[:5], "--epochs", "0"], "--epochs is 0; it must be at least 1")
