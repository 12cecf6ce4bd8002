import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from megabyte_mm.cli.main import main
from megabyte_mm.models import CONFIGS, TransformerConfig, register

DOCUMENT = Path(__file__).parents[2] / "docs" / "adding_a_model.md"

TINY = [
    *("--trainer.max_steps", "2", "--trainer.val_check_interval", "1", "--trainer.limit_val_batches", "1"),
    *("--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false", "--model.net.dim", "16"),
    *("--data.window", "64", "--data.batch_size", "1", "--samples.length", "8", "--samples.count", "1"),
]
"""What makes the documented training run a short one."""


def documented(language):
    return re.findall(rf"```{language}\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with the documented model in it, which is forgotten again."""
    (tmp_path / "my_models.py").write_text(documented("python")[0], encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.delitem(sys.modules, "my_models", raising=False)
    before = dict(CONFIGS)
    yield tmp_path
    CONFIGS.clear()
    CONFIGS.update(before)
    sys.modules.pop("my_models", None)


def test_the_documented_model_keeps_the_contract_by_the_documented_check(folder):
    exec(compile(documented("python")[1], "adding_a_model.md", "exec"), {})


def test_the_documented_model_trains_goes_on_generates_and_scores(folder, capfd):
    texts = folder / "media" / "text"
    for split in ("train", "val"):
        (texts / split).mkdir(parents=True)
        (texts / split / "a.txt").write_text("one fish two fish " * 9, encoding="utf-8")
    (folder / "my.yaml").write_text(documented("yaml")[0], encoding="utf-8")
    fit, generate, score = [line.split()[1:] for block in documented("sh") for line in block.splitlines()]
    assert main([*fit, *TINY]) == 0, capfd.readouterr().err
    assert main([*fit, *TINY, "--ckpt_path", "last", "--trainer.max_steps", "3"]) == 0, capfd.readouterr().err
    sys.modules.pop("my_models")
    CONFIGS.pop("gru")
    assert main([*score[:3]]) == 2
    assert "unknown model 'gru'" in capfd.readouterr().err
    assert main([*generate, "--length", "70", "--num_samples", "2"]) == 0, capfd.readouterr().err
    assert len(list((folder / "out" / "gru").iterdir())) == 2
    assert main(score) == 0, capfd.readouterr().err


def test_a_model_that_no_checkpoint_could_lead_back_to_is_refused_before_files_are_read(folder, capfd):
    (folder / "bare.py").write_text(documented("python")[0].replace("@register\n", ""), encoding="utf-8")
    assert main(["fit", "--model.net", "bare.GruConfig", "--data.path", "nowhere.txt"]) == 2
    assert "model.net: bare.GruConfig is not known by its name: put @megabyte_mm.models.register above" in (
        capfd.readouterr().err
    )


def test_a_module_that_is_not_there_is_one_line(folder, capfd):
    assert main(["score", "x.ckpt", "a.txt", "--import", "my_modles"]) == 2
    assert capfd.readouterr().err == "megabyte-mm score: error: --import my_modles: No module named 'my_modles'\n"


def test_a_name_is_given_once():
    @dataclass(frozen=True)
    class Taken(TransformerConfig):
        name: ClassVar[str] = "transformer"

    with pytest.raises(ValueError, match=r"'transformer' is taken by megabyte_mm\.models\.baselines\.transformer"):
        register(Taken)

    @dataclass(frozen=True)
    class Inherited(TransformerConfig):
        pass

    with pytest.raises(TypeError, match="must be a dataclass with a `name` of its own"):
        register(Inherited)
