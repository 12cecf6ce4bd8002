"""The commands and the Python code of the README, the quick start and docs/python.md are run, shortened."""

import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from megabyte_mm.cli.commands import TRAINING_COMMANDS

ROOT = Path(__file__).parents[2]
RUN = [ROOT / name for name in ("README.md", "docs/quick_start.md", "docs/python.md")]

PROGRAM = "megabyte-mm"
TINY = {
    "--trainer.val_check_interval": "2",
    "--trainer.enable_progress_bar": "false",
    "--trainer.enable_model_summary": "false",
    "--trainer.accelerator": "cpu",
    "--data.batch_size": "2",
    "--data.max_val_windows": "2",
    "--samples.count": "1",
    "--samples.keep": "0.98",
    "--samples.length": "16",
    "--model.net.global_stack.dim": "192",  # a multiple of the patch size of every packaged config
    "--model.net.global_stack.layers": "1",
    "--model.net.global_stack.heads": "2",
    "--model.net.local_stack.dim": "32",
    "--model.net.local_stack.layers": "1",
    "--model.net.local_stack.heads": "2",
}
"""Appended to the documented arguments, which they override."""

IN_ONE_PROCESS = """
import json, sys
from glob import glob
from megabyte_mm.cli.main import main

for shown, arguments, code in json.load(sys.stdin):
    print(f"$ {shown}", flush=True)
    if code:
        exec(compile(code, shown, "exec"), {"__name__": "__main__"})
    elif main([name for word in arguments for name in (sorted(glob(word)) if "*" in word else [word])]):
        sys.exit(f"failed: {shown}")
"""
"""Lightning starts once instead of once per command, which saves most of the time."""


def blocks(document):
    """(language, content) of each fenced block of shell commands or Python, in order."""
    text = document.read_text(encoding="utf-8")
    return re.findall(r"^```(bash|python)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def commands(content):
    """Words of each command of a shell block; comments left out, continued lines joined."""
    lines = content.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def steps():
    """(text to show, arguments of the program or None, Python code or None); a repeated command is run once."""
    done = set()
    for document in RUN:
        for language, content in blocks(document):
            if language == "python":
                yield f"{document.name}: {content.splitlines()[0]}", None, shortened_code(content)
                continue
            for words in commands(content):
                if words[0] == PROGRAM and tuple(words) not in done:
                    done.add(tuple(words))
                    yield shlex.join(words), shortened(words[1:]), None


def shortened(arguments):
    name = arguments[0]
    if name == "generate":
        of_records = {"demo:text-to-image", "demo:speech"} & set(arguments)
        length = [] if of_records else ["--length", "48"]
        return [*arguments, *length, "--device", "cpu"]
    if name == "report":
        return [*arguments, "--files", "4", "--megabytes", "0.01", "--device", "cpu"]
    if name == "export":
        return [*arguments, "--samples", "0"]
    if name not in TRAINING_COMMANDS:
        return arguments
    steps = {"--trainer.max_steps": "4" if "last" in arguments else "2"}
    return [*arguments, *(word for option in (TINY | steps).items() for word in option)]


def shortened_code(content):
    content = re.sub(r"steps=\d+", "steps=2", content)
    return re.sub(r"(ByteData\(.*)\)$", r"\1, max_val_windows=2)", content, flags=re.MULTILINE)


def run(*command, folder, **options):
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, capture_output=True, text=True, timeout=600, check=False, **options
    )
    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def test_the_documented_commands_work_one_after_the_other(tmp_path):
    run("-c", IN_ONE_PROCESS, folder=tmp_path, input=json.dumps(list(steps())))
    for name in ("image", "audio", "text", "mixed", "classes", "prepared", "python"):
        assert (tmp_path / "runs" / name / "best.ckpt").is_file()
    for name in ("hearts/contact_sheet.png", "melodies/0000-000.wav", "hearts.mbz", "python/heart.png"):
        assert (tmp_path / "out" / name).is_file()
    assert (tmp_path / "runs" / "image" / "report.html").is_file()


def other_commands():
    found = {shlex.join(w): w for d in RUN for language, c in blocks(d) if language == "bash" for w in commands(c)}
    return [pytest.param(words, id=shown) for shown, words in found.items() if words[0] != PROGRAM]


@pytest.mark.parametrize("words", other_commands())
def test_other_documented_programs_exist(words):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    match words:
        case ["make", *targets]:
            makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
            missing = [target for target in targets if not re.search(rf"^{target}:", makefile, re.MULTILINE)]
            assert not missing, f"the Makefile has no target {missing}"
        case ["pip", "install", "-c", constraints, "-e", target]:
            assert (ROOT / constraints).is_file()
            assert target == "." or target.strip(".[]") in project["optional-dependencies"]
        case ["jupyter", "lab", folder]:
            assert (ROOT / folder).is_dir()
        case _:
            assert words in (["python3", "-m", "venv", ".venv"], [".", ".venv/bin/activate"])
