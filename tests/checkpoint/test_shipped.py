"""The models that come with the package: that they load by name, are small, and are as good as their cards say."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import soundfile

from megabyte_mm import load_model
from megabyte_mm.checkpoint.shipped import FOLDER, PREFIX, shipped_folder, shipped_names
from megabyte_mm.cli.export import score_for_card
from megabyte_mm.cli.generate import generate
from megabyte_mm.cli.main import main

HELD_OUT = Path(__file__).parents[2] / "demo_models" / "held_out"
NAMES = [name.removeprefix(PREFIX) for name in shipped_names()]


def test_there_are_models_of_pictures_captions_texts_and_sounds():
    assert set(NAMES) == {"image", "speech", "text", "text-to-image"}


def test_an_unknown_name_is_refused_with_the_list(capsys):
    for command in (["generate", "demo:cat", "--out", "out"], ["info", "demo:cat"], ["score", "demo:", "a.png"]):
        assert main(command) == 2
        [line] = capsys.readouterr().err.splitlines()
        assert f"{command[1]}: no such model comes with megabyte-mm; there are demo:image, " in line


def test_a_folder_of_that_name_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("demo:image").mkdir()
    assert shipped_folder("demo:image") is None
    assert shipped_folder(Path("demo:text")) is None
    assert shipped_folder("demo:text") == FOLDER / "text"


@pytest.mark.parametrize("name", NAMES)
def test_a_model_is_small_and_names_its_licence(name):
    files = [path for path in (FOLDER / name).rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 3_000_000
    card = (FOLDER / name / "README.md").read_text(encoding="utf-8")
    assert f"\n# demo:{name}\n" in card
    assert re.search(r"^license: \S+$", card, re.MULTILINE)
    assert "\n## Licence" in card


@pytest.mark.parametrize("name", NAMES)
def test_a_model_scores_what_is_held_out_as_its_card_says(name):
    card = (FOLDER / name / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| [\d,]+ files? of `[\w-]+`, [\d,]+ bytes(?:, (\S+))? \| ([\d.]+) \|$", card, re.MULTILINE)
    scored = score_for_card(load_model(f"demo:{name}"), str(HELD_OUT / name))
    assert {part: score.bits_per_byte for part, score in scored.items()} == pytest.approx(
        {part: float(figure) for part, figure in rows}, rel=0.02, abs=0.0005
    )


def test_a_name_works_where_a_checkpoint_does(tmp_path, capsys):
    assert main(["info", "demo:text-to-image"]) == 0
    generate("demo:text-to-image", str(tmp_path), text=["a red heart on white, middle"], num_samples=1, device="cpu")
    assert [path.suffix for path in tmp_path.glob("a_red_heart*-*")] == [".png"]


def test_a_word_is_spoken(tmp_path):
    generate("demo:speech", str(tmp_path), text=["seven george"], num_samples=1, guidance=2.0, device="cpu")
    [path] = tmp_path.glob("seven_george*-*.wav")
    sound, rate = soundfile.read(path)
    assert (rate, len(sound)) == (5000, 2775)
    begin, end = sound[:2000], sound[-250:]
    assert np.sqrt((begin**2).mean()) > 0.01
    assert np.sqrt((end**2).mean()) < 0.5 * np.sqrt((begin**2).mean())  # words are shorter, and end in silence
