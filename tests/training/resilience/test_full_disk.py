"""What cannot be written is reported in a line, leaves what was there as it was, and stops nothing before its end."""

import csv
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from megabyte_mm.training.checkpointing import AtomicCheckpointIO
from megabyte_mm.training.loggers import MetricsFile
from tests.training.conftest import same, weights

resource = pytest.importorskip("resource", reason="Windows has no limit on the size of files to try this with")


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Let the system cut files off there, with an error of its own."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Lets a checkpoint be cut off where (file name, step) fulfils a condition."""
    save = AtomicCheckpointIO.save_checkpoint

    def when(condition: Callable[[str, int], bool]) -> None:
        def cut_off(self: AtomicCheckpointIO, checkpoint: dict[str, Any], path: str, **options: Any) -> None:
            full = condition(Path(path).name, checkpoint["global_step"])
            with files_of_at_most(20_000 if full else resource.RLIM_INFINITY):
                save(self, checkpoint, path, **options)

        monkeypatch.setattr(AtomicCheckpointIO, "save_checkpoint", cut_off)

    return when


def step_in(path: Path) -> int:
    return int(torch.load(path, weights_only=True)["global_step"])


def sized(line: str) -> str:
    return re.sub(r"[\d.]+ kB", "SIZE", line)


def leftovers(root: Path) -> list[Path]:
    return [path for path in root.rglob(".*") if path.is_file()]


def test_training_goes_on_without_a_checkpoint_and_tries_again(fit, root, full_disk, capfd):
    full_disk(lambda name, step: name == "last.ckpt" and step in (3, 4))
    assert fit("--checkpoint_minutes=0", "--trainer.val_check_interval=8") == 0
    output = [sized(line) for line in capfd.readouterr().err.splitlines() if "cannot be written" in line]
    line = (
        "run/last.ckpt: cannot be written: file too large (it takes about SIZE); the previous one is unchanged; "
        "training continues, next attempt after the next interval"
    )
    assert output == [line, line]
    assert step_in(root / "last.ckpt") == 8
    assert not leftovers(root)


def test_a_last_checkpoint_that_cannot_be_written_is_an_error_and_leaves_the_former(fit, root, full_disk, capfd):
    assert fit("--trainer.max_steps=4", "--model.optimizer.decay=constant") == 0
    former = (root / "last.ckpt").read_bytes()
    full_disk(lambda name, step: name == "last.ckpt")
    capfd.readouterr()
    assert fit("--ckpt_path=last", "--model.optimizer.decay=constant") == 2
    assert sized(capfd.readouterr().err.splitlines()[-1]) == (
        "megabyte-mm fit: error: run/last.ckpt: cannot be written: file too large (it takes about SIZE); "
        "the previous one is unchanged"
    )
    assert (root / "last.ckpt").read_bytes() == former
    assert not leftovers(root)


def test_ctrl_c_on_a_full_disk_is_an_error_and_the_run_goes_on_from_before(fit, root, full_disk, capfd, monkeypatch):
    assert fit() == 0
    final = weights(root / "last.ckpt")
    root.rename(root.with_name("whole"))

    def once_full(name: str, step: int) -> bool:
        if step == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return step >= 4

    full_disk(once_full)
    assert fit("--checkpoint_minutes=0") == 2
    output = capfd.readouterr().err
    assert output.splitlines()[-1].startswith(
        "megabyte-mm fit: error: run/last.ckpt: cannot be written: file too large"
    )
    assert "Traceback" not in output
    assert step_in(root / "last.ckpt") == 3
    full_disk(lambda name, step: False)
    assert fit("--ckpt_path=last") == 0
    assert same(weights(root / "last.ckpt"), final)


BETTER_AND_BETTER = ("--trainer.val_check_interval=2", "--model.optimizer.lr=0.001")


def test_a_best_checkpoint_that_could_not_be_written_gives_way_to_one_that_can(fit, root, full_disk, capfd):
    full_disk(lambda name, step: name == "best.ckpt" and step == 4)
    assert fit(*BETTER_AND_BETTER) == 0
    assert "run/best.ckpt: cannot be written: file too large" in capfd.readouterr().err
    best = torch.load(root / "best.ckpt", weights_only=True)
    assert best["global_step"] == 8
    assert (
        best["callbacks"]["BestCheckpoint"]
        == torch.load(root / "last.ckpt", weights_only=True)["callbacks"]["BestCheckpoint"]
    )


def test_a_run_without_its_best_checkpoint_ends_with_an_error_and_the_last_one(fit, root, full_disk, capfd):
    full_disk(lambda name, step: name == "best.ckpt" and step > 2)
    assert fit(*BETTER_AND_BETTER) == 2
    assert (
        capfd.readouterr().err.splitlines()[-1].startswith("megabyte-mm fit: error: run/best.ckpt: cannot be written")
    )
    assert (step_in(root / "best.ckpt"), step_in(root / "last.ckpt")) == (2, 8)
    last = torch.load(root / "last.ckpt", weights_only=True)
    best = torch.load(root / "best.ckpt", weights_only=True)
    assert last["callbacks"]["BestCheckpoint"] == best["callbacks"]["BestCheckpoint"]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_figures_that_cannot_be_written_wait_and_rows_stay_whole(tmp_path, caplog):
    file = MetricsFile(str(tmp_path))
    path = tmp_path / "metrics.csv"
    with files_of_at_most(300):
        for step in range(40):
            file.log_metrics({"train/loss": step / 7}, step)
            file.save()
            assert path.read_text().endswith("\n")
        assert 0 < len(rows(path)) < 40
        file.log_metrics({"val/bpb": 8.0}, 40)
        file.save()
        assert 0 < len(rows(path)) < 40
    file.save()
    assert [row["step"] for row in rows(path)] == [str(step) for step in range(41)]
    assert rows(path)[40] == {"step": "40", "train/loss": "", "val/bpb": "8.0"}
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.csv"]
    assert len(caplog.records) <= 1


def test_training_outlives_logs_that_cannot_be_written(fit, root, capfd):
    with files_of_at_most(8_000):
        assert fit("--trainer.enable_checkpointing=false", "--trainer.max_steps=60") == 2
    *output, last = capfd.readouterr().err.splitlines()
    assert "Traceback" not in "".join(output)
    (line,) = [line for line in output if "TensorBoard" in line]
    assert line == "the TensorBoard log in run/logs/version_0 ends here: file too large"
    assert any(line.startswith("step 60/60") for line in output)
    assert last == "megabyte-mm fit: error: run/logs/version_0/metrics.csv: cannot be written: file too large"
    assert (root / "logs/version_0/metrics.csv").read_text().endswith("\n")


def test_training_outlives_samples_that_cannot_be_written(fit, root, capfd):
    root.mkdir()
    (root / "samples").write_text("a file where a folder should be")
    assert fit("--trainer.logger=false", "--samples.count=1", "--samples.length=4") == 0
    output = [line for line in capfd.readouterr().err.splitlines() if "no samples" in line]
    assert [line.partition(":")[0] for line in output] == ["run/samples/step-0000004", "run/samples/step-0000008"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows names these errors otherwise")
def test_a_folder_that_cannot_be_written_to_is_refused_before_any_work(fit, texts, capfd, cache_folder):
    for folder in (texts / "train/a.txt/run", Path("/proc/run")):
        assert fit(f"--trainer.default_root_dir={folder}") == 2
        (line,) = capfd.readouterr().err.splitlines()
        assert line.startswith(f"megabyte-mm fit: error: trainer.default_root_dir {folder}: cannot be written to: ")
    assert not list(cache_folder.iterdir())
