"""`python -m benchmarks.completion` continues validation files and compares them with the originals."""

import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from benchmarks.completion import __main__ as completion
from benchmarks.completion.cases import Cases, open_cases
from data_adapters import AudioAdapter, FileAdapter, ImageAdapter, TextAdapter
from megabyte_mm import load_model
from megabyte_mm.data.module import ByteData

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
    judge = completion.judge_of(ADAPTER, cases, seed=0)
    originals = [ADAPTER.pixels(case.original) for case in cases.val]
    assert judge.labels(originals) == [case.label for case in cases.val]


def test_pictures_are_compared_by_class(image_checkpoint, pictures, run, tmp_path):
    rows = run(image_checkpoint, pictures, "--count", "4", "--out", str(tmp_path / "out"))
    assert [(row["class"], row["files"]) for row in rows] == [("all", 4), ("left/", 2), ("right/", 2)]
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


@pytest.fixture
def refused(capsys, monkeypatch):
    """The line that refuses a checkpoint and a folder before anything is generated."""

    def line(checkpoint, folder, *options):
        monkeypatch.setattr(completion, "generate_continuations", lambda *_: pytest.fail("generated before refusing"))
        assert completion.main([str(checkpoint), str(folder), "--device", "cpu", *options]) == 2
        (message,) = capsys.readouterr().err.splitlines()
        return message

    return line


@pytest.fixture
def unsplit(pictures):
    """The same pictures in class folders, without train and val."""
    for file in list(pictures.rglob("*.png")):
        target = pictures / file.parent.name / f"{file.parent.parent.name}-{file.name}"
        target.parent.mkdir(exist_ok=True)
        file.rename(target)
    shutil.rmtree(pictures / "train")
    shutil.rmtree(pictures / "val")
    return pictures


def of_run(checkpoint, **report):
    """The checkpoint with what its run noted of its data."""
    content = torch.load(checkpoint, weights_only=True)
    torch.save({**content, "callbacks": {"RunReport": report}}, checkpoint)
    return checkpoint


def sizes(train, val):
    """The figures of the data of a run on so many pictures."""
    return {"": {split: {"files": n, "bytes": n * SIDE**2} for split, n in (("train", train), ("val", val))}}


@pytest.mark.parametrize("val_share", [0.05, 0.5])
def test_the_files_that_the_run_held_out_are_continued(image_checkpoint, unsplit, val_share):
    data = ByteData(str(unsplit), ADAPTER, val_share=val_share)
    data.setup()
    of_run(image_checkpoint, val_share=val_share, data=sizes(len(data.train), len(data.val)))
    cases = open_cases(load_model(image_checkpoint), str(unsplit), 100, 0.5, None)
    names = [data.val.name(record) for record in range(len(data.val))]
    assert [(case.label, case.request.stem[5:]) for case in cases.val] == [
        (name.split("/")[0], Path(name).stem) for name in names
    ]


def test_a_split_that_the_checkpoint_does_not_hold_is_refused(image_checkpoint, unsplit, refused):
    assert f"{unsplit}: has no val folder, and the checkpoint does not hold data.val_share" in refused(
        image_checkpoint, unsplit
    )


def test_a_folder_that_splits_otherwise_than_in_the_run_is_refused(image_checkpoint, unsplit, refused):
    of_run(image_checkpoint, val_share=0.05, data=sizes(100, 7))
    message = refused(image_checkpoint, unsplit)
    assert "validate, but the checkpoint's run had 100 files (6,400 bytes) to train on and 7 files" in message


def test_pictures_without_a_class_are_counted_apart(image_checkpoint, pictures, run):
    shutil.copy(pictures / "val/left/0.png", pictures / "val/plain.png")
    shutil.copy(pictures / "val/left/0.png", pictures / "train/plain.png")
    rows = run(image_checkpoint, pictures, "--keep", str(1 - 1 / SIDE**2))
    assert [(row["class"], row["files"], row["judged"]) for row in rows] == [
        ("all", 7, 6),
        ("left/", 3, 3),
        ("right/", 3, 3),
        ("none", 1, 0),
    ]
    assert [row["judged right"] for row in rows] == [1.0, 1.0, 1.0, None]


def test_a_model_of_classes_continues_pictures_without_one(save_checkpoint, pictures, run):
    shutil.copy(pictures / "val/left/0.png", pictures / "val/plain.png")
    checkpoint = save_checkpoint(ADAPTER, SIDE * SIDE, classes=("left", "right"))
    assert run(checkpoint, pictures)[-1]["class"] == "none"


def test_classes_may_be_called_as_other_rows_are(image_checkpoint, pictures, run):
    for split in ("train", "val"):
        (pictures / split / "left").rename(pictures / split / "all")
        (pictures / split / "right").rename(pictures / split / "none")
    rows = run(image_checkpoint, pictures)
    assert [(row["class"], row["files"], row["originals"]) for row in rows] == [
        ("all", 6, 1.0),
        ("all/", 3, 1.0),
        ("none/", 3, 1.0),
    ]


def test_classes_are_found_beside_a_test_folder(image_checkpoint, pictures):
    (pictures / "val").rename(pictures / "test")
    of_run(image_checkpoint, val_share=0.05, data=sizes(39, 1))
    cases = open_cases(load_model(image_checkpoint), str(pictures), 100, 0.5, None)
    assert cases.classes == ["left", "right"]


def test_a_class_that_no_training_picture_has_is_refused_at_once(image_checkpoint, pictures, refused):
    (pictures / "val/right").rename(pictures / "val/top")
    assert "no training picture has the class top," in refused(image_checkpoint, pictures)


def test_classes_of_validation_pictures_alone_are_refused_at_once(image_checkpoint, pictures, refused):
    for file in (pictures / "train").rglob("*.png"):
        file.rename(pictures / "train" / f"{file.parent.name}-{file.name}")
    assert "no training picture has the class left, right," in refused(image_checkpoint, pictures)


@pytest.mark.parametrize("split", ["train", "val"])
def test_pictures_of_several_sizes_are_refused_at_once(save_checkpoint, pictures, split, refused):
    Image.new("L", (SIDE, SIDE // 2)).save(pictures / split / "left/0.png")
    checkpoint = save_checkpoint(ImageAdapter(mode="L", patch=2), SIDE * SIDE)
    assert "pictures of several sizes cannot be judged: 8 x 4, 8 x 8" in refused(checkpoint, pictures)


def test_pictures_too_small_for_the_judge_are_refused_at_once(save_checkpoint, pictures, refused):
    checkpoint = save_checkpoint(ImageAdapter(mode="L", size=(8, 2), patch=2), 16)
    assert "pictures of 8 x 2 are too small to be judged" in refused(checkpoint, pictures)


def test_the_classes_are_not_sorted_for_each_picture(image_checkpoint, pictures, monkeypatch):
    cases = open_cases(load_model(image_checkpoint), str(pictures), 100, 0.5, None)
    asked, classes = itertools.count(), cases.classes
    monkeypatch.setattr(Cases, "classes", property(lambda _: (next(asked), classes)[1]))
    completion.judge_of(ADAPTER, cases, seed=0)
    assert next(asked) < 4


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


def test_files_of_other_kinds_are_refused_at_once(save_checkpoint, texts, refused):
    message = refused(save_checkpoint(FileAdapter(), 64), texts)
    assert "only continuations of pictures, sounds and text can be compared" in message
    assert "missing.ckpt" in refused("missing.ckpt", texts)
