"""`score --heatmap`, and what notebooks take of it: which bits belong to which pixel, sample and character."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
from matplotlib import colormaps
from matplotlib.colors import to_rgba_array
from PIL import Image

from data_adapters import AudioAdapter, FileAdapter, ImageAdapter, TextAdapter
from megabyte_mm import load_model
from megabyte_mm.cli import main
from megabyte_mm.commands.heatmaps import heatmap, split, surprise
from megabyte_mm.commands.score import score
from megabyte_mm.evaluation.scoring import score_streams


@pytest.fixture
def text_model(save_checkpoint) -> str:
    return str(save_checkpoint(TextAdapter(), window=24))


def save_text(path: Path, text: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("scan", ["patch", "raster"])
def test_a_pixel_has_the_bits_of_its_own_channels(scan, tmp_path):
    height, width = 7, 10  # squares of 4 are cut at both edges
    pixels = np.arange(height * width * 3, dtype=np.uint8).reshape(height, width, 3)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    adapter = ImageAdapter("RGB", scan=scan, patch=4)
    stream = adapter.read(tmp_path / "a.png")
    bits = stream.data / 100  # each byte's cost tells where it came from
    figure = heatmap(adapter, stream, np.append(bits, 5.0), "a.png")
    cost = np.asarray(figure.axes[1].images[0].get_array())
    np.testing.assert_allclose(cost, pixels.sum(axis=2) / 100)
    assert "END 5.0 bits" in figure.texts[0].get_text()


@pytest.mark.parametrize("encoding", ["pcm16", "mulaw"])
def test_a_sample_has_the_bits_of_its_own_bytes(encoding, tmp_path):
    soundfile.write(tmp_path / "a.wav", np.arange(40, dtype=np.int16).reshape(20, 2) * 99, 8000, subtype="PCM_16")
    adapter = AudioAdapter(encoding=encoding)
    stream = adapter.read(tmp_path / "a.wav")
    bits = np.random.default_rng(0).uniform(0, 8, len(stream.data))
    figure = heatmap(adapter, stream, bits)
    width = {"pcm16": 2, "mulaw": 1}[encoding]
    second = next(axes for axes in figure.axes if axes.get_ylabel() == "channel 2")
    expected = bits.reshape(20, 2, width)[:, 1].sum(axis=1) / (8 * width)
    np.testing.assert_allclose(to_rgba_array(second.collections[0].get_edgecolor()), colormaps["plasma"](expected))


def test_any_other_adapter_has_a_map_of_its_bytes(tmp_path):
    (tmp_path / "a.bin").write_bytes(bytes(range(70)))
    stream = FileAdapter().read(tmp_path / "a.bin")
    figure = heatmap(FileAdapter(), stream, np.arange(70.0))
    assert np.asarray(figure.axes[0].images[0].get_array())[1, :6].tolist() == [64, 65, 66, 67, 68, 69]


def test_surprise_is_what_the_stream_scores_with_its_end_last(text_model, tmp_path):
    bundle = load_model(text_model)
    stream = bundle.adapter.read(save_text(tmp_path / "a.txt", "aé" * 10))
    bits = surprise(bundle, stream, method="sliding")
    (scored,) = score_streams(bundle.model, [(stream.data, 0)], bundle.window, method="sliding")
    assert bits.shape == (31,)
    assert bits.sum() / 30 == pytest.approx(scored.bits_per_byte)
    of_bytes, end = split(stream, bits)
    assert (len(of_bytes), end) == (30, bits[-1])


def test_surprise_minds_the_class(save_checkpoint, tmp_path):
    bundle = load_model(save_checkpoint(TextAdapter(), window=24, classes=["cat"]))
    stream = bundle.adapter.read(save_text(tmp_path / "a.txt", "of a class"))
    assert not np.allclose(surprise(bundle, stream), surprise(bundle, stream, condition=1))


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
    bundle = load_model(text_model)
    stream = bundle.adapter.read(tmp_path / "in" / "two" / "b.md")
    first = surprise(bundle, stream, method="strided").sum() / len(stream.data)
    assert f"{first:.3f} bits per byte" in (out / "two_b.html").read_text(encoding="utf-8")
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


def test_a_diverged_models_bits_are_not_painted(text_model, tmp_path, monkeypatch):
    monkeypatch.setattr("megabyte_mm.models.Megabyte.nll", lambda self, ids, condition: ids * math.nan)
    with pytest.raises(ValueError, match="the model's output is not finite"):
        score(text_model, [save_text(tmp_path / "a.txt", "abc")], heatmap=str(tmp_path / "heat"))
    assert list((tmp_path / "heat").iterdir()) == []


@pytest.mark.parametrize(
    ("paths", "folder", "told"),
    [
        (["a.txt"], "a.txt", "--heatmap a.txt: is a file; name a folder"),
        (["a.txt"], "a.txt/heat", "--heatmap a.txt/heat: cannot be made a folder (Not a directory)"),
        (["a.txt", "{here}/a.txt"], "heat", "--heatmap heat: PATH names a file twice"),
    ],
)
def test_a_mistake_is_told_before_anything_is_scored(paths, folder, told, text_model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    save_text(Path("a.txt"), "some text")
    named = [path.format(here=tmp_path) for path in paths]
    assert main(["score", text_model, *named, "--heatmap", folder]) == 2
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"megabyte-mm score: error: {told}\n")
