"""`compress` and `decompress` from end to end, on untrained models."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from data_adapters import AudioAdapter, FileAdapter, ImageAdapter, TextAdapter
from megabyte_mm import generate, load_model
from megabyte_mm.checkpoint import SPEC_KEY
from megabyte_mm.cli.compress import compress
from megabyte_mm.cli.decompress import decompress
from megabyte_mm.cli.main import main
from megabyte_mm.compression.container import Container, unpack


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    """A folder of what people have: names, sizes and kinds of all sorts."""
    folder = tmp_path_factory.mktemp("media")
    draw = np.random.default_rng(0)
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "a.txt").write_bytes(b"to be or not to be, " * 9)
    (folder / "deep" / "a.txt").write_bytes("鸡蛋\r\n\0".encode() * 3)
    (folder / "deep" / "er" / "ä b.md").write_bytes(b"")
    (folder / "noise.zip").write_bytes(draw.integers(0, 256, 150, dtype=np.uint8).tobytes())
    (folder / "zeros").write_bytes(bytes(300))
    (folder / "deep" / ".hidden").write_bytes(b"?")
    if os.name == "posix":
        (folder / "back\\slash: \n.txt").write_bytes(b"a strange name")
    for name, size in {"square.png": (8, 8), "odd.png": (11, 5), "photo.jpg": (20, 9)}.items():
        pixels = draw.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
    soundfile.write(folder / "tone.wav", draw.integers(-900, 900, 70, dtype=np.int16), 8000)
    soundfile.write(folder / "two.flac", draw.integers(-900, 900, (40, 2), dtype=np.int16), 8000)
    return folder


def files(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in Path(folder).rglob("*") if p.is_file()}


ADAPTERS = {
    "text": (TextAdapter(), 24, 4),
    "image": (ImageAdapter(size=(8, 8)), 192, 48),
    "raster": (ImageAdapter(size=(4, 4), scan="raster", patch=2), 48, 12),
    "audio": (AudioAdapter(), 32, 4),
    "file": (FileAdapter(), 24, 4),
}


@pytest.mark.parametrize(
    ("modality", "archive", "backend", "precision", "batches"),
    [
        ("text", True, "auto", "float32", (7, 30)),
        ("image", False, "eager", "bfloat16", (30, 4)),
        ("raster", True, "auto", "int8", (9, 9)),
        ("audio", False, "auto", "bfloat16", (30, 1)),
        ("file", True, "eager", "int8", (1, 30)),
    ],
)
def test_everything_comes_back_through_every_model(
    media, save_checkpoint, tmp_path, modality, archive, backend, precision, batches
):
    model = str(save_checkpoint(*ADAPTERS[modality]))
    out, back = tmp_path / ("all.mbz" if archive else "small"), tmp_path / "back"
    compress(model, [str(media)], str(out), batch_size=batches[0], backend=backend, precision=precision)
    made = [str(out)] if archive else sorted(map(str, out.rglob("*.mbz")))
    assert len(made) == (1 if archive else len(files(media)))
    decompress(model, made, str(back), batch_size=batches[1])
    assert files(back) == files(media)


@pytest.fixture
def model(save_checkpoint):
    return str(save_checkpoint(TextAdapter(), window=24))


@pytest.fixture
def liked(model, tmp_path):
    """A file that its model predicts well: sampled from it, each window on its own."""
    nothing = torch.empty(30, 0, dtype=torch.long)
    generated = generate(load_model(model).model, nothing, length=24, temperature=0.5, allow_end=False)
    (tmp_path / "liked.txt").write_bytes(generated.to(torch.uint8).numpy().tobytes())
    return tmp_path / "liked.txt"


@pytest.fixture
def packed(liked, model, tmp_path):
    compress(model, [str(liked)], str(tmp_path / "all.mbz"))
    assert set(unpack((tmp_path / "all.mbz").read_bytes()).entries[0].kinds) == {"m"}
    return tmp_path / "all.mbz"


def failure(capsys, *arguments):
    """The one line on stderr of a command that fails."""
    assert main([*map(str, arguments)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if "error" in line] == [lines[-1]]
    return lines[-1]


def test_the_figures_say_what_the_files_take(media, model, tmp_path, capsys):
    out, message = tmp_path / "all.mbz", tmp_path / "message.json"
    compress(model, [str(media)], str(out), json=str(message))
    figures = json.loads(message.read_text())
    assert figures["written"] == out.stat().st_size
    assert {its["name"]: its["bytes"] for its in figures["files"]} == {n: len(d) for n, d in files(media).items()}
    for its in figures["files"]:
        assert its["model_bytes"] <= its["compressed"] <= its["bytes"]
        assert sum(its["blocks"].values()) <= -(-its["read"] // 24)
    assert f"{figures['written']:,}" in capsys.readouterr().out


def test_a_file_that_is_shorter_than_what_is_in_it_is_kept_itself(save_checkpoint, tmp_path):
    model = str(save_checkpoint(*ADAPTERS["image"]))
    smooth = np.tile(np.arange(32, dtype=np.uint8)[:, None, None], (1, 32, 3))
    Image.fromarray(smooth).save(tmp_path / "a.png")
    compress(model, [str(tmp_path / "a.png")], str(tmp_path / "a.mbz"))
    assert sum(unpack((tmp_path / "a.mbz").read_bytes()).entries[0].sizes) <= (tmp_path / "a.png").stat().st_size
    decompress(model, [str(tmp_path / "a.mbz")], str(tmp_path / "back"))
    assert (tmp_path / "back" / "a.png").read_bytes() == (tmp_path / "a.png").read_bytes()


@pytest.mark.skipif(os.name != "posix", reason="links and pipes as POSIX has them")
@pytest.mark.parametrize("make", [lambda p: p.symlink_to("nowhere"), lambda p: p.symlink_to("/"), os.mkfifo])
def test_nothing_in_a_folder_is_left_out_in_silence(model, tmp_path, capsys, make):
    (tmp_path / "some").mkdir()
    (tmp_path / "some" / "a.txt").write_text("a")
    make(tmp_path / "some" / "b")
    message = failure(capsys, "compress", model, tmp_path / "some", "--out", tmp_path / "all.mbz")
    assert "some/b: is a pipe" in message


def test_what_a_model_sees_as_bytes_is_refused(media, save_checkpoint, tmp_path, capsys):
    pictures = str(save_checkpoint(*ADAPTERS["image"]))
    compress(pictures, [str(media / "photo.jpg"), str(media / "odd.png")], str(tmp_path / "all.mbz"))
    assert "files, such as photo.jpg: stored as raw bytes" in capsys.readouterr().err


def test_other_weights_are_another_model(packed, model, tmp_path, capsys):
    checkpoint = torch.load(model, weights_only=True)
    weight = next(w for name, w in checkpoint["state_dict"].items() if name.startswith("model."))
    weight.view(-1)[0] += 1e-6
    torch.save(checkpoint, tmp_path / "other.ckpt")
    message = failure(capsys, "decompress", tmp_path / "other.ckpt", packed, "--out", tmp_path / "back")
    assert "compressed with another model" in message
    assert not (tmp_path / "back").exists()


def test_a_machine_of_other_numbers_is_refused(packed, model, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("megabyte_mm.compression.settings.numbers_fingerprint", lambda *_: "ffffffff")
    message = failure(capsys, "decompress", model, packed, "--out", tmp_path / "back")
    assert "computes other probabilities in their last bits" in message
    assert not (tmp_path / "back").exists()


def test_numbers_that_differ_later_give_an_error_and_no_wrong_byte(packed, model, tmp_path, capsys, monkeypatch):
    from megabyte_mm.compression import coding

    exact = coding.probabilities
    monkeypatch.setattr(coding, "probabilities", lambda logits: exact(logits.flip(1)))
    message = failure(capsys, "decompress", model, packed, "--out", tmp_path / "back")
    assert "does not match its checksum" in message or "the compressed data is damaged" in message
    assert not (tmp_path / "back").exists()


def test_a_damaged_container_is_refused_by_name(packed, model, tmp_path, capsys):
    content = bytearray(packed.read_bytes())
    content[-3] ^= 4
    packed.write_bytes(content)
    message = failure(capsys, "decompress", model, packed, "--out", tmp_path / "back")
    assert f"{packed}: damaged" in message
    assert not (tmp_path / "back").exists()


def test_a_file_named_as_a_folder_is_refused_before_anything_is_written(packed, model, tmp_path, capsys):
    found = unpack(packed.read_bytes())
    for names in (("a", "a/b"), ("a/b", "a")):
        entries = [replace(found.entries[0], name=name) for name in names]
        packed.write_bytes(Container(found.settings, entries, found.blocks * 2, found.extras * 2).pack())
        assert "collides with a folder" in failure(capsys, "decompress", model, packed, "--out", tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_what_no_disk_holds_is_refused_before_it_is_made(packed, model, tmp_path, capsys):
    changed(packed, size=2**60)
    message = failure(capsys, "decompress", model, packed, "--out", tmp_path / "back")
    assert "decompression needs 1,152,921,504,606,846,976 bytes" in message


def test_a_name_that_leads_out_of_the_folder_is_refused(packed, model, tmp_path, capsys):
    for name in ("../a.txt", "/tmp/a.txt", "deep/../../a.txt", "", ".."):
        changed(packed, name=name)
        message = failure(capsys, "decompress", model, packed, "--out", tmp_path / "back")
        assert "is outside --out" in message


def test_what_is_there_is_not_replaced_unless_asked(packed, liked, model, tmp_path, capsys):
    kept = packed.read_bytes()
    message = failure(capsys, "compress", model, liked, "--out", packed)
    assert "exists already" in message
    assert packed.read_bytes() == kept
    back = tmp_path / "back"
    back.mkdir()
    (back / "liked.txt").write_text("mine")
    assert "exists already" in failure(capsys, "decompress", model, packed, "--out", back)
    assert files(back) == {"liked.txt": b"mine"}
    assert main(["decompress", model, str(packed), "--out", str(back), "--overwrite"]) == 0
    assert (back / "liked.txt").read_bytes() == liked.read_bytes()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["nowhere"], "nowhere: no such file or folder"),
        (["{media}/a.txt", "{media}/deep/a.txt"], "would both be stored as a.txt"),
        (["{empty}"], "no file in it"),
        (["{media}/a.txt", "--batch_size", "0"], "batch_size"),
        (["{media}/a.txt", "--condition", "cat"], "trained without classes"),
        (["{media}/a.txt", "--json", "nowhere/a.json"], "--json nowhere/a.json: no file can be written there"),
    ],
)
def test_a_mistake_is_one_line(media, model, tmp_path, capsys, given, message):
    (tmp_path / "empty").mkdir()
    filled = [one.format(media=media, empty=tmp_path / "empty") for one in given]
    assert message in failure(capsys, "compress", model, *filled, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_name_that_grows_too_long_is_refused_before_the_coding(model, tmp_path, capsys):
    (tmp_path / ("a" * 252)).write_text("a")
    message = failure(capsys, "compress", model, tmp_path / ("a" * 252), "--out", tmp_path / "out")
    assert "too long a name" in message


def test_an_out_that_is_a_file_is_refused_before_the_coding(packed, liked, model, capsys):
    message = failure(capsys, "compress", model, liked, "--out", liked / "out")
    assert f"nothing can be written in {liked}" in message
    assert f"--out {liked}: is a file" in failure(capsys, "decompress", model, packed, "--out", liked)


def test_a_model_with_classes_and_a_mix_give_files_back(media, save_checkpoint, tmp_path):
    classes = str(save_checkpoint(TextAdapter(), 24, classes=("deep",), name="classes.ckpt"))
    compress(classes, [str(media)], str(tmp_path / "classes.mbz"), check=True)
    decompress(classes, [str(tmp_path / "classes.mbz")], str(tmp_path / "classes"))
    assert files(tmp_path / "classes") == files(media)
    mix = torch.load(save_checkpoint(TextAdapter(), 192, 48, ("text", "image"), "mix.ckpt"), weights_only=True)
    data = mix[SPEC_KEY]["data"]
    picture = {"name": "image", "settings": ImageAdapter(size=(8, 8)).settings()}
    data["sources"] = {
        "text": {"adapter": data.pop("adapter"), "fixed_length": data.pop("fixed_length")},
        "image": {"adapter": picture, "fixed_length": True},
    }
    torch.save(mix, tmp_path / "mix.ckpt")
    assert len(load_model(tmp_path / "mix.ckpt").modalities) == 2
    compress(str(tmp_path / "mix.ckpt"), [str(media)], str(tmp_path / "mix.mbz"))
    decompress(str(tmp_path / "mix.ckpt"), [str(tmp_path / "mix.mbz")], str(tmp_path / "mix"))
    assert files(tmp_path / "mix") == files(media)


def test_content_alone_comes_back_as_another_file_of_the_same_pixels(save_checkpoint, tmp_path, capsys):
    model = str(save_checkpoint(*ADAPTERS["image"]))
    pixels = np.random.default_rng(0).integers(0, 256, (9, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.tif", compression="tiff_lzw")
    compress(model, [str(tmp_path / "a.tif")], str(tmp_path / "a.mbz"), content_only=True)
    assert "only their content is stored" in capsys.readouterr().err
    decompress(model, [str(tmp_path / "a.mbz")], str(tmp_path / "back"))
    assert list(files(tmp_path / "back")) == ["a.png"]
    assert np.array_equal(np.asarray(Image.open(tmp_path / "back" / "a.png")), pixels)


def test_an_interrupted_run_leaves_whole_files_alone(model, tmp_path, monkeypatch):
    from megabyte_mm.compression import coding

    texts, out = tmp_path / "texts", tmp_path / "out"
    texts.mkdir()
    for number in range(20):
        (texts / f"{number:03d}.txt").write_bytes(bytes([65 + number]) * 48)
    exact, calls = coding.probabilities, iter(range(200))

    def interrupted(logits):
        if next(calls) == 199:
            raise KeyboardInterrupt
        return exact(logits)

    monkeypatch.setattr(coding, "probabilities", interrupted)
    assert main(["compress", model, str(texts), "--out", str(out), "--batch_size", "2"]) == 130
    monkeypatch.undo()
    made = list(out.iterdir())
    assert 2 < len(made) < 20
    assert all(path.suffix == ".mbz" and not path.name.startswith(".") for path in made)
    decompress(model, list(map(str, made)), str(tmp_path / "back"))
    assert all(content == (texts / name).read_bytes() for name, content in files(tmp_path / "back").items())


def changed(packed, **changes):
    """The container with something else said of its first file."""
    found = unpack(packed.read_bytes())
    first = replace(found.entries[0], **changes)
    packed.write_bytes(Container(found.settings, [first], found.blocks[:1], found.extras[:1]).pack())


@pytest.mark.parametrize(
    "changes",
    [
        {"lengths": [10**12] * 30},
        {"condition": 7},
        {"modality": "smell"},
        {"recipe": {"kind": "magic"}},
        {"recipe": {"kind": "around"}},
        {"recipe": {"kind": "tiles"}},
        {"recipe": {"kind": "written", "format": 3}},
    ],
    ids=str,
)
def test_a_container_that_was_tampered_with_is_refused_in_one_line(packed, model, tmp_path, capsys, changes):
    changed(packed, **changes)
    message = failure(capsys, "decompress", model, packed, "--out", tmp_path / "back")
    assert f"{packed}: liked.txt: " in message
    assert not (tmp_path / "back").exists()


@pytest.fixture
def picture(tmp_path):
    """A PNG that is hardly packed, so that its pixels are shorter even where a model knows nothing of them."""
    pixels = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "noise.png", compress_level=0)
    return tmp_path / "noise.png"


@pytest.mark.parametrize("shape", [[10**9, 10**9], ["a", 3], [8], None, [24, 25], [-8, -8]], ids=str)
def test_a_picture_of_a_size_that_cannot_be_is_refused(save_checkpoint, picture, tmp_path, capsys, shape):
    model, packed = str(save_checkpoint(*ADAPTERS["image"])), tmp_path / "a.mbz"
    compress(model, [str(picture)], str(packed))
    changed(packed, recipe=dict(unpack(packed.read_bytes()).entries[0].recipe) | {"shape": shape})
    assert "the recipe is invalid" in failure(capsys, "decompress", model, packed, "--out", tmp_path / "back")


def test_libraries_that_write_another_file_are_named_and_the_content_can_be_had(
    save_checkpoint, picture, tmp_path, capsys, monkeypatch
):
    model, packed = str(save_checkpoint(*ADAPTERS["image"])), tmp_path / "a.mbz"
    compress(model, [str(picture)], str(packed))
    monkeypatch.setattr("megabyte_mm.compression.recipes.pictures.png_content", lambda pixels, layout: b"another file")
    monkeypatch.setattr("megabyte_mm.compression.recipes.pictures._saved", lambda *_: b"another file")
    message = failure(capsys, "decompress", model, packed, "--out", tmp_path / "back")
    assert "the decoded content is correct, but pillow" in message
    assert not (tmp_path / "back").exists()
    decompress(model, [str(packed)], str(tmp_path / "back"), content_only=True)
    assert files(tmp_path / "back") == {"noise.png": b"another file"}
