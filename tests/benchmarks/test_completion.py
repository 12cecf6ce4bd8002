"""`python -m benchmarks.completion` continues validation files and compares them with the originals."""

import json

import numpy as np
import pytest
import soundfile
from PIL import Image

from benchmarks.completion import __main__ as completion
from benchmarks.completion.cases import open_cases
from benchmarks.completion.judge import train_judge
from data_adapters import AudioAdapter, FileAdapter, ImageAdapter, TextAdapter
from megabyte_mm import load_model

SIDE = 8
ADAPTER = ImageAdapter(mode="L", size=(SIDE, SIDE), patch=2)


@pytest.fixture
def run(capsys, tmp_path):
    """The rows of the table, from a checkpoint and a folder."""

    def rows(checkpoint, folder, *options):
        path = tmp_path / "figures.json"
        words = [str(checkpoint), str(folder), "--device", "cpu", "--json", str(path), *options]
        assert completion.main(words) == 0, capsys.readouterr().err
        (table,) = json.loads(path.read_text(encoding="utf-8"))["completion"].values()
        return table

    return rows


@pytest.fixture
def pictures(tmp_path):
    """Pictures of two classes: a bright left or right side, in random levels; 40 to train on, 6 to validate."""
    draw = np.random.default_rng(0)
    for split, count in (("train", 20), ("val", 3)):
        for label in ("left", "right"):
            folder = tmp_path / "pictures" / split / label
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = draw.integers(0, 60, (SIDE, SIDE), np.uint8)
                pixels[:, slice(4) if label == "left" else slice(4, 8)] += np.uint8(150)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    return tmp_path / "pictures"


@pytest.fixture
def image_checkpoint(save_checkpoint):
    return save_checkpoint(ADAPTER, SIDE * SIDE)


def test_a_judge_learns_the_real_pictures(image_checkpoint, pictures):
    cases = open_cases(load_model(image_checkpoint), str(pictures), 100, 0.5, None)
    judge = train_judge(ADAPTER, cases, seed=0)
    originals = [ADAPTER.pixels(case.original) for case in cases.val]
    assert judge.labels(originals) == [case.label for case in cases.val]


def test_pictures_are_compared_by_class(image_checkpoint, pictures, run, tmp_path):
    rows = run(image_checkpoint, pictures, "--count", "4", "--out", str(tmp_path / "out"))
    assert [(row["class"], row["files"]) for row in rows] == [("all", 4), ("left", 2), ("right", 2)]
    assert all(row["originals"] == 1.0 and row["pixels right"] < 0.9 for row in rows)
    assert len(list((tmp_path / "out").glob("*.png"))) == 4 + 1


def test_given_whole_but_a_pixel_a_picture_is_judged_like_the_original(image_checkpoint, pictures, run):
    rows = run(image_checkpoint, pictures, "--keep", str(1 - 1 / SIDE**2))
    assert [row["judged right"] for row in rows] == [row["originals"] for row in rows]


def test_without_class_folders_nothing_is_judged(image_checkpoint, pictures, run, tmp_path):
    for file in pictures.rglob("*.png"):
        file.rename(file.parent.parent / f"{file.parent.name}-{file.name}")
    rows = run(image_checkpoint, pictures)
    assert [(row["class"], row["files"]) for row in rows] == [("all", 6), ("none", 6)]
    assert "judged right" not in rows[0]


def test_sounds_are_compared_over_two_seconds(save_checkpoint, run, tmp_path):
    adapter = AudioAdapter(rate=800, channels=1, encoding="pcm8")
    tone = np.round(9000 * np.sin(2 * np.pi * 100 / 800 * np.arange(2400))).astype(np.int16)
    for split in ("train", "val"):
        (tmp_path / "sounds" / split).mkdir(parents=True)
        soundfile.write(tmp_path / "sounds" / split / "tone.wav", tone, 800)
    out = tmp_path / "out"
    (row,) = run(save_checkpoint(adapter, 64), tmp_path / "sounds", "--out", str(out))
    assert (row["files"], row["with a pitch"]) == (1, 1)
    assert row["frames in tune"] < 0.5  # of an untrained model
    assert soundfile.info(out / "0000-tone-000.wav").frames == 1600


def test_texts_are_compared_by_their_words(save_checkpoint, run, texts):
    (row,) = run(save_checkpoint(TextAdapter(), 64), texts, "--bytes", "60")
    assert row["files"] == 1
    assert row["known words"] in (None, 0.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--count", "0"], "--count must be at least 1"),
        (["--json", "nowhere/figures.json"], "no such folder"),
    ],
)
def test_options_that_cannot_be_are_refused(options, message, capsys):
    with pytest.raises(SystemExit) as ended:
        completion.main(["a.ckpt", "data", *options])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_files_of_other_kinds_are_refused_in_a_line(save_checkpoint, texts, capsys):
    checkpoint = save_checkpoint(FileAdapter(), 64)
    assert completion.main([str(checkpoint), texts, "--device", "cpu"]) == 2
    assert "only continuations of pictures, sounds and text can be compared" in capsys.readouterr().err
    assert completion.main(["missing.ckpt", texts, "--device", "cpu"]) == 2
    assert "missing.ckpt" in capsys.readouterr().err
