"""What the documents name exists: links, pictures, configs, files of the packages, commands, options and settings."""

import dataclasses
import importlib
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import data_adapters
from megabyte_mm.cli.commands import COMMANDS
from megabyte_mm.data.sources import Source
from megabyte_mm.models import CONFIGS, BlockConfig, StackConfig

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
DOCUMENTS = {path: path.read_text(encoding="utf-8") for path in [ROOT / "README.md", *PAGES]}

PROGRAM = "megabyte-mm"


def headings(text):
    lines = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", line.lower()).replace(" ", "-") for line in lines}


def broken_links(document, text):
    anchors = {path: headings(content) for path, content in DOCUMENTS.items()}
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        file, _, anchor = target.partition("#")
        path = (document.parent / file).resolve() if file else document
        if "://" not in target and not (path.exists() and (not anchor or anchor in anchors[path])):
            yield target


def test_links_and_pictures_lead_somewhere():
    broken = {path.name: list(broken_links(path, text)) for path, text in DOCUMENTS.items()}
    assert {name: targets for name, targets in broken.items() if targets} == {}


def test_every_page_is_in_the_navigation_once():
    nav = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").split("\nnav:\n")[1]
    named = re.findall(r"(\S+\.md)$", nav, re.MULTILINE)
    assert sorted(named) == sorted(page.relative_to(ROOT / "docs").as_posix() for page in PAGES)


def test_the_reference_names_existing_objects_once():
    api = [text for path, text in DOCUMENTS.items() if path.parent.name == "api"]
    named = re.findall(r"^::: ([\w.]+)$", "\n".join(api), re.MULTILINE)
    assert len(named) == len(set(named))
    for name in named:
        parts = name.split(".")
        modules = [ROOT.joinpath(*parts[:n]) for n in range(len(parts), 0, -1)]
        module = next(p for path in modules for p in (path.with_suffix(".py"), path / "__init__.py") if p.is_file())
        rest = parts[len(module.relative_to(ROOT).with_suffix("").parts) - (module.name == "__init__.py") :]
        source = module.read_text(encoding="utf-8")
        assert not rest or re.search(rf"\b{rest[0]}\b", source), f"docs/api names {name}"


def test_every_packaged_config_mentioned_exists():
    for document, text in DOCUMENTS.items():
        named = set(re.findall(r"--config (?!my\.yaml)([\w./]+)", text))
        named |= set(re.findall(rf"{PROGRAM} info (\w[\w/]*)[\s`]", text))
        named -= {"takes", *re.findall(rf"{PROGRAM} export \S+ (\S+)", text)}
        missing = [n for n in named if not (ROOT / "configs" / f"{Path(n).with_suffix('')}.yaml").is_file()]
        assert not missing, f"{document.name} names the configs {missing}"


def test_every_import_in_documented_python_resolves():
    code = "\n".join(re.findall(r"```python\n(.*?)```", "\n".join(DOCUMENTS.values()), re.DOTALL))
    imports = re.findall(r"^from ((?:megabyte_mm|data_adapters)[\w.]*) import ([\w, ]+)$", code, re.MULTILINE)
    named = {(module, name) for module, names in imports for name in names.split(", ")}
    for module, name in named - {("megabyte_mm", "HubModel")}:  # HubModel needs an extra
        assert hasattr(importlib.import_module(module), name), f"from {module} import {name}"


def test_every_python_file_mentioned_exists():
    tops = "data_adapters|megabyte_mm|configs|benchmarks|tests|fuzz|demo"
    for document, text in DOCUMENTS.items():
        named = set(re.findall(rf"`((?:{tops})/[\w/]+\.(?:py|yaml|cpp))`", text))
        missing = [name for name in named if not (ROOT / name).is_file()]
        assert not missing, f"{document.name} names {missing}"


EVERY_HELP = """
import contextlib, runpy, sys
from megabyte_mm.cli.commands import COMMANDS
from megabyte_mm.cli.main import main
for name in COMMANDS:
    assert main([name, "--help"]) == 0
for module in sys.argv[1:]:
    sys.argv = [module, "--help"]
    with contextlib.suppress(SystemExit):
        runpy.run_module(module, run_name="__main__", alter_sys=True)
"""
"""In one process, since each imports torch and Lightning."""


def fields_of(config, path):
    """Fields of an architecture as options, with those of the configs that it holds."""
    options = set()
    for field in dataclasses.fields(config):
        options.add(f"{path}.{field.name}")
        kind = next((k for k in (BlockConfig, StackConfig) if k.__name__ in str(field.type)), None)
        options |= fields_of(kind, f"{path}.{field.name}") if kind else set()
    return options


@pytest.fixture(scope="module")
def known_options(tmp_path_factory):
    """The options of every command, of the documented benchmarks, and of every adapter as settings of data.adapter."""
    programs = sorted(set(re.findall(r"python3? -m ((?:benchmarks|tests)[\w.]*)", "".join(DOCUMENTS.values()))))
    folder, environment = tmp_path_factory.mktemp("help"), os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", EVERY_HELP, *programs]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    options = set(re.findall(r"--[\w.-]+", done.stdout))
    for adapter in data_adapters.ADAPTERS.values():
        options |= {f"--data.adapter.{name}" for name in inspect.signature(adapter).parameters}
    for config in CONFIGS.values():
        options |= fields_of(config, "--model.net")
    for name in ("image", "audio", "text"):
        options |= fields_of(Source, f"--data.sources.{name}")
    return options | {"--version", "--logdir"}


def test_every_command_and_option_mentioned_exists(known_options):
    for document, text in DOCUMENTS.items():
        code = re.findall(r"^```(?:bash|sh|)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
        shown = "\n".join([*code, *re.findall(r"`([^`\n]+)`", text)])
        shown = re.sub(r"^#SBATCH .*", "", shown, flags=re.MULTILINE)  # SLURM's own options
        options = {option.rstrip(".") for option in re.findall(r"(?<![\w-])--[a-z][\w.]*", shown)}
        options = {option for option in options if "NAME" not in option}  # a name of the reader's choice
        assert options <= known_options, f"{document.name} names {sorted(options - known_options)}"
        named = set(re.findall(rf"(?<![\w/]){PROGRAM} ([a-z][\w-]*)", shown))
        assert named <= set(COMMANDS), f"{document.name} names {sorted(named - set(COMMANDS))}"


def test_every_setting_in_the_training_guide_exists(known_options):
    table = DOCUMENTS[ROOT / "docs" / "training.md"].split("| knob |")[1].split("\n\n")[0]
    for row in table.splitlines()[2:]:
        first, *others = re.findall(r"`([\w.]+)`", row.split("|")[1])
        prefix = first.rpartition(".")[0]
        for knob in (first, *(other if "." in other else f"{prefix}.{other}" for other in others)):
            assert f"--{knob}" in known_options, f"docs/training.md explains {knob}"
