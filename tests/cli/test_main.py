"""The command line: its help, its exit codes, and one line for each mistake."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from data_adapters import ImageAdapter, TextAdapter
from megabyte_mm.cli import main as cli
from megabyte_mm.cli.arguments import argument_helps
from megabyte_mm.cli.commands import COMMANDS, OWN_COMMANDS
from megabyte_mm.cli.main import find_function, main
from megabyte_mm.cli.packaged import find_config, with_config_paths


@pytest.fixture(autouse=True)
def search_path(monkeypatch):
    """`main` adds the current folder to it."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delenv(cli.DEBUG, raising=False)


def mistake(capsys, *arguments: str) -> str:
    """The one line on stderr that a user's mistake leads to."""
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1, err
    return err.rstrip("\n")


@pytest.mark.parametrize("arguments", [[], ["-h"], ["--help"]])
def test_help_lists_every_command_with_an_example(arguments, capsys):
    assert main(arguments) == 0
    out = capsys.readouterr().out
    for name, command in COMMANDS.items():
        assert f"\n  {name} " in out
        assert command.summary in out
        assert command.example.splitlines()[0] in out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_its_examples(name, capsys):
    assert main([name, "--help"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"usage: megabyte-mm {name} ")
    assert out.rstrip().endswith(f"examples:\n  {COMMANDS[name].example}")


@pytest.mark.parametrize("name", OWN_COMMANDS)
def test_every_argument_is_explained(name):
    function = find_function(name)
    helps = argument_helps(function)
    assert set(helps) == set(function.__code__.co_varnames[: function.__code__.co_argcount])
    assert all(helps.values())


def test_the_version_is_printed(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("megabyte-mm 0.")


def test_an_unknown_command_is_answered_with_those_there_are(capsys):
    message = mistake(capsys, "frobnicate")
    assert message == f"megabyte-mm: error: unknown command 'frobnicate'; known: {', '.join(COMMANDS)}"


# Mistakes


@pytest.fixture
def model(save_checkpoint) -> str:
    return str(save_checkpoint(TextAdapter(), window=16))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["generate", "x.ckpt", "--out", "o"], "x.ckpt: no such file or directory"),
        (["generate", ".", "--out", "o"], ".: is a directory"),
        (["generate", "notes.txt", "--out", "o"], "notes.txt: not a checkpoint, or a damaged one"),
        (["generate", "x.ckpt", "--out", "o", "--top_k", "few"], "--top_k few: expected int"),
        (["generate", "x.ckpt", "--out", "o", "--num_samples", "1.5"], "--num_samples 1.5: expected int"),
        (["generate", "x.ckpt", "--out", "o", "--keep=half"], "--keep half: expected float"),
        (["generate", "x.ckpt", "--out", "o", "--length", "0"], "--length is 0; it must be at least 1"),
        (["generate", "x.ckpt", "--out", "o", "--adapter", "mine"], "'mine' is not an import path"),
        (["generate", "x.ckpt", "--out", "o", "--adapter", "mine.Own"], "cannot import 'mine.Own': No module named"),
        (["generate", "x.ckpt", "--out", "o", "--device", "abacus"], "--device abacus: not available here"),
    ],
)
def test_a_mistake_is_reported_in_one_line(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("notes.txt").write_text("no model")
    assert mistake(capsys, *arguments).startswith(f"megabyte-mm {arguments[0]}: error: {message}")
    assert not Path("o").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--temperature", "-1"], "--temperature is -1.0; it must be a number from 0 up"),
        (["--top_p", "0"], "--top_p is 0.0; it must be above 0 and at most 1"),
        (["--prefix", "notes.txt", "--keep", "2"], "--keep is 2.0; it must be between 0 and 1"),
        (["--condition", "cat"], "--condition cat: unknown to this model; it was trained without classes"),
        (["--prefix", "song.mid"], "song.mid: cannot be read: No such file or directory"),
        (["--prefix", "folder"], "folder: is a folder; --prefix takes files"),
        (["--prefix", "cat.png"], "cat.png: is of modality image; this model reads text files (.txt"),
        (["--prefix"], "argument --prefix: expected at least one argument"),
        (["--out", "cat.png"], "--out cat.png: cannot create this folder (File exists)"),
    ],
)
def test_a_mistake_with_a_good_model_is_reported_in_one_line(arguments, message, capsys, tmp_path, monkeypatch, model):
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("notes.txt").write_text("la la")
    Image.new("L", (8, 8)).save("cat.png")
    got = mistake(capsys, "generate", model, *(["--out", "o"] if "--out" not in arguments else []), *arguments)
    assert got.startswith(f"megabyte-mm generate: error: {message}")


def test_what_is_missing_or_unknown_is_named(capsys):
    assert re.search("error: .*folder.*", mistake(capsys, "demo-data"))
    assert re.search("error: .*out.*required|error: .*required.*out", mistake(capsys, "generate", "x.ckpt"))
    assert "recognized arguments: --colour red" in mistake(capsys, "demo-data", "a", "--colour", "red")


def test_the_former_name_of_demo_data_still_works(capsys):
    assert mistake(capsys, "samples").startswith("megabyte-mm demo-data: error: ")


def test_a_picture_that_cannot_be_read_is_named(capsys, tmp_path, save_checkpoint):
    model = str(save_checkpoint(ImageAdapter("L", (8, 8), patch=2), window=64))
    (tmp_path / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    prefix = str(tmp_path / "torn.png")
    assert f"error: {prefix}: " in mistake(capsys, "generate", model, "--out", str(tmp_path / "o"), "--prefix", prefix)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config", "nonesuch"], "--config nonesuch: no such file, and no packaged config of that name; there are "),
        (["--config", "image", "--data.path", "nowhere"], "data.path nowhere: no such file or folder"),
        (["--config", "image", "--trainer.max_steps", "lots"], "--trainer.max_steps lots: expected int"),
        (
            ["--config", "image", "--data.adapter.mode", "CMYK"],
            "--data.adapter.mode CMYK: expected Literal['L', 'RGB']",
        ),
        (
            ["--config", "image", "--model.compile_mode", "bogus"],
            (
                "--model.compile_mode bogus: expected Literal['default', 'reduce-overhead', 'max-autotune', "
                "'max-autotune-no-cudagraphs'] or Literal['auto']"
            ),
        ),
        (["--config", "image", "--data.adapter", "nope.Own"], "--data.adapter: No module named 'nope'"),
    ],
)
def test_a_mistake_in_training_is_reported_in_one_line(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["fit", *arguments]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"megabyte-mm fit: error: {message}")


UNION_REPORT = """Parser key "a":
  Does not validate against any of the Union subtypes
  Errors:
    - Expected a <class 'float'>
    - Expected a <class 'NoneType'>
  Given value: b c"""


@pytest.mark.parametrize(
    ("report", "message"),
    [
        ("Parser key \"a\":\n  Expected <class 'int'>. Got value: x", "--a x: expected int"),
        (UNION_REPORT, "--a b c: expected float"),
        (
            "Does not validate\n  Errors:\n    - patch must be at least 1, not 0\n    - Expected a <class 'NoneType'>",
            "patch must be at least 1, not 0",
        ),
        ("something\n  else", "something else"),
    ],
)
def test_long_reports_are_shortened_to_what_a_user_needs(report, message, capsys, monkeypatch):
    def fail(name, arguments):
        raise ValueError(report)

    monkeypatch.setattr(cli, "_run", fail)
    assert mistake(capsys, "generate") == f"megabyte-mm generate: error: {message}"


# Exit codes


@pytest.mark.parametrize(
    ("raised", "code"),
    [(KeyboardInterrupt(), 130), (ValueError("x"), 2), (OSError("x"), 2), (SystemExit(), 0), (SystemExit(3), 3)],
)
def test_the_exit_code_shows_how_it_ended(raised, code, monkeypatch):
    def end(name, arguments):
        raise raised

    monkeypatch.setattr(cli, "_run", end)
    assert main(["generate"]) == code


def test_a_reader_that_goes_away_leaves_no_traceback():
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "megabyte_mm", "--help"]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


def test_our_own_mistakes_keep_their_traceback(monkeypatch, model, tmp_path):
    def broken(*_, **__):
        raise RuntimeError("a bug")

    monkeypatch.setattr("megabyte_mm.cli.generate.generate_continuations", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        main(["generate", model, "--out", str(tmp_path / "o")])


def test_debugging_shows_every_traceback(monkeypatch, tmp_path):
    monkeypatch.setenv(cli.DEBUG, "1")
    with pytest.raises(FileNotFoundError):
        main(["generate", str(tmp_path / "gone.ckpt"), "--out", str(tmp_path)])


def test_generate_takes_its_options_as_they_are_typed(model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("a.txt", "1", "null"):
        Path(name).write_text(name)
    options = ["--prefix", "a.txt", "1", "null", "--num_samples", "1", "--length=3", "--top_k", "5", "--seed", "4"]
    assert main(["generate", model, "--out", "007", *options]) == 0
    assert sorted(file.name for file in Path("007").iterdir()) == ["1-000", "a-000.txt", "null-000"]
    assert "007/a-000.txt" in capsys.readouterr().out.split()
    assert main(["generate", model, "--out", "007", *options]) == 2
    assert "add --overwrite" in capsys.readouterr().err
    assert main(["generate", model, "--out", "007", *options, "--overwrite"]) == 0


@pytest.mark.parametrize("name", ["7", "007", "true", "1e3", "3.0"])
def test_a_class_may_be_called_like_a_number(name, save_checkpoint, tmp_path):
    model = str(save_checkpoint(TextAdapter(), window=16, classes=[name]))
    assert main(["generate", model, "--out", str(tmp_path / "o"), "--condition", name, "--length", "2"]) == 0


def test_an_adapter_in_the_current_folder_is_found(save_checkpoint, tmp_path, monkeypatch):
    model = str(save_checkpoint(TextAdapter(), window=16))
    (tmp_path / "mine_for_a_test.py").write_text(
        "from data_adapters import TextAdapter\nclass Own(TextAdapter):\n    output_suffix = '.own'\n"
    )
    monkeypatch.chdir(tmp_path)
    assert main(["generate", model, "--out", "o", "--adapter", "mine_for_a_test.Own", "--num_samples", "1"]) == 0
    assert [file.name for file in Path("o").iterdir()] == ["sample-000.own"]


# Configs


@pytest.fixture
def packaged(tmp_path, monkeypatch) -> Path:
    """Configs of a pretended installation, and another current folder."""
    folder = tmp_path / "package" / "configs"
    (folder / "paper").mkdir(parents=True)
    for name in ("image.yaml", "paper/image_1.3b.yaml"):
        (folder / name).touch()
    monkeypatch.setattr("megabyte_mm.cli.packaged.config_folder", lambda: folder)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return folder


@pytest.mark.parametrize("name", ["image", "image.yaml", "configs/image.yaml", "configs/image", "./configs/image.yaml"])
def test_a_packaged_config_is_found_from_any_folder(packaged, name):
    assert find_config(name) == str(packaged / "image.yaml")


@pytest.mark.parametrize("name", ["paper/image_1.3b", "paper/image_1.3b.yaml", "configs/paper/image_1.3b.yaml"])
def test_a_config_may_have_dots_in_its_name(packaged, name):
    assert find_config(name) == str(packaged / "paper" / "image_1.3b.yaml")


@pytest.mark.parametrize("name", ["image", "image.yaml", "configs/image.yaml"])
def test_a_file_of_ones_own_goes_first(packaged, name):
    Path("configs").mkdir()
    Path(name).touch()
    assert find_config(name) == name


@pytest.mark.parametrize("name", ["imag", "", "image.yml", "configs"])
def test_an_unknown_config_is_answered_with_those_there_are(packaged, name):
    with pytest.raises(ValueError, match=rf"--config {name}: no such file.*there are image, paper/image_1\.3b$"):
        find_config(name, "--config")


def test_every_config_on_the_command_line_is_looked_up(packaged):
    Path("my.yaml").touch()
    image = str(packaged / "image.yaml")
    given = ["--config", "image", "--config=my.yaml", "-c", "image", "--data.path", "image", "--config=image"]
    expected = ["--config", image, "--config=my.yaml", "-c", image, "--data.path", "image", f"--config={image}"]
    assert with_config_paths(given) == expected
    assert with_config_paths(["--config"]) == ["--config"]


def test_the_checkouts_own_configs_are_there():
    assert Path(find_config("image")).is_file()


def test_threads_wait_shortly_for_each_other_unless_the_user_says_otherwise(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    main(["--help"])
    assert os.environ["GOMP_SPINCOUNT"] == "7"
    monkeypatch.delenv("GOMP_SPINCOUNT")
    main(["--help"])
    assert os.environ["GOMP_SPINCOUNT"] == "2000"
