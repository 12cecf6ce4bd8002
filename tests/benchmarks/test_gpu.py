"""`python -m benchmarks.gpu` from start to end at toy sizes, without what a bare machine with torch lacks."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.gpu import environment
from benchmarks.gpu import program as gpu
from benchmarks.gpu.__main__ import TORCH
from benchmarks.gpu.decoding import read_bytes
from benchmarks.gpu.settings import TINY, Settings

CPU = torch.device("cpu")


def measured(part: str, folder: Path) -> list[dict[str, object]]:
    assert gpu.measure(part, folder, CPU, tiny=True) == 0
    return rows_of(part, folder)


def rows_of(part: str, folder: Path) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = json.loads((folder / f"{part}.json").read_text(encoding="utf-8"))
    return rows


@pytest.mark.parametrize(
    ("part", "rows"), [("environment", 15), ("training", 2), ("decoding", 2), ("memory", 4), ("profile", 25)]
)
def test_a_part_writes_its_rows(part: str, rows: int, tmp_path: Path) -> None:
    written = measured(part, tmp_path)
    assert len(written) == rows
    assert not [row for row in written if "error" in row and "kernel" not in row]


def test_toy_sizes_are_named_as_such(tmp_path: Path) -> None:
    assert [row["model"] for row in measured("training", tmp_path)] == ["tiny 1", "tiny 2"]
    versions = measured("environment", tmp_path)[0]
    assert (versions["device"], versions["tiny"]) == ("cpu", True)


def test_a_kernel_of_attention_that_does_not_run_is_named_as_such(tmp_path: Path) -> None:
    errors = {row["kernel"]: row["error"] for row in measured("environment", tmp_path) if "error" in row}
    assert errors["CUDNN_ATTENTION"] == "does not run here"
    assert set(errors.values()) == {"does not run here"}


def test_other_errors_of_attention_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr("torch.nn.functional.scaled_dot_product_attention", fail)
    assert {row["error"] for row in measured("environment", tmp_path) if "error" in row} == {"out of memory"}


def test_peers_stand_beside_ours_or_are_named_as_missing(tmp_path: Path) -> None:
    rows = measured("peers", tmp_path)
    assert [row["model"] for row in rows] == ["MEGABYTE-pytorch", "mblm", "megabyte-mm"]
    assert all(("ms" in row) != ("error" in row) for row in rows)


def test_what_runs_out_of_memory_leaves_the_other_rows(tmp_path: Path) -> None:
    def fail() -> dict[str, str | int | float | None]:
        raise torch.OutOfMemoryError("out of memory\nand more")

    settings = Settings(CPU, True, tmp_path / "part.json")
    settings.attempt({"rows": 1}, fail)
    settings.attempt({"rows": 2}, lambda: {"ms": 1.0})
    assert json.loads(settings.path.read_text()) == [{"rows": 1, "error": "out of memory"}, {"rows": 2, "ms": 1.0}]


def test_parts_are_ended_at_their_limit(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    options = [
        "--device",
        "cpu",
        "--tiny",
        "--out",
        str(tmp_path),
        "--minutes",
        "0.001",
        "--parts",
        "profile",
        "memory",
    ]
    assert gpu.main(options) == 1
    assert capfd.readouterr().err.count("ended after") == 2


def write_own_tests(folder: Path, body: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the part `tests` run a file of its own in that folder."""
    folder.mkdir()
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = gpu\n", encoding="utf-8")
    marked = "import pytest\n@pytest.mark.gpu\ndef test_marked():\n    " if "def" not in body else ""
    (folder / "test_some.py").write_text(f"{marked}{body}\n", encoding="utf-8")
    for name, value in (("ROOT", folder), ("TESTS", "test_some.py"), ("DEPENDENCIES", ("no_such_package",))):
        monkeypatch.setattr(environment, name, value)


@pytest.mark.parametrize(
    ("body", "code", "rows"),
    [
        ("assert True", 0, [{"exit code": 0}]),
        ("assert False", 1, [{"exit code": 1}, {"failed": "FAILED test_some.py::test_marked - assert False"}]),
        ("def test_unmarked(): pass", 1, [{"exit code": 5}]),
    ],
)
def test_a_failing_test_fails_the_part_behind_its_rows(
    body: str, code: int, rows: list[dict[str, object]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_own_tests(tmp_path / "repository", body, monkeypatch)
    monkeypatch.chdir(tmp_path)
    assert gpu.main(["--device", "cpu", "--tiny", "--out", "out", "--part", "tests"]) == code
    assert "test session starts" in (tmp_path / "out/tests.log").read_text(encoding="utf-8")
    written = rows_of("tests", tmp_path / "out")[1:]  # behind that of what is left out
    assert [{name: value for name, value in row.items() if name != "result"} for row in written] == rows


def test_without_pytest_the_tests_are_left_out_with_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pytest", None)
    assert gpu.main(["--device", "cpu", "--tiny", "--out", str(tmp_path), "--part", "tests"]) == 0
    assert "pytest is not installed" in str(rows_of("tests", tmp_path))


def test_a_failing_part_fails_the_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    start = subprocess.Popen

    def start_part(command: list[str], **options: Any) -> subprocess.Popen[bytes]:
        return start([sys.executable, "-c", f"raise SystemExit({'tests' in command:d})"], **options)

    monkeypatch.setattr(subprocess, "Popen", start_part)
    options = ["--device", "cpu", "--tiny", "--out", str(tmp_path)]
    assert gpu.main([*options, "--parts", "tests", "profile"]) == 1
    assert capfd.readouterr().err.startswith("tests: failed after")
    assert gpu.main([*options, "--parts", "environment", "profile"]) == 0


def test_the_chosen_parts_share_all_minutes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    start = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda _, **options: start([sys.executable, "-c", ""], **options))
    options = ["--device", "cpu", "--tiny", "--out", str(tmp_path), "--minutes", "10"]
    for parts, limits in ((["decoding"], [600]), (["training", "decoding"], [400, 200]), (["memory", "memory"], [600])):
        assert gpu.main([*options, "--parts", *parts]) == 0
        assert re.findall(r"at most (\d+) s", capfd.readouterr().out) == [str(limit) for limit in limits]
    assert gpu.main(options) == 0
    assert sum(map(int, re.findall(r"at most (\d+) s", capfd.readouterr().out))) == 600


def test_wheels_are_unpacked_for_the_parts(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "peer-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("peer.py", "")
    assert (gpu.unpacked(tmp_path, tmp_path / "out") / "peer.py").is_file()


def test_bad_options_are_refused_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for options in (["--tiny", "--minutes", "0"], ["--tiny", "--wheels", str(tmp_path / "none")], []):
        with pytest.raises(SystemExit):
            gpu.main(["--device", "cpu", *options])
    assert capsys.readouterr().err.count("error: --") == 3


def test_without_a_gpu_the_line_names_what_can_be_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SystemExit) as stop:
        gpu.main(["--out", str(tmp_path / "out")])
    assert stop.value.code == 2
    assert capsys.readouterr().err == (
        "python -m benchmarks.gpu: error: torch sees no GPU here: try it in toy sizes with --device cpu --tiny\n"
    )
    assert not (tmp_path / "out").exists()
    assert gpu.main(["--tiny", "--out", str(tmp_path), "--part", "profile"]) == 0


def test_it_needs_torch_and_numpy_alone() -> None:
    code = (
        "import sys\n"
        "for name in ('lightning', 'jsonargparse', 'PIL', 'soundfile', 'constriction', 'torchmetrics', 'yaml'):\n"
        "    sys.modules[name] = None\n"
        "import benchmarks.gpu.program, tests.models.test_cuda"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


@pytest.mark.parametrize(
    ("modules", "reason"),
    [
        ({}, "No module named 'torch'"),
        ({"torch": "__version__ = '2.11.0'"}, "No module named 'numpy'"),
        ({"numpy": "", "torch": "__version__ = '2.9.1+cu128'"}, "it has torch 2.9.1+cu128"),
    ],
)
def test_an_interpreter_without_torch_is_named_in_a_line(modules: dict[str, str], reason: str, tmp_path: Path) -> None:
    for name, text in modules.items():
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])
    bare = [sys.executable, "-S", "-m", "benchmarks.gpu"]  # without the installed packages
    done = subprocess.run(
        bare, env={**os.environ, "PYTHONPATH": path}, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"python -m benchmarks.gpu: error: {sys.executable} needs torch 2.11 or later")
    assert reason in done.stderr
    assert "PYTHON=" in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_oldest_torch_is_that_of_the_package() -> None:
    pyproject = Path(__file__).parents[2] / "pyproject.toml"
    assert '"torch>={}.{}",'.format(*TORCH) in pyproject.read_text(encoding="utf-8")


def test_a_step_reads_all_weights_that_it_multiplies_once() -> None:
    model = TINY.build()
    assert model.patch_size == 4
    matrices = {name: x.numel() for name, x in model.named_parameters() if "blocks" in name and x.dim() == 2}
    local = sum(count for name, count in matrices.items() if name.startswith("local_stack.")) + 257 * 16
    wide = sum(count for name, count in matrices.items() if name.startswith("global_stack.")) + 4 * 16
    assert read_bytes(TINY, rows=1, position=0, number_bytes=4) == 4 * (local + wide / 4)
    keys_and_values = 2 * 16 * 2  # of two patches
    assert read_bytes(TINY, rows=3, position=8, number_bytes=2) == 2 * (local + (wide + 3 * keys_and_values) / 4)
