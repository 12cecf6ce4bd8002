"""`score --heatmap`: which files appear, and when none does."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_adapters import ImageAdapter, TextAdapter
from megabyte_mm import load_model
from megabyte_mm.cli.main import main
from megabyte_mm.cli.score import score
from megabyte_mm.evaluation.files import score_files


@pytest.fixture
def text_model(save_checkpoint) -> str:
    return str(save_checkpoint(TextAdapter(), window=24))


def save_text(path: Path, text: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_every_file_gets_its_heatmaps_under_a_name_of_its_own(text_model, tmp_path, capsys):
    for name in ("one/a.txt", "two/a.txt", "two/b.md", "two/empty.txt"):
        save_text(tmp_path / "in" / name, "" if "empty" in name else f"<{name}>")
    out = tmp_path / "new" / "heat"
    arguments = ["score", text_model, str(tmp_path / "in"), "--method", "strided", "plain", "--heatmap", str(out)]
    assert main(arguments) == 0
    stems = ["one_a", "two_a", "two_b", "two_empty"]
    assert sorted(path.name for path in out.iterdir()) == sorted(f"{s}{e}" for s in stems for e in (".png", ".html"))
    with Image.open(out / "two_b.png") as image:
        assert image.format == "PNG"
    (first,) = score_files(load_model(text_model), [tmp_path / "in" / "two" / "b.md"], method="strided")
    assert f"{first.score.bits_per_byte:.3f} bits per byte" in (out / "two_b.html").read_text(encoding="utf-8")
    (out / "two_b.html").unlink()
    capsys.readouterr()
    before = (out / "one_a.png").stat().st_mtime_ns
    assert main(arguments) == 2
    assert (
        f"{out / 'one_a.png'} exists already; choose another --heatmap, or add --overwrite" in capsys.readouterr().err
    )
    assert (out / "one_a.png").stat().st_mtime_ns == before
    assert main([*arguments, "--overwrite"]) == 0
    assert (out / "two_b.html").exists()


def test_pictures_have_no_page(save_checkpoint, tmp_path):
    model = str(save_checkpoint(ImageAdapter("L", (8, 4), patch=2), window=32))
    Image.fromarray(np.zeros((4, 8), np.uint8)).save(tmp_path / "a.png")
    score(model, [str(tmp_path / "a.png")], heatmap=str(tmp_path / "heat"))
    assert [path.name for path in (tmp_path / "heat").iterdir()] == ["a.png"]


def test_a_diverged_model_has_no_heatmap(text_model, tmp_path, monkeypatch):
    monkeypatch.setattr("megabyte_mm.models.Megabyte.nll", lambda self, ids, *_: ids * math.nan)
    with pytest.raises(ValueError, match="the model's output is not finite"):
        score(text_model, [save_text(tmp_path / "a.txt", "abc")], heatmap=str(tmp_path / "heat"))
    assert list((tmp_path / "heat").iterdir()) == []


@pytest.mark.parametrize(
    ("paths", "folder", "message"),
    [
        (["a.txt"], "a.txt", "--heatmap a.txt: is a file; name a folder"),
        (["a.txt"], "a.txt/heat", "--heatmap a.txt/heat: cannot create this folder (Not a directory)"),
        (["a.txt", "{here}/a.txt"], "heat", "--heatmap heat: PATH names a file twice"),
    ],
)
def test_a_mistake_is_reported_before_anything_is_scored(
    paths, folder, message, text_model, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    save_text(Path("a.txt"), "some text")
    named = [path.format(here=tmp_path) for path in paths]
    assert main(["score", text_model, *named, "--heatmap", folder]) == 2
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"megabyte-mm score: error: {message}\n")
