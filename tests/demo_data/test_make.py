"""The folder of demo data: complete, reproducible, and never written over other files."""

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from megabyte_mm.demo_data import make_demo_data, make_demo_pairs
from megabyte_mm.demo_data.pictures import CLASSES


def contents(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "new" / "media"
    return folder, make_demo_data(folder)


def test_default_counts(media):
    folder, counts = media
    assert {split: counts[split] for split in ("images/train", "images/val", "audio/train", "audio/val")} == {
        "images/train": 640,
        "images/val": 80,
        "audio/train": 256,
        "audio/val": 32,
    }
    assert counts["text/train"] > 50
    assert counts["text/val"] >= 5
    assert all(len(list((folder / split).rglob("*.*"))) == count for split, count in counts.items())
    assert "PSF License" in (folder / "README.txt").read_text()


def test_every_class_has_the_same_number_of_files_in_each_split(media):
    for split, number in (("train", 64), ("val", 8)):
        folders = sorted((media[0] / "images" / split).iterdir())
        assert [folder.name for folder in folders] == list(CLASSES)
        assert {len(list(folder.iterdir())) for folder in folders} == {number}


def test_all_files_differ(media):
    hashes = contents(media[0]).values()
    assert len(set(hashes)) == len(hashes)


def test_every_file_has_the_documented_format(media):
    for path in media[0].rglob("*.png"):
        with Image.open(path) as picture:
            assert (picture.size, picture.mode) == ((32, 32), "RGB")
            picture.load()
    for path in media[0].rglob("*.wav"):
        sound, rate = soundfile.read(path, dtype="int16")
        assert (rate, sound.ndim, soundfile.info(path).subtype) == (8000, 1, "PCM_16")
        assert np.any(sound)


@pytest.mark.parametrize(("make", "melodies"), [(make_demo_data, 2), (make_demo_pairs, 4)], ids=["media", "pairs"])
def test_the_seed_determines_all_files(tmp_path, make, melodies):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        make(tmp_path / name, seed=seed, pictures=20, melodies=melodies)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert contents(tmp_path / "a") != contents(tmp_path / "c")


def test_a_second_call_leaves_the_folder_unchanged(tmp_path):
    first = make_demo_data(tmp_path / "media", pictures=8, melodies=1)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert make_demo_data(tmp_path / "media", pictures=8, melodies=1) == first
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_an_empty_folder_is_filled(tmp_path):
    assert make_demo_data(tmp_path, pictures=0, melodies=0)["images/train"] == 0
    assert (tmp_path / "README.txt").is_file()


def test_a_folder_with_other_files_is_refused_and_unchanged(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match=f"{tmp_path}: not empty"):
        make_demo_data(tmp_path)
    assert contents(tmp_path).keys() == {"mine.txt"}


def test_a_folder_of_other_arguments_or_with_missing_files_is_refused(tmp_path):
    make_demo_data(tmp_path / "media", pictures=8, melodies=1)
    with pytest.raises(ValueError, match="media: generated with"):
        make_demo_data(tmp_path / "media", seed=1, pictures=8, melodies=1)
    (tmp_path / "media/audio/val/0000.wav").unlink()
    with pytest.raises(ValueError, match="media: files were added or removed"):
        make_demo_data(tmp_path / "media", pictures=8, melodies=1)


def test_an_aborted_call_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("megabyte_mm.demo_data.make.choose_sources", lambda seed: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        make_demo_data(tmp_path / "media", pictures=1, melodies=1)
    assert list(tmp_path.iterdir()) == []


def test_negative_arguments_are_refused(tmp_path):
    with pytest.raises(ValueError, match="must not be negative"):
        make_demo_data(tmp_path / "media", pictures=-1)


def test_demo_data_does_not_import_torch():
    check = "import sys, megabyte_mm.demo_data; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False, cwd=Path(__file__).parents[2]).returncode == 0
