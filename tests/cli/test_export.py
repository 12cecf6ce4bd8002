"""`export` from end to end, on untrained models: the folder, its card, and what it replaces."""

from __future__ import annotations

import ast
import math
import re
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from data_adapters import AudioAdapter, ImageAdapter, TextAdapter
from megabyte_mm import load_model
from megabyte_mm.checkpoint.provenance import Provenance, from_run
from megabyte_mm.cli.export import export
from megabyte_mm.cli.generate import generate
from megabyte_mm.cli.main import main
from megabyte_mm.cli.score import score
from megabyte_mm.export import folder as folders
from megabyte_mm.export.card import Card, model_card
from megabyte_mm.models import TransformerConfig
from tests.checkpoint.test_exported import MIX, STACK, save_other
from tests.checkpoint.test_load import NoteAdapter


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def pictures(save_checkpoint) -> str:
    return str(save_checkpoint(ImageAdapter("L", (8, 8), patch=2), window=64, classes=["cat", "dog"], name="p.ckpt"))


@pytest.fixture
def texts(save_checkpoint) -> str:
    return str(save_checkpoint(TextAdapter(), window=24, name="t.ckpt"))


def card(folder: str = "shared") -> tuple[dict, str]:
    """The front matter and the text of a card."""
    _, front, text = Path(folder, "README.md").read_text(encoding="utf-8").split("---\n", 2)
    return yaml.safe_load(front), text


def names(folder: str = "shared") -> set[str]:
    return {path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file()}


def test_a_folder_holds_weights_config_card_and_samples(pictures, capsys):
    export(pictures, "shared", samples=3, license="mit")
    samples = {"samples/contact_sheet.png", *(f"samples/sample-{i:03d}.png" for i in range(3))}
    assert names() == {"model.safetensors", "config.json", "README.md"} | samples
    assert set(capsys.readouterr().out.splitlines()) == {f"shared/{name}" for name in names()}
    front, text = card()
    assert front == {
        "library_name": "megabyte-mm",
        "license": "mit",
        "pipeline_tag": "unconditional-image-generation",
        "tags": ["megabyte", "bytes", "image"],
    }
    assert "\n# shared\n" in text
    assert "![contact_sheet.png](samples/contact_sheet.png)" in text
    assert "The classes in turn: `cat`, `dog` and `cat`." in text
    with Image.open("shared/samples/contact_sheet.png") as sheet:
        assert sheet.size > (200, 200)
    assert [path for path in Path().iterdir() if path.name.startswith(".")] == []


def test_samples_are_those_that_generate_makes_with_the_same_seed(texts):
    export(texts, "shared", samples=2)
    generate("shared", "out", num_samples=2, device="cpu")
    for name in ("sample-000.txt", "sample-001.txt"):
        assert Path("out", name).read_bytes() == Path("shared/samples", name).read_bytes()


def test_the_card_holds_what_the_run_knew_and_nothing_of_the_machine(texts, tmp_path):
    checkpoint = torch.load(texts, weights_only=True)
    checkpoint["global_step"] = 1200
    checkpoint["callbacks"] = {
        "Throughput": {"bytes": 345678},
        "BestCheckpoint": {"val/bpb": 1.5},
        "RunReport": {
            "data_name": "books",
            "data": {"": {"train": {"files": 7, "bytes": 4000}, "val": {"files": 1, "bytes": 90}}},
            "val_bpb": {"": 2.125},
            "method": "sliding",
        },
    }
    torch.save(checkpoint, texts)
    export(texts, "shared", samples=0)
    _, text = card()
    assert "Trained on `books`." in text
    assert "7 files (4,000 bytes) to train on and 1 file (90 bytes) to validate." in text
    assert "1,200 steps of training, in which 345,678 bytes were read." in text
    assert "| validation of its training, sliding | 2.1250 |" in text
    for name in ("README.md", "config.json"):
        assert str(tmp_path) not in Path("shared", name).read_text()
        assert not re.search(r"[\"' (]/\w", Path("shared", name).read_text().replace("](https:/", ""))
    assert load_model("shared").provenance == from_run(checkpoint)
    export("shared", "again", samples=0)
    assert Path("again/config.json").read_bytes() == Path("shared/config.json").read_bytes()


def test_the_card_of_an_older_run_holds_its_best_validation(texts):
    checkpoint = torch.load(texts, weights_only=True)
    torch.save(checkpoint | {"callbacks": {"BestCheckpoint": {"val/bpb": 1.5}, "RunReport": 3}}, texts)
    export(texts, "shared", samples=0)
    assert "| lowest validation of its training so far | 1.5000 |" in card()[1]


def test_files_are_scored_as_score_does(texts, tmp_path, capsys):
    Path("mine").mkdir()
    Path("mine/a.txt").write_text("the quick brown fox jumps over the lazy dog")
    score(texts, ["mine"])
    message = capsys.readouterr().out.splitlines()[-1].split()[-1]
    export(texts, "shared", data="mine", samples=0)
    assert f"| 1 file of `mine`, 43 bytes | {message} |" in card()[1]
    Path("empty").mkdir()
    with pytest.raises(ValueError, match="empty: no file of text"):
        export(texts, "other", data="empty", samples=0)
    assert not Path("other").exists()


def test_figures_and_samples_of_a_card_are_those_of_the_rounded_weights(texts, capsys):
    Path("mine").mkdir()
    Path("mine/a.txt").write_text("the quick brown fox jumps over the lazy dog")
    export(texts, "shared", data="mine", samples=1, precision="int8")
    _, text = card()
    assert "| weights | int8, a scale for each row |" in text
    generate("shared", "out", num_samples=1, device="cpu")
    assert Path("out/sample-000.txt").read_bytes() == Path("shared/samples/sample-000.txt").read_bytes()
    capsys.readouterr()
    score("shared", ["mine"])
    assert f"| 1 file of `mine`, 43 bytes | {capsys.readouterr().out.split()[-1]} |" in text
    export("shared", "again", samples=0, precision="int8")
    assert Path("again/model.safetensors").read_bytes() == Path("shared/model.safetensors").read_bytes()


def test_notes_become_a_part_of_the_card(texts):
    Path("notes.md").write_text("## Attribution\n\nRecordings by Ann, CC BY-SA 4.0.\n")
    export(texts, "shared", samples=0, notes="notes.md")
    assert "\n\n## Attribution\n\nRecordings by Ann, CC BY-SA 4.0.\n\n## Use\n" in card()[1]


def test_a_mix_has_samples_and_figures_of_each_modality(capsys):
    torch.manual_seed(0)
    data = {
        **MIX,
        "sources": {**MIX["sources"], "../up": {"adapter": {"name": "text", "settings": {}}, "fixed_length": False}},
    }
    data["conditions"] = ["none", "pictures", "sounds", "../up"]
    save_other(Path("mix.ckpt"), TransformerConfig(max_len=16, conditions=4, stack=STACK), data)
    Path("mine").mkdir()
    Path("mine/a.txt").write_text("abc")
    Image.fromarray(np.zeros((4, 4), np.uint8)).save("mine/a.png")
    export("mix.ckpt", "shared", samples=1, data="mine")
    front, text = card()
    assert "pipeline_tag" not in front
    assert front["tags"] == ["transformer", "bytes", "audio", "image", "text"]
    sheet, sound, words = "pictures/contact_sheet.png", "sounds/sample-000.wav", "___up/sample-000.txt"
    assert {f"samples/{sheet}", f"samples/{sound}", f"samples/{words}"} < names()
    assert names() - {f"samples/{name}" for name in (sheet, sound, words, "pictures/sample-000.png")} == {
        "README.md",
        "config.json",
        "model.safetensors",
    }
    assert "### sounds\n\n[sample-000.wav](samples/sounds/sample-000.wav)\n" in text
    assert re.search(r"\| 1 file of `mine`, 16 bytes, pictures \| \d+\.\d{4} \|", text)
    generate("shared", "out", condition="sounds", num_samples=1, device="cpu")
    assert Path("out/sample-000.wav").is_file()


def test_what_has_no_default_format_has_no_samples(save_checkpoint, capsys):
    export(str(save_checkpoint(AudioAdapter(), window=32)), "shared")
    assert "no samples: " in capsys.readouterr().err
    assert names() == {"README.md", "config.json", "model.safetensors"}
    assert "## Samples" not in card()[1]
    assert "--out out\n" not in card()[1]


@pytest.mark.parametrize("kind", ["pictures", "texts", "mix"])
def test_the_commands_and_the_code_of_a_card_work(kind, request, capsys):
    if kind == "mix":
        checkpoint = save_other(Path("mix.ckpt"), TransformerConfig(max_len=16, conditions=3, stack=STACK), MIX)
    else:
        checkpoint = request.getfixturevalue(kind)
    export(str(checkpoint), "it's shared", samples=1)
    Image.fromarray(np.zeros((8, 8), np.uint8)).save("a.png")
    Path("a.txt").write_text("abc")
    _, text = card("it's shared")
    [shell] = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    for line in shell.splitlines():
        words = shlex.split(line)
        assert words[0] == "megabyte-mm"
        assert main(words[1:]) == 0, capsys.readouterr().err
    [code] = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    exec(compile(code, "README.md", "exec"), {})
    [generated] = Path().glob("generated.*")
    assert generated.stat().st_size


def test_an_adapter_of_the_users_own_is_named(save_checkpoint):
    path = str(save_checkpoint(NoteAdapter("blue"), window=16))
    export(path, "shared", adapter="tests.checkpoint.test_load.NoteAdapter", samples=1)
    front, text = card()
    assert front["tags"] == ["megabyte", "bytes", "note"]
    assert "`note (ink blue)`" in text
    generate("shared", "out", adapter="tests.checkpoint.test_load.NoteAdapter", num_samples=1, device="cpu")
    assert Path("out/sample-000.note").is_file() or Path("out/sample-000.txt").is_file()


def test_names_and_texts_do_nothing_in_a_card(save_checkpoint):
    labels = ["a`b", "x|y", "<script>", "three ``` ticks"]
    export(str(save_checkpoint(TextAdapter(), window=24, classes=labels)), "shared", samples=4, name="![a](b) <b>")
    _, text = card()
    assert "\n# \\!\\[a\\](b) \\<b\\>\n" in text
    assert "`` a`b ``, `x\\|y`, `<script>` and ```` three ``` ticks ````" in text


def test_what_a_stranger_says_of_a_models_training_does_nothing_in_a_card(save_checkpoint):
    bundle = load_model(save_checkpoint(TextAdapter(), window=24))
    message = Provenance(data_name="<b>", val_bpb={"<b>": 1.0}, method="<script>\n# plain")
    text = model_card(Card("shared", replace(bundle, provenance=message)), {})
    assert "| validation of its training, \\<script\\>\\\\n\\# plain, \\<b\\> | 1.0000 |" in text
    assert "Trained on `<b>`." in text


def test_a_class_of_any_name_is_found_by_the_code_of_a_card(save_checkpoint):
    bundle = load_model(save_checkpoint(TextAdapter(), window=24, classes=["\U0001f600"]))
    text = model_card(Card("shared", bundle), {})
    [written] = re.findall(r"conditions\.index\((.*?)\)", text)
    assert ast.literal_eval(written) == "\U0001f600"


# Places


def test_a_folder_with_something_in_it_is_left_alone_without_overwrite(texts, pictures, capsys):
    export(texts, "shared", samples=3)
    Path("shared/notes.txt").write_text("mine")
    Path("shared/samples/mine.txt").write_text("mine")
    before = {name: Path("shared", name).read_bytes() for name in names()}
    with pytest.raises(ValueError, match=r"shared: is not empty; name a new folder, or add --overwrite"):
        export(pictures, "shared")
    assert {name: Path("shared", name).read_bytes() for name in names()} == before
    export(pictures, "shared", samples=1, overwrite=True)
    kept = {"notes.txt", "samples/mine.txt"}
    assert names() - kept == {
        "README.md",
        "config.json",
        "model.safetensors",
        "samples/contact_sheet.png",
        "samples/sample-000.png",
    }
    assert kept <= names()
    assert load_model("shared").window == 64
    with pytest.raises(ValueError, match="README.md: is a file"):
        export(texts, "shared/README.md")


def test_what_fails_leaves_nothing(texts, monkeypatch):
    def full(*_: object) -> str:
        raise OSError(28, "No space left on device", "README.md")

    monkeypatch.setattr(folders, "model_card", full)
    with pytest.raises(OSError, match="No space left"):
        export(texts, "new/shared", samples=1)
    assert [path.name for path in Path("new").iterdir()] == []


def test_what_a_kill_left_beside_the_folder_is_cleaned_up(texts):
    Path(".shared.tmp/samples").mkdir(parents=True)
    Path(".shared.tmp/samples/sample-009.txt").write_text("half")
    export(texts, "shared", samples=0)
    assert names() == {"README.md", "config.json", "model.safetensors"}
    assert not Path(".shared.tmp").exists()


def test_between_two_exports_nobody_loads_one_with_the_weights_of_the_other(texts, pictures, monkeypatch):
    export(texts, "shared", samples=0)
    replace = Path.replace

    def killed(path: Path, target: Path) -> Path:
        if path.name == "model.safetensors":
            raise KeyboardInterrupt
        return replace(path, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            export(pictures, "shared", samples=0, overwrite=True)
    with pytest.raises(ValueError, match=r"shared: an exported model holds .*there is no file config\.json"):
        load_model("shared")
    export(pictures, "shared", samples=0, overwrite=True)
    assert load_model("shared").window == 64


def test_mistakes_are_reported_in_a_line(texts, capsys):
    for arguments, message in (
        (["export", "gone.ckpt", "shared"], "gone.ckpt: no such file or directory"),
        (["export", texts, "shared", "--samples=-1"], "--samples is -1; it must be 0 or more"),
        (["push", texts, "no-user"], "'no-user' is not an id of the hub; it must be user/name"),
    ):
        assert main(arguments) == 2
        assert capsys.readouterr().err.endswith(f"{message}\n")
    assert not Path("shared").exists()


def test_a_diverged_model_is_not_exported(texts):
    checkpoint = torch.load(texts, weights_only=True)
    next(iter(checkpoint["state_dict"].values())).flatten()[0] = math.nan
    torch.save(checkpoint, texts)
    with pytest.raises(ValueError, match="weights are not finite: its training has diverged; take an earlier"):
        export(texts, "shared", samples=0)
    assert not Path("shared").exists()
