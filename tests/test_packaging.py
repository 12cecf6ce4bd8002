"""What the project's own files promise each other: floors, pins, and what a wheel holds."""

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from yaml import safe_load

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]

# In pieces, so that this file does not name them itself.
REGISTRIES = [".".join(parts) for parts in (("pypi", "org"), ("pythonhosted", "org"), ("download", "pytorch", "org"))]


def requirements(lines):
    return {canonicalize_name(r.name): r for r in map(Requirement, lines) if r.name != PROJECT["name"]}


def floor(requirement):
    [specifier] = requirement.specifier
    assert specifier.operator == ">=", f"{requirement}: a floor, and no upper bound"
    return Version(specifier.version)


def pins(file):
    lines = [line for line in (ROOT / file).read_text(encoding="utf-8").splitlines() if line and line[0] != "#"]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines), f"{file}: only name==version, no +local"
    return {canonicalize_name(name): Version(version) for name, version in (line.split("==") for line in lines)}


def test_the_oldest_set_is_the_floors():
    floors = {name: floor(r) for name, r in requirements(PROJECT["dependencies"]).items()}
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    torch = re.search(r"^OLDEST_TORCH \?= (\S+)$", makefile, re.MULTILINE)
    assert torch
    assert pins("constraints-oldest.txt") | {"torch": Version(torch[1])} == floors


def test_every_requirement_of_a_developer_is_pinned_to_a_version_that_it_allows():
    pinned = pins("constraints.txt")
    for name, requirement in requirements([*PROJECT["dependencies"], *EXTRAS["test"], *EXTRAS["dev"]]).items():
        assert name in pinned, f"constraints.txt lacks {name}"
        assert pinned[name] in requirement.specifier, f"constraints.txt: {name}=={pinned[name]}, wanted {requirement}"


def test_every_package_imported_is_a_requirement():
    extras = [
        line for extra in ("app", "heif", "hub", "cloud", "parquet", "report", "notebooks") for line in EXTRAS[extra]
    ]
    declared = set(requirements([*PROJECT["dependencies"], *extras])) | {"triton"}  # which comes with torch for CUDA
    distributions = packages_distributions()
    for package in ("data_adapters", "megabyte_mm"):
        for file in (ROOT / package).rglob("*.py"):
            for name in imported_packages(file) - sys.stdlib_module_names - {"data_adapters", "megabyte_mm"}:
                candidates = {canonicalize_name(d) for d in distributions.get(name, [name])}
                assert candidates & declared, f"{file.relative_to(ROOT)} imports {name}: add it to pyproject.toml"


def imported_packages(file):
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The names of the files in a wheel built without the network."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    done = subprocess.run([*build, "-w", folder, ROOT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    [path] = folder.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        return archive.namelist()


def test_the_wheel_holds_the_configs(wheel):
    configs = {f"megabyte_mm/{p.relative_to(ROOT).as_posix()}" for p in (ROOT / "configs").rglob("*.yaml")}
    assert configs, "configs/ holds no YAML file"
    assert configs <= set(wheel)


def test_the_wheel_holds_whole_models(wheel):
    folder = ROOT / "megabyte_mm" / "demo_models"
    files = {path.relative_to(ROOT).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert "megabyte_mm/demo_models/image/model.safetensors" in files
    assert files <= set(wheel)


def test_the_wheel_holds_the_stylesheets(wheel):
    assert {"megabyte_mm/app/page.css", "megabyte_mm/plots/report_page.css"} <= set(wheel)


def test_the_wheel_holds_both_packages_typed_and_nothing_else(wheel):
    assert {"data_adapters/py.typed", "megabyte_mm/py.typed"} <= set(wheel)
    tops = {name.split("/")[0] for name in wheel if ".dist-info/" not in name}
    assert tops == {"data_adapters", "megabyte_mm"}


def test_no_file_names_a_registry():
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    for file in filter(None, listed.stdout.split("\0")):
        text = (ROOT / file).read_bytes().decode("utf-8", "replace") if (ROOT / file).is_file() else ""
        named = [host for host in REGISTRIES if host in text]
        assert not named, f"{file} names {named}"


def test_the_changelog_has_room_for_what_is_unreleased():
    assert "\n## [Unreleased]\n" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_workflow_runs_the_projects_own_commands_on_every_python_that_it_supports():
    workflow = safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    jobs = workflow["jobs"]
    commands = {name: [step["run"] for step in job["steps"] if "run" in step] for name, job in jobs.items()}
    assert commands == {"all": [".ci/run"], "oldest": ["make oldest"]}
    pythons = [line.rpartition(" ")[2] for line in PROJECT["classifiers"] if re.search(r"Python :: 3\.\d", line)]
    assert jobs["all"]["strategy"]["matrix"] == {"python": pythons}
    assert workflow["permissions"] == {"contents": "read"}
    for job in jobs.values():
        assert all(re.search(r"@v\d+$", step["uses"]) for step in job["steps"] if "uses" in step)
