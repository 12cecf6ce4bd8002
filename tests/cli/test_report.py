"""`report` from end to end, on folders as runs leave them, with untrained models."""

from __future__ import annotations

import math
import re
import shutil
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from data_adapters import ByteStream, ImageAdapter, TextAdapter
from megabyte_mm.cli.main import main
from megabyte_mm.cli.report import command

METRICS = "step,train/bpb,val/bpb,lr-AdamW\n9,7.0,,0.1\n9,,6.5,\n19,6.0,,0.2\n19,,6.25,\n"
HOSTILE = "a<script>&b.png"


class Parsed(HTMLParser):
    """What of a page the tests look at."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.text = page.read_text(encoding="utf-8")
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(self.text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def bits(self, heading: str) -> list[float]:
        """Bits per byte below the files under one heading."""
        part = self.text.partition(f"<h4>{heading}")[2].partition("</div></div>")[0].partition("<h4>")[0]
        return [float(value) for value in re.findall(r"<figcaption><b>([\d.]+)</b>", part)]

    def table(self) -> dict[str, list[str]]:
        """Codec -> the figures of its row."""
        rows = re.findall(r'<tr.*?><th scope="row">(.*?)</th>(.*?)</tr>', self.text)
        return {name: re.findall(r'<td class="number">(.*?)</td>', cells) for name, cells in rows}


@pytest.fixture
def pictures(tmp_path) -> Path:
    """8 x 4 grey pictures of which the first are plain, the others noise."""
    for number, name in enumerate([HOSTILE, "b.png", "c.png", "d.png"]):
        for split in ("train", "val"):
            path = tmp_path / "pictures" / split / name
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng(number).integers(0, 4**number + 1, (4, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(path)
    return tmp_path / "pictures"


@pytest.fixture
def run(tmp_path, save_checkpoint, pictures) -> Path:
    """A run on the pictures, with two validations."""
    folder = tmp_path / "runs" / "small"
    adapter = ImageAdapter(mode="L", size=(8, 4))
    leave(folder, save_checkpoint(adapter, window=32, patch_size=16), pictures, adapter)
    for step in (10, 20):
        samples = folder / f"logs/version_0/samples/step-{step:07d}"
        samples.mkdir(parents=True)
        shutil.copy(pictures / "val/b.png", samples / "contact_sheet.png")
    return folder


def leave(folder: Path, checkpoint: Path, data: Path, adapter, **more) -> Path:
    """What training leaves in a folder, but for samples."""
    (folder / "logs/version_0").mkdir(parents=True)
    shutil.copy(checkpoint, folder / "best.ckpt")
    reader = {"class_path": f"data_adapters.{type(adapter).__name__}", "init_args": adapter.settings()}
    config = {"data": {"path": str(data), "adapter": reader, "window": None, **more}, "model": {"method": "plain"}}
    (folder / "logs/version_0/config.yaml").write_text(yaml.safe_dump(config))
    (folder / "logs/version_0/metrics.csv").write_text(METRICS)
    return folder


def test_the_page_loads_nothing_and_no_name_becomes_markup(run, capsys):
    assert main(["report", str(run), "--device", "cpu"]) == 0
    assert re.search(r"report.html: \d+\.\d kB", capsys.readouterr().out)
    page = Parsed(run / "report.html")
    assert not page.open
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "link", "iframe", "object", "base"})
    loaded = [its[name] or "" for _, its in page.tags for name in ("src", "href", "poster", "data") if name in its]
    assert loaded
    assert all(value.startswith(("data:image/png;base64,", "#")) for value in loaded)
    [policy] = [its["content"] for _, its in page.tags if its.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    assert policy.startswith("default-src 'none';")
    assert not re.search(r"https?:|url\((?!#)|@import", page.text)
    assert "val/a&lt;script&gt;&amp;b.png" in page.text
    ids = [its["id"] for _, its in page.tags if "id" in its]
    assert len(ids) == len(set(ids))
    assert all(its.get("scope") in ("col", "row") for tag, its in page.tags if tag == "th")
    assert all(its.get("alt") for tag, its in page.tags if tag == "img")


def test_figures_are_those_of_score_and_of_the_log(run, pictures, capsys):
    assert main(["report", str(run)]) == 0
    assert main(["score", str(run / "best.ckpt"), str(pictures / "val")]) == 0
    page, scored = Parsed(run / "report.html"), capsys.readouterr().out.splitlines()[-1]
    [model, *_] = page.table()["this model"]
    assert float(model) == pytest.approx(float(scored.split()[-1]), abs=6e-4)
    assert page.table().keys() == {"this model", "PNG", "WebP", "JPEG XL", "xz", "zstd", "brotli"}
    assert [len(figures) for figures in page.table().values()] == [2] * 7
    assert page.table()["PNG"][1] == "–"
    assert page.table()["xz"][1] < page.table()["xz"][0]
    assert "<dt>best val/bpb</dt><dd>6.2500</dd>" in page.text
    assert '<h3>update 10 <span class="soft">val/bpb 6.5000</span></h3>' in page.text
    assert "All 4 validation files: 128 bytes." in page.text


def summaries(page: Path) -> list[str]:
    """The figures of completions of each update."""
    return re.findall(r'</h3><p class="soft">(.*?)</p>', page.read_text(encoding="utf-8"))


def test_samples_are_compared_with_the_files_that_they_continue(run, pictures):
    adapter = ImageAdapter(mode="L", size=(8, 4))
    for step in (10, 20):
        folder = run / f"logs/version_0/samples/step-{step:07d}"
        for number, file in enumerate(sorted((pictures / "val").iterdir())):
            stream = adapter.read(file)
            data = stream.data.copy()
            if step == 10:
                data[24:] = 255  # the last quarter: half of what was generated
            adapter.write(ByteStream(data, stream.format), folder / f"val-{number:02d}-000.png")
    assert main(["report", str(run)]) == 0
    half, all_right = summaries(run / "report.html")
    assert half.startswith("pixels right 0.50, shape IoU 0.")
    assert all_right == "pixels right 1.00, shape IoU 1.00"
    assert "Figures compare the generated parts with the originals." in Parsed(run / "report.html").text


def test_samples_of_other_data_are_not_compared(run):
    for step in (10, 20):
        folder = run / f"logs/version_0/samples/step-{step:07d}"
        Image.fromarray(np.full((4, 8), 200, np.uint8)).save(folder / "val-00-000.png")
        (folder / "val-01-000.png").write_bytes(b"damaged")
    assert main(["report", str(run)]) == 0
    assert summaries(run / "report.html") == []


def test_words_of_a_text_are_compared_with_those_of_the_training_text(tmp_path, save_checkpoint):
    for split, text in (("train", "one two three four"), ("val", "zero one two six. ")):
        (tmp_path / "texts" / split).mkdir(parents=True)
        (tmp_path / f"texts/{split}/a.txt").write_text(text)
    adapter = TextAdapter()
    run = leave(tmp_path / "run", save_checkpoint(adapter, 18), tmp_path / "texts", adapter, window=18)
    folder = run / "logs/version_0/samples/step-0000010"
    folder.mkdir(parents=True)
    (folder / "val-00-000.txt").write_text("zero one four wxyz two ten ")  # continues after "zero one "
    assert main(["report", str(run)]) == 0
    assert summaries(run / "report.html") == ["known words 0.50, in the originals 0.50"]


def test_the_model_reads_each_file_with_its_class(tmp_path, save_checkpoint, capsys):
    for number, name in enumerate(["train/cat/a", "train/dog/a", "val/cat/a", "val/dog/a"]):
        path = tmp_path / "texts" / f"{name}.txt"
        path.parent.mkdir(parents=True)
        path.write_text(f"{number}" * 40)
    adapter = TextAdapter()
    checkpoint = save_checkpoint(adapter, 24, classes=["cat", "dog"])
    run = leave(tmp_path / "run", checkpoint, tmp_path / "texts", adapter, window=24, classes=True)
    assert main(["report", str(run)]) == 0
    assert main(["score", str(run / "best.ckpt"), str(tmp_path / "texts/val")]) == 0
    scored = float(capsys.readouterr().out.split()[-1])
    assert float(Parsed(run / "report.html").table()["this model"][0]) == pytest.approx(scored, abs=6e-4)


def test_the_best_and_the_worst_stand_in_order(run):
    assert main(["report", str(run)]) == 0
    page = Parsed(run / "report.html")
    best, worst = page.bits("Best files"), page.bits("Worst files")
    assert (len(best), len(worst)) == (2, 2)
    assert best == sorted(best)
    assert worst == sorted(worst, reverse=True)
    assert best[-1] <= worst[-1]


def test_the_page_is_the_same_when_it_is_built_again(run):
    pages = [run.parent / "a.html", run.parent / "b.html"]
    for page in pages:
        assert main(["report", str(run), "--out", str(page)]) == 0
    assert pages[0].read_bytes() == pages[1].read_bytes()
    assert [path.name for path in run.parent.iterdir() if path.is_file()] in (
        ["a.html", "b.html"],
        ["b.html", "a.html"],
    )


def test_the_page_names_the_share_of_measured_files(run):
    assert main(["report", str(run), "--files", "3"]) == 0
    assert "3 of 4 validation files, evenly spaced: 96 bytes." in Parsed(run / "report.html").text
    assert main(["report", str(run), "--megabytes", "0.00007"]) == 0
    assert "2 of 4 validation files, evenly spaced: 64 bytes." in Parsed(run / "report.html").text


def test_a_text_of_one_file_is_compared_by_passages_and_its_samples_are_text(tmp_path, save_checkpoint):
    for split in ("train", "val"):
        (tmp_path / "texts" / split).mkdir(parents=True)
        (tmp_path / f"texts/{split}/a.txt").write_text("</pre><script>alert(1)</script>" * 20)
    adapter = TextAdapter()
    run = leave(tmp_path / "run", save_checkpoint(adapter, 24), tmp_path / "texts", adapter, window=24)
    for step, generated in ((10, "<b>"), (20, "<i>")):
        (run / f"logs/version_0/samples/step-{step:07d}").mkdir(parents=True)
        (run / f"logs/version_0/samples/step-{step:07d}/val-00-000.txt").write_text(f"<script>given{generated}")
    assert main(["report", str(run), "--megabytes", "0.0001"]) == 0
    page = Parsed(run / "report.html")
    assert "The first part of the only validation file: 100 bytes." in page.text
    assert "val/a.txt, from byte 24" in page.text
    assert len(page.bits("Best passages")) == 2
    assert page.table()["this model"] == page.table()["this model"][:1]  # nothing to join
    assert '<span class="prefix">&lt;script&gt;given&lt;</span><span class="generated">b&gt;</span>' in page.text
    assert "script" not in {tag for tag, _ in page.tags}


def test_a_run_without_its_data_has_a_page_with_a_note(run, pictures, capsys):
    moved = pictures.rename(pictures.with_name("moved"))
    assert main(["report", str(run)]) == 0
    message = capsys.readouterr().err.splitlines()
    assert len(message) == 1
    assert message[0].startswith(f"The data cannot be read; no files were measured: data.path {pictures}: no such file")
    page = Parsed(run / "report.html")
    assert "The data cannot be read" in page.text
    assert "Samples over time" in page.text
    assert not page.table()
    assert main(["report", str(run), "--data", str(moved)]) == 0
    page = Parsed(run / "report.html")
    assert page.table()
    assert f"<dd>{moved}</dd>" in page.text


def test_a_page_shows_what_a_run_has_and_notes_the_rest(run, capsys):
    shutil.rmtree(run / "logs/version_0/samples")
    (run / "best.ckpt").write_bytes(b"damaged")
    (run / "logs/version_0/metrics.csv").unlink()
    assert main(["report", str(run)]) == 0
    notes = Parsed(run / "report.html").text.partition('<ul class="notes">')[2].partition("</ul>")[0]
    assert re.findall(r"<li>(.*?)[:.]", notes) == [
        *("The model cannot be loaded; no files were measured", "The run left no metrics", "The run left no samples")
    ]
    (run / "best.ckpt").unlink()
    (run / "logs/version_0/config.yaml").write_text("data: [")
    assert main(["report", str(run)]) == 0
    message = capsys.readouterr().err
    assert "The run has no checkpoint" in message
    assert "The run's config cannot be read" in message


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (math.nan, "The model cannot be loaded; no files were measured: {path}: its weights are not finite"),
        (3e38, "No files were measured: the model's output is not finite"),
    ],
)
def test_a_diverged_model_is_not_measured(run, capsys, number, message):
    checkpoint = torch.load(run / "best.ckpt")
    for weight in checkpoint["state_dict"].values():
        weight.fill_(number)
    torch.save(checkpoint, run / "best.ckpt")
    assert main(["report", str(run)]) == 0
    assert message.format(path=run / "best.ckpt") in capsys.readouterr().err


def test_a_codec_that_is_not_installed_is_left_out_with_the_reason(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "brotli", None)
    assert main(["report", str(run)]) == 0
    page = Parsed(run / "report.html")
    assert page.table()["brotli"] == ["–", "–"]
    assert "left out: brotli is not installed: pip install &#x27;megabyte-mm[report]&#x27;" in page.text


def test_mistakes_are_reported_in_one_line(run, tmp_path, capsys):
    for arguments, message in {
        ("report", str(tmp_path)): "not the folder of a run",
        ("report", str(run), "--data", str(tmp_path / "none")): "--data",
        ("report", str(run), "--checkpoint", "none.ckpt"): "none.ckpt: no such file",
        ("report", str(run), "--out", str(tmp_path)): "no file can be written there",
        ("report", str(run), "--files", "0"): "--files is 0",
        ("report", str(run), "--megabytes", "0"): "--megabytes is 0",
        ("report", str(run), "--megabytes", ".inf"): "--megabytes is inf",
    }.items():
        assert main(list(arguments)) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
    assert not (run / "report.html").exists()


def test_large_samples_are_left_out_and_counted(run, monkeypatch):
    monkeypatch.setattr(command, "PAGE_BYTES", 500)
    assert main(["report", str(run)]) == 0
    page = Parsed(run / "report.html")
    embedded = sum(len(its.get("src") or "") for tag, its in page.tags if tag == "img")
    assert 0 < embedded < 500 + 30 * 6
    assert re.search(r"<li>\d pictures or sounds are left out", page.text)
