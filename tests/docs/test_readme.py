"""The README's commands are run, shortened, and what the documents name is there."""

import dataclasses
import inspect
import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import data_adapters
from megabyte_mm.cli.main import COMMANDS, TRAINING_COMMANDS
from megabyte_mm.data.sources import Source
from megabyte_mm.models import CONFIGS, BlockConfig, StackConfig

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
DOCUMENTS = [ROOT / "README.md", *PAGES]
README = DOCUMENTS[0].read_text(encoding="utf-8")

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
    "--model.net.global_stack.dim": "192",  # a multiple of every patch size that the README comes to
    "--model.net.global_stack.layers": "1",
    "--model.net.global_stack.heads": "2",
    "--model.net.local_stack.dim": "32",
    "--model.net.local_stack.layers": "1",
    "--model.net.local_stack.heads": "2",
}
"""Written after the README's own arguments, and so in force."""

IN_ONE_PROCESS = """
import json, sys, traceback
from glob import glob
from megabyte_mm.cli.main import main

for shown, arguments, code in json.load(sys.stdin):
    print(f"$ {shown}", flush=True)
    if code:
        exec(compile(code, "README.md", "exec"), {"__name__": "__main__"})
    elif main([name for word in arguments for name in (sorted(glob(word)) if "*" in word else [word])]):
        sys.exit(f"failed: {shown}")
"""
"""Starting Lightning once instead of for each command saves most of the time."""


def blocks(text, *languages):
    """(language, content) of each fenced block in one of the languages, in order."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [(language, content) for language, content in found if language in languages]


def commands(content):
    """Each command of a shell block as its words; comments left out, continued lines joined."""
    lines = content.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def steps():
    """The README from top to bottom: (what to show, arguments of the program or None, Python code or None)."""
    for language, content in blocks(README, "bash", "python"):
        if language == "python":
            yield "the block that begins " + content.strip().splitlines()[0], None, content
            continue
        for words in commands(content):
            if words[0] == PROGRAM:
                yield shlex.join(words), shortened(words[1:]), None


def shortened(arguments):
    name = arguments[0]
    if name == "generate":
        return [*arguments, "--length", "48", "--device", "cpu"]
    if name == "report":
        return [*arguments, "--files", "4", "--megabytes", "0.01", "--device", "cpu"]
    if name not in TRAINING_COMMANDS:
        return arguments
    steps = {"--trainer.max_steps": "4" if "last" in arguments else "2"}
    return [*arguments, *(word for option in (TINY | steps).items() for word in option)]


def run(*command, folder, **how):
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, capture_output=True, text=True, timeout=600, check=False, **how
    )
    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def test_the_readmes_commands_work_one_after_the_other(tmp_path):
    (_, first, _), *others = steps()
    assert first is not None, "the first command makes the media that all others use"
    run("-m", "megabyte_mm", *first, folder=tmp_path)
    run("-c", IN_ONE_PROCESS, folder=tmp_path, input=json.dumps(others))
    for name in ("image", "audio", "text"):
        assert (tmp_path / "runs" / name / "best.ckpt").is_file()
    assert (tmp_path / "out" / "pictures" / "contact_sheet.png").is_file()
    assert (tmp_path / "out" / "melodies" / "0000-000.wav").is_file()


def other_commands():
    return [
        pytest.param(words, id=shlex.join(words))
        for _, content in blocks(README, "bash")
        for words in commands(content)
        if words[0] != PROGRAM
    ]


@pytest.mark.parametrize("words", other_commands())
def test_other_programs_of_the_readme_are_there(words):
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
        case ["python3", "-m", "venv", venv] | [".", venv]:
            assert venv.split("/")[0] == ".venv"
        case [program, *_]:
            assert program in {re.split(r"\W", requirement)[0] for requirement in project["dependencies"]}


def fields_of(config, path):
    """The fields of an architecture as options, those of what it is made of too."""
    found = set()
    for field in dataclasses.fields(config):
        found.add(f"{path}.{field.name}")
        kind = next((k for k in (BlockConfig, StackConfig) if k.__name__ in str(field.type)), None)
        found |= fields_of(kind, f"{path}.{field.name}") if kind else set()
    return found


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_and_pictures_lead_somewhere(document):
    text = document.read_text(encoding="utf-8")
    anchors = {path: headings(path) for path in DOCUMENTS}
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        path = (document.parent / file).resolve() if file else document
        assert path.exists(), f"{document.name} points to {target}"
        assert not anchor or anchor in anchors[path], f"{document.name} points to {target}: no such heading"


def test_every_page_is_in_the_navigation_once():
    nav = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").split("\nnav:\n")[1]
    named = re.findall(r"(\S+\.md)$", nav, re.MULTILINE)
    assert sorted(named) == sorted(page.relative_to(ROOT / "docs").as_posix() for page in PAGES)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_packaged_config_mentioned_exists(document):
    text = document.read_text(encoding="utf-8")
    named = set(re.findall(r"--config (?!my\.yaml)([\w./]+)", text)) | set(
        re.findall(rf"{PROGRAM} info (\w[\w/]*)[\s`]", text)
    )
    exported = set(re.findall(rf"{PROGRAM} export \S+ (\S+)", text))
    missing = [
        name
        for name in named - exported - {"takes"}
        if not (ROOT / "configs" / f"{Path(name).with_suffix('')}.yaml").is_file()
    ]
    assert not missing, f"{document.name} names the configs {missing}"


def headings(document):
    found = re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in found}


def test_the_map_is_complete_and_every_folder_in_it_exists():
    rows = README.split("\n## Map\n")[1].split("\n## ")[0]
    named = re.findall(r"^\| `([\w/.]+)/` \|", rows, re.MULTILINE)
    assert [name for name in named if not (ROOT / name).is_dir()] == []
    packages = {path.parent.relative_to(ROOT).as_posix() for path in (ROOT / "megabyte_mm").glob("*/__init__.py")}
    assert packages <= set(named)


def test_the_architecture_names_every_room():
    layout = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rooms = [p for package in ("data_adapters", "megabyte_mm") for p in (ROOT / package).iterdir()]
    modules = [f"{p.name}/" if p.is_dir() else p.name for p in rooms if p.suffix == ".py" or p.is_dir()]
    unnamed = [name for name in modules if not name.startswith("__") and name not in layout]
    assert not unnamed, f"docs/architecture.md draws the packages without {unnamed}"


EVERY_HELP = """
import contextlib, os, runpy, sys
from megabyte_mm.cli.main import main
names = sys.argv[1:]
for name in names:
    if not os.path.isabs(name):
        assert main([name, "--help"]) == 0
        continue
    sys.argv, sys.path[0] = [name, "--help"], os.path.dirname(name)
    with contextlib.suppress(SystemExit):
        runpy.run_path(name + ".py", run_name="__main__")
"""
"""In one process, since each imports torch and Lightning."""


@pytest.fixture(scope="module")
def known_options(tmp_path_factory):
    """The options of every command and of the benchmarks, and of every adapter as settings of data.adapter."""
    folder = tmp_path_factory.mktemp("help")
    scripts = [str(ROOT / "benchmarks" / name) for name in ("run", "train_step", "decode", "compare", "kills")]
    found = set(re.findall(r"--[\w.-]+", run("-c", EVERY_HELP, *COMMANDS, *scripts, folder=folder)))
    for adapter in data_adapters.ADAPTERS.values():
        found |= {f"--data.adapter.{name}" for name in inspect.signature(adapter).parameters}
    for config in CONFIGS.values():
        found |= fields_of(config, "--model.net")
    for name in ("image", "audio", "text"):
        found |= fields_of(Source, f"--data.sources.{name}")
    return found | {"--version", "--logdir"}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_command_and_option_mentioned_exists(document, known_options):
    text = document.read_text(encoding="utf-8")
    code = [content for _, content in blocks(text, "bash", "sh", "")]
    shown = "\n".join([*code, *re.findall(r"`([^`\n]+)`", text)])
    shown = re.sub(r"^#SBATCH .*", "", shown, flags=re.MULTILINE)  # those are SLURM's
    # NAME stands for a name of the reader's choice.
    options = {option.rstrip(".") for option in re.findall(r"(?<![\w-])--[a-z][\w.]*", shown) if "NAME" not in option}
    assert options <= known_options, f"{document.name} names {sorted(options - known_options)}"
    named = set(re.findall(rf"(?<![\w/]){PROGRAM} ([a-z][\w-]*)", shown))
    assert named <= set(COMMANDS), f"{document.name} names {sorted(named - set(COMMANDS))}"


def test_every_knob_in_the_training_guide_exists(known_options):
    table = (ROOT / "docs" / "training.md").read_text(encoding="utf-8").split("| knob |")[1].split("\n\n")[0]
    for row in table.splitlines()[2:]:
        first, *others = re.findall(r"`([\w.]+)`", row.split("|")[1])
        prefix = first.rpartition(".")[0]
        for knob in (first, *(other if "." in other else f"{prefix}.{other}" for other in others)):
            assert f"--{knob}" in known_options, f"docs/training.md explains {knob}"
