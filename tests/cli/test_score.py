"""`score` from end to end, on untrained models."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from data_adapters import AudioAdapter, ImageAdapter, TextAdapter
from megabyte_mm import load_model
from megabyte_mm.alphabet import fill_window, scored
from megabyte_mm.cli.main import main
from megabyte_mm.cli.score import score
from megabyte_mm.evaluation.methods import METHODS


@pytest.fixture
def text_model(save_checkpoint) -> str:
    return str(save_checkpoint(TextAdapter(), window=24))


@pytest.fixture
def texts(tmp_path) -> Path:
    folder = tmp_path / "texts"
    for name, length in {
        "train/a.txt": 30,
        "val/b.md": 48,
        "val/deep/c.txt": 5,
        "empty.txt": 0,
        ".hidden.txt": 9,
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(bytes(97 + i * i % 26 for i in range(length)))
    (folder / "picture.png").write_bytes(b"of another modality")
    return folder


def save_picture(path: Path, size: tuple[int, int] = (8, 4)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(len(str(path))).integers(0, 256, size[::-1], dtype=np.uint8)
    Image.fromarray(pixels).save(path)


@torch.no_grad()
def plainly(checkpoint: str, data: bytes, condition: int = 0) -> float:
    """Bits of all windows of 24."""
    bundle = load_model(checkpoint)
    raw = np.frombuffer(data, np.uint8)
    rows = [
        fill_window(raw[start : start + bundle.window], bundle.window) for start in range(0, len(raw), bundle.window)
    ]
    ids = torch.from_numpy(np.stack(rows))
    nats = bundle.model.nll(ids, torch.full((len(ids),), condition))
    return float(nats[scored(ids)].sum()) / math.log(2)


def test_json_on_stdout_leaves_the_table_to_stderr(text_model, texts, capsys):
    assert main(["score", text_model, str(texts), "--json", "-"]) == 0
    printed, err = capsys.readouterr()
    assert len(json.loads(printed)["files"]) == 4
    assert "total of 4" in err
    assert not Path("-").exists()


def test_all_files_below_a_folder_are_scored_and_added_up(text_model, texts, tmp_path, capsys):
    out = tmp_path / "scores.json"
    score(text_model, [str(texts)], json=str(out))
    printed, err = capsys.readouterr()
    heading, *lines, last = printed.splitlines()
    assert heading.split() == ["file", "bytes", "plain"]
    names = ["empty.txt", "train/a.txt", "val/b.md", "val/deep/c.txt"]
    assert [line.split()[0] for line in lines] == [str(texts / name) for name in names]
    assert last.split()[:4] == ["total", "of", "4", "83"]
    assert err.startswith("scored 83 bytes in ")
    values = json.loads(out.read_text())
    bits = {Path(file["path"]).name: file["bits_per_byte"]["plain"] for file in values["files"]}
    sizes = {name: len((texts / name).read_bytes()) for name in names}
    expected = {name: plainly(text_model, (texts / name).read_bytes()) for name in names if sizes[name]}
    for name, value in expected.items():
        assert bits[Path(name).name] == pytest.approx(value / sizes[name], rel=1e-5)
    assert bits["empty.txt"] is None
    assert values["total"]["bits_per_byte"]["plain"] == pytest.approx(sum(expected.values()) / 83, rel=1e-5)
    assert (values["checkpoint"], values["window"], values["methods"]) == (text_model, 24, ["plain"])
    assert values["skipped"] == []
    assert "curves" not in values


def test_products_in_bfloat16_cost_little(text_model, texts, tmp_path):
    bits = []
    for precision in ("float32", "bf16-mixed"):
        out = tmp_path / f"{precision}.json"
        score(text_model, [str(texts)], json=str(out), precision=precision)
        bits.append(json.loads(out.read_text())["total"]["bits_per_byte"]["plain"])
    assert bits[0] != bits[1]
    assert bits[1] == pytest.approx(bits[0], rel=0.01)


def test_several_methods_stand_side_by_side(text_model, texts, tmp_path, capsys):
    out, picture = tmp_path / "scores.json", tmp_path / "curves.png"
    score(text_model, [str(texts / "val")], method=["strided", "plain", "strided"], json=str(out), curves=str(picture))
    assert capsys.readouterr().out.splitlines()[0].split() == ["file", "bytes", "strided", "plain"]
    values = json.loads(out.read_text())
    assert set(values["curves"]) == set(values["methods"]) == {"strided", "plain"}
    assert len(values["curves"]["plain"]["patch"]) == 4
    assert len(values["curves"]["plain"]["window"]) == 24
    with Image.open(picture) as image:
        assert image.format == "PNG"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curves.png", "scores.json", "texts", "tiny.ckpt"]


@pytest.mark.filterwarnings("ignore:All-NaN:RuntimeWarning")
def test_a_diverged_model_is_refused_and_its_figures_are_null(text_model, texts, tmp_path, capsys):
    checkpoint = torch.load(text_model, weights_only=True)
    for weight in checkpoint["state_dict"].values():
        weight.fill_(3e38)
    torch.save(checkpoint, text_model)
    out, picture = tmp_path / "out.json", tmp_path / "out.png"
    with pytest.raises(ValueError, match=r"a\.txt: the model's output is not finite: its training has diverged"):
        score(text_model, [str(texts)], json=str(out), curves=str(picture))
    assert json.loads(out.read_text())["total"]["bits_per_byte"] == {"plain": None}
    assert picture.exists()


def test_all_means_every_method(text_model, texts, capsys):
    score(text_model, [str(texts / "val" / "b.md")], method=["all"])
    assert capsys.readouterr().out.splitlines()[0].split() == ["file", "bytes", *METHODS]


def test_a_file_given_twice_counts_once(text_model, texts, capsys):
    file = str(texts / "val" / "b.md")
    score(text_model, [file, str(texts / "val"), file])
    assert "total of 2" in capsys.readouterr().out


def test_the_command_line_takes_several_paths_and_methods(text_model, texts, capsys):
    files = [str(texts / "train" / "a.txt"), str(texts / "val" / "b.md")]
    assert main(["score", text_model, *files, "--method", "plain", "sliding", "--window", "12", "--batch_size=3"]) == 0
    assert capsys.readouterr().out.splitlines()[0].split() == ["file", "bytes", "plain", "sliding"]


def test_files_may_be_called_like_numbers(text_model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("1", "null", "007"):
        Path(name).write_text("text")
    assert main(["score", text_model, "1", "null", "007"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["file", "1", "null", "007", "total"]


def test_unreadable_files_are_listed_and_the_others_are_scored(save_checkpoint, tmp_path, capsys):
    model = str(save_checkpoint(ImageAdapter("L", (8, 4), patch=2), window=32))
    for name in ("a.png", "c.png"):
        save_picture(tmp_path / "in" / name)
    (tmp_path / "in" / "b.png").write_bytes(b"torn")
    out = tmp_path / "scores.json"
    assert main(["score", model, str(tmp_path / "in"), "--json", str(out)]) == 2
    printed, err = capsys.readouterr()
    assert "total of 2" in printed
    first, *_, last = err.splitlines()
    assert first.startswith(f"{tmp_path / 'in' / 'b.png'}: ")
    assert last.startswith("megabyte-mm score: error: 1 of 3 files could not be scored, such as ")
    values = json.loads(out.read_text())
    assert [Path(entry["path"]).name for entry in values["skipped"]] == ["b.png"]
    assert values["total"]["bytes"] == 64


def test_a_picture_that_does_not_fit_is_listed(save_checkpoint, tmp_path, capsys):
    model = str(save_checkpoint(ImageAdapter("L", None, patch=2), window=32))
    save_picture(tmp_path / "in" / "small.png", (4, 4))
    save_picture(tmp_path / "in" / "large.png", (8, 8))
    with pytest.raises(ValueError, match=r"1 of 2 files .*large\.png: its 64 bytes do not fit into the window of 32"):
        score(model, [str(tmp_path / "in")])
    assert "small.png" in capsys.readouterr().out


def test_the_class_is_that_of_the_folder_unless_it_is_given(save_checkpoint, tmp_path, capsys):
    model = str(save_checkpoint(TextAdapter(), window=24, classes=["cat", "dog"]))
    data = b"the same in every folder"
    root = tmp_path / "cat"  # above the folders that are given: no class of anything in them
    for folder in ("cat", "dog/old/cats", "elsewhere"):
        (root / folder).mkdir(parents=True)
        (root / folder / "x.txt").write_bytes(data)
    expected = {folder: plainly(model, data, number) / 24 for number, folder in enumerate(("elsewhere", "cat", "dog"))}
    assert len(set(expected.values())) == 3
    folders = [str(root / "elsewhere" / "x.txt"), str(root / "cat"), str(root / "dog")]
    for condition in (None, "dog"):
        score(model, folders, condition=condition, json=str(tmp_path / "out.json"))
        for file in json.loads((tmp_path / "out.json").read_text())["files"]:
            name = condition or Path(file["path"]).relative_to(root).parts[0]
            assert file["bits_per_byte"]["plain"] == pytest.approx(expected[name], rel=1e-5)
        message = "1 of 3 files, such as " + str(root / "elsewhere" / "x.txt") in capsys.readouterr().err
        assert message is (condition is None)
    with pytest.raises(ValueError, match="condition cow: unknown to this model; it knows cat, dog"):
        score(model, folders, condition="cow")


def test_a_window_holds_whole_frames_of_every_sound(save_checkpoint, tmp_path, capsys):
    model = str(save_checkpoint(AudioAdapter(), window=24))
    for channels in (1, 3):
        wave = np.random.default_rng(0).integers(-9000, 9000, (20, channels)).astype(np.int16)
        soundfile.write(tmp_path / f"{channels}.wav", wave, 8000, subtype="PCM_16")
    score(model, [str(tmp_path / "1.wav"), str(tmp_path / "3.wav")], method=["sliding"])
    assert "total of 2" in capsys.readouterr().out
    with pytest.raises(ValueError, match="a window of 16 bytes cuts units of 6 bytes; choose one with --window 18"):
        score(model, [str(tmp_path / "3.wav")], window=16)


def test_conversions_are_reported_in_one_line(save_checkpoint, tmp_path, capsys):
    model = str(save_checkpoint(ImageAdapter("L", (8, 4), patch=2), window=32))
    for number in range(3):
        save_picture(tmp_path / "in" / f"{number}.png", (16, 8))
    score(model, [str(tmp_path / "in")])
    err = capsys.readouterr().err
    assert err.count("converted") == 1
    assert f"3 of 3 files were converted, such as {tmp_path / 'in' / '0.png'}: " in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["picture.png"], "picture.png: is of modality image; this model reads text files (.txt"),
        (["gone.txt"], "gone.txt: no such file or folder"),
        (["nothing"], "nothing: no file of text (.txt"),
        (
            ["a.txt", "--method", "clever"],
            "--method clever: known are plain, sliding, strided, sliding+strided and all",
        ),
        (["a.txt", "--window", "0"], "--window is 0; it must be at least 1"),
        (["a.txt", "--batch_size", "0"], "--batch_size is 0; it must be at least 1"),
        (["a.txt", "--window", "48"], "a sequence of 48 symbols; this model takes 1 to 24"),
        (["a.txt", "--json", "gone/x.json"], "--json gone/x.json: no file can be written there"),
        (["a.txt", "--curves", "nothing"], "--curves nothing: no file can be written there"),
        (["a.txt", "--curves", "x.gif"], "--curves x.gif: the name must end in .png, .svg, .pdf"),
        (["a.txt", "--condition", "cat"], "--condition cat: unknown to this model; it was trained without classes"),
        (["a.txt", "--device", "abacus"], "--device abacus: not available here"),
        (["--method", "plain"], "path"),
    ],
)
def test_a_mistake_is_reported_in_one_line(arguments, message, text_model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("nothing").mkdir()
    save_picture(Path("picture.png"))
    Path("a.txt").write_text("some text")
    assert main(["score", text_model, *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1, err
    assert re.match(r"megabyte-mm score: error: .*" + re.escape(message), err)


def test_strides_need_patches(save_checkpoint, texts):
    model = str(save_checkpoint(TextAdapter(), window=24, patch_size=1))
    with pytest.raises(ValueError, match="strided needs a model with patches of at least 2 bytes"):
        score(model, [str(texts)], method=["all"])


def test_nothing_is_left_where_the_figure_cannot_be_written(text_model, texts, tmp_path, monkeypatch):
    def full(self, *_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", full)
    with pytest.raises(ValueError, match=r"curves\.png: .*No space left"):
        score(text_model, [str(texts / "val")], curves=str(tmp_path / "curves.png"))
    assert not list(tmp_path.glob("*.png"))
