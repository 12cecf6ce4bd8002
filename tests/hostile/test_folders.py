"""Folders with everything in them that a crawl, a broken disk or bad intent leaves: the good files are used, every
other one is named with its reason, and nothing waits, breaks off or follows a link in a circle."""

import contextlib
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_adapters import ImageAdapter, TextAdapter
from fuzz import seeds
from megabyte_mm.cli.main import main
from megabyte_mm.data.files import find_files, walk
from megabyte_mm.data.module import ByteData

pytestmark = pytest.mark.skipif(os.name != "posix", reason="Windows has no pipes and raw names among its files")

RAW = os.fsdecode(b"caf\xe9.png")
ADAPTER = ImageAdapter("L", (8, 8), patch=2)
REFUSED = {
    "empty.png": "is not an image in a supported format",
    "text.png": "is not an image in a supported format",
    "sound.png": "is not an image in a supported format",
    "cut.png": "cannot be decoded",
    "bomb.png": "is too large to be decoded safely",
    "deep.png": "has 16 bits a sample",
    "pipe.png": "is a pipe, not a file",
    "endless.png": "is a device, not a file",
    "broken.png": "is a broken link",
    "circle.png": "cannot be read: Too many levels of symbolic links",
}


@pytest.fixture
def hostile(tmp_path):
    """A folder of three good pictures, one of them by a link that leads out, and one bad file of each kind."""
    folder = tmp_path / "data"
    (folder / "folder.png").mkdir(parents=True)
    grey = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8))
    grey.save(folder / "folder.png" / "good.png")
    grey.save(folder / RAW)
    grey.save(tmp_path / "outside.png")
    (folder / "linked.png").symlink_to(tmp_path / "outside.png")
    (folder / "folder.png" / "up").symlink_to(folder)
    good = (folder / RAW).read_bytes()
    contents = {"empty": b"", "text": b"words", "sound": seeds.sounds()["WAV-PCM_16"], "cut": good[:-30]}
    contents |= {"deep": seeds.pictures()["PNG-I;16"], "bomb": b"P5 60000 60000 255\n"}
    for name, content in contents.items():
        (folder / f"{name}.png").write_bytes(content)
    os.mkfifo(folder / "pipe.png")
    (folder / "endless.png").symlink_to("/dev/zero")
    (folder / "broken.png").symlink_to("nowhere")
    (folder / "circle.png").symlink_to("circle.png")
    return folder


def run(*arguments):
    """The exit code, and what is printed as bytes: capsys, which still gets stderr, would take it for UTF-8."""
    printed = io.BytesIO()
    with contextlib.redirect_stdout(io.TextIOWrapper(printed, encoding="utf-8")) as stdout:
        code = main([str(argument) for argument in arguments])
        stdout.flush()
    return code, printed.getvalue()


def test_the_good_files_train_and_each_bad_one_is_listed_with_its_reason(hostile, tmp_path):
    data = ByteData(str(hostile), adapter=ADAPTER, val_share=0.4)
    with pytest.warns(UserWarning, match=r"skipped 10 files of .*data: "):
        data.setup()
    used = {records.name(i) for records in (data.train, data.val) for i in range(len(records))}
    assert used == {"folder.png/good.png", RAW, "linked.png"}
    reasons = {entry["path"]: entry["reason"] for entry in data.skipped}
    assert reasons.keys() == REFUSED.keys()
    for name, reason in REFUSED.items():
        assert reasons[name].startswith(reason), name


def test_score_measures_the_good_files_and_names_each_bad_one(hostile, tmp_path, save_checkpoint, capsys):
    figures = tmp_path / "figures.json"
    checkpoint = save_checkpoint(ADAPTER, window=64)
    code, printed = run("score", checkpoint, hostile, "--json", figures, "--device", "cpu")
    assert code == 2
    said = json.loads(figures.read_text())
    assert {file["path"].removeprefix(f"{hostile}/") for file in said["files"]} == {
        "folder.png/good.png",
        RAW,
        "linked.png",
    }
    assert {entry["path"].removeprefix(f"{hostile}/") for entry in said["skipped"]} == set(REFUSED)
    assert b"caf\xe9.png" in printed
    lines = capsys.readouterr().err.splitlines()
    for name, reason in REFUSED.items():
        assert any(line.startswith(f"{hostile}/{name}: {reason}") for line in lines), name
    assert lines[-1].startswith("megabyte-mm score: error: 10 of 13 files could not be scored, such as ")


def test_generate_goes_on_from_a_file_whose_name_is_no_utf8(hostile, tmp_path, save_checkpoint):
    checkpoint = save_checkpoint(ADAPTER, window=64)
    out = tmp_path / "out"
    options = ["--num_samples", "1", "--device", "cpu", "--backend", "eager"]
    code, printed = run("generate", checkpoint, "--out", out, "--prefix", hostile / RAW, *options)
    files = printed.splitlines()
    assert code == 0
    assert files == [os.fsencode(out) + b"/caf\xe9-000.png", os.fsencode(out) + b"/contact_sheet.png"]
    assert all(Path(os.fsdecode(name)).is_file() for name in files)


@pytest.mark.parametrize("name", ["pipe.png", "endless.png", "broken.png", "circle.png", "folder.png"])
def test_generate_refuses_a_prefix_that_is_no_file_in_one_line(hostile, tmp_path, save_checkpoint, capsys, name):
    checkpoint = save_checkpoint(ADAPTER, window=64)
    file = hostile / name
    assert main(["generate", str(checkpoint), "--out", str(tmp_path / "out"), "--prefix", str(file)]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"megabyte-mm generate: error: {file}: is ") or "cannot be read" in line


@pytest.mark.parametrize("name", ["pipe.png", "endless.png", "broken.png", "circle.png"])
def test_data_that_are_no_file_are_refused_by_name(hostile, name):
    with pytest.raises(ValueError, match=rf"data\.path .*none of the files can be read: {name}: (is a|cannot be read)"):
        ByteData(str(hostile / name), adapter=ADAPTER).setup()


def test_raw_names_are_listed_among_the_skipped_files_too(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    for name in (b"a.txt", b"b.txt", b"\xff.txt"):
        (folder / os.fsdecode(name)).write_bytes(b"" if b"\xff" in name else b"some text")
    data = ByteData(str(folder), adapter=TextAdapter())
    with pytest.warns(UserWarning, match="skipped 1 file"):
        data.setup()
    assert data.skipped == [{"path": os.fsdecode(b"\xff.txt"), "reason": "holds no bytes"}]


def test_a_very_deep_folder_is_walked_to_its_end(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(1010):
        Path("d").mkdir()
        os.chdir("d")
    Path("a.txt").touch()
    try:
        assert [file.name for file in walk(tmp_path)] == ["a.txt"]
    finally:  # pytest could not: shutil.rmtree calls itself for every level
        Path("a.txt").unlink()
        for _ in range(1010):
            os.chdir("..")
            Path("d").rmdir()


def test_links_to_folders_outside_are_followed_and_circles_are_not(tmp_path):
    outside, folder = tmp_path / "outside", tmp_path / "data"
    outside.mkdir()
    folder.mkdir()
    (outside / "a.txt").write_text("one")
    (outside / "back").symlink_to(folder)
    (folder / "link").symlink_to(outside)
    (folder / "self").symlink_to(folder)
    assert find_files(str(folder), TextAdapter()).names == ("link/a.txt",)


def test_an_adapter_of_ones_own_is_not_given_a_pipe(hostile):
    class Trusting(ImageAdapter):
        name = "trusting"

        def read(self, path):
            with path.open("rb") as file:
                file.read(1)
            return super().read(path)

    data = ByteData(str(hostile), adapter=Trusting("L", (8, 8), patch=2), val_share=0.4)
    with pytest.warns(UserWarning, match="skipped 10 files of"):
        data.setup()
    assert {entry["path"]: entry["reason"] for entry in data.skipped}["pipe.png"] == "is a pipe, not a file"
