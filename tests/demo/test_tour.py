"""The demo from end to end, with a stand-in for megabyte-mm that does not train."""

import re
import sys
from pathlib import Path

import pytest
import torch
import tour
from run import main

ROOT = Path(__file__).resolve().parents[2]
STAND_IN = """
import argparse, shutil, sys
from pathlib import Path

sys.path.insert(0, {root!r})
parser = argparse.ArgumentParser()
parser.add_argument("command")
parser.add_argument("folder", nargs="?")
parser.add_argument("--config")
parser.add_argument("--out", type=Path)
parser.add_argument("--prefix", nargs="+", type=Path, default=[])
parser.add_argument("--pairs", type=Path)
parser.add_argument("--num_samples", type=int)
parser.add_argument("--trainer.max_time", dest="max_time")
arguments = parser.parse_known_args()[0]
with open("calls.txt", "a") as calls:
    print(*sys.argv[1:], file=calls)
if arguments.command == "demo-data":
    from megabyte_mm.demo_data import make_demo_data, make_demo_pairs
    make_demo_data(Path(arguments.folder), pictures=80, melodies=2)
    make_demo_pairs(arguments.pairs, pictures=160, melodies=48)
elif arguments.command == "fit":
    if arguments.config == Path("broken").read_text():
        sys.exit(3)
    run = Path("runs", "demo-" + Path(arguments.config).stem)
    run.mkdir(parents=True)
    shutil.copy("model.ckpt", run / "best.ckpt")
    (run / "logs/version_0").mkdir(parents=True)
    (run / "logs/version_0/metrics.csv").write_text(
        "step,train/bpb,val/bpb,val/bpb/text+image/image,val/bpb/audio+text/text\\n1,3.0,,,\\n1,,2.5,2.5,2.5\\n"
    )
else:
    name = arguments.out.name
    suffix = dict(image=".png", audio=".wav", text=".py", captions=".png", words=".wav", notes=".txt")[name]
    for prefix in arguments.prefix or [None]:
        source = prefix.with_suffix(suffix) if prefix else next(Path("media").glob("*/val/**/*" + suffix))
        for index in range(arguments.num_samples):
            stem = prefix.stem if prefix else "sample"
            arguments.out.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, arguments.out / f"{{stem}}-{{index:03}}{{suffix}}")
"""


@pytest.fixture
def root(tmp_path, monkeypatch):
    (tmp_path / "stand_in.py").write_text(STAND_IN.format(root=str(ROOT)))
    (tmp_path / "broken").write_text("nothing")
    torch.save({"state_dict": {"a": torch.zeros(30, 40), "b": torch.zeros(34)}}, tmp_path / "model.ckpt")
    monkeypatch.setattr(tour, "PROGRAM", (sys.executable, str(tmp_path / "stand_in.py")))
    monkeypatch.setattr("run.ROOT", tmp_path)
    return tmp_path


def test_the_page_shows_all_modalities_and_a_second_run_replaces_the_first(root, capsys):
    for _ in range(2):
        assert main(["--minutes", "0.05"]) == 0
    page = (root / "gallery/index.html").read_text(encoding="utf-8")
    assert [f'id="{kind}"' in page for kind in ("image", "audio", "text", "captions", "notes")] == [True] * 5
    assert page.count("<img ") == 8 + 1 + 8 + 10 * 4 + 10 * 3
    assert page.count("<audio ") == 8 + 1 * 2 + 6 + 1
    assert page.count("<dd>1,234</dd>") == 5
    assert page.count("<td>2.500</td>") == 5
    # The stand-in copies the originals, one of two of a caption.
    assert re.findall(r"equal to an original</dt><dd>(.*?)</dd>", page) == ["20 of 20", "6 of 6"]
    assert "megabyte-mm fit --config demo/text.yaml --trainer.max_time 00:00:00:01" in page
    assert "gallery/index.html is ready" in capsys.readouterr().out


def test_only_the_folders_of_the_demo_are_replaced(root):
    others = [root / "runs/mine/best.ckpt", root / "gallery/mine.txt"]
    for path in others:
        path.parent.mkdir(parents=True)
        path.touch()
    assert main([]) == 0
    assert all(path.exists() for path in others)


def test_the_page_is_there_before_the_first_training(root):
    (root / "broken").write_text("demo/image.yaml")
    assert main([]) == 1
    page = (root / "gallery/index.html").read_text(encoding="utf-8")
    assert page.count("<img ") == 8 + 1
    assert "still in training" in page


def test_a_failing_command_is_named_and_nothing_runs_after_it(root, capsys):
    (root / "broken").write_text("demo/audio.yaml")
    assert main([]) == 1
    command = "megabyte-mm fit --config demo/audio.yaml --trainer.max_time 00:00:02:28"
    assert capsys.readouterr().err == f"demo: command failed with exit code 3: {command}\n"
    assert (root / "calls.txt").read_text().splitlines()[-1] == command.removeprefix("megabyte-mm ")
    assert "still in training" in (root / "gallery/index.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(("minutes", "expected"), [(2, "00:00:02:00"), (0.001, "00:00:00:01"), (1510, "01:01:10:00")])
def test_minutes_are_formatted_for_lightning(minutes, expected):
    assert tour._max_time(minutes) == expected
