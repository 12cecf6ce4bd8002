"""Figures are medians of interleaved measurements, and a worker that fails is named."""

import argparse
import mmap
import os
import time
from functools import partial

import pytest
import torch

from benchmarks.harness import program, workers
from benchmarks.harness.memory import PeakMemory
from benchmarks.harness.report import Table
from benchmarks.harness.timing import Times, calls_lasting, interleave
from benchmarks.harness.training import PRECISIONS, training_step
from benchmarks.harness.workers import WorkerError, worker
from benchmarks.harness.workloads import SHIPPED, shipped, toy
from megabyte_mm.models import Megabyte
from tests.benchmarks.conftest import CPU


def test_measurements_are_interleaved_forwards_and_backwards():
    order: list[str] = []

    def measure(name):
        order.append(name)
        return float(len(order))

    times = interleave({name: partial(measure, name) for name in "abc"}, rounds=3)
    assert "".join(order) == "abc" + "cba" + "abc"
    assert times.seconds["a"] == [1.0, 6.0, 7.0]


def test_a_ratio_is_a_median_of_ratios_within_a_round():
    times = Times({"slow": [2.0, 20.0, 6.0], "fast": [1.0, 10.0, 2.0]})
    assert times.median("slow") == 6.0
    assert times.ratio("slow", to="fast") == 2.0
    assert times.spread("fast") == (6.0 - 1.5) / 2.0


def test_a_fast_call_is_repeated_and_a_slow_one_is_not():
    assert calls_lasting(0.2, lambda calls: 0.01) == 20
    assert calls_lasting(0.2, lambda calls: 0.5) == 1
    seconds = iter([3.0])
    assert calls_lasting(0.2, lambda calls: next(seconds)) == 1


@pytest.mark.parametrize("name", SHIPPED)
def test_the_windows_of_the_shipped_configs_are_whole_patches(name):
    assert shipped(name).window % shipped(name).patch_size == 0


def test_a_step_changes_the_weights_in_both_precisions():
    workload = toy()
    for precision in PRECISIONS:
        model = Megabyte(workload.config)
        before = model.local_start_L.detach().clone()
        training_step(model, workload.ids(workload.batch, workload.window, CPU), precision)()
        assert not torch.equal(model.local_start_L, before)


def test_resident_memory_rises_by_what_is_held():
    memory = PeakMemory(CPU)
    memory.reset()
    if memory.rise() is None:
        pytest.skip("this system counts no resident memory")
    # Not from malloc, which other tests may have made to keep what is freed: neither the pages nor their content.
    with mmap.mmap(-1, 64 * 2**20) as held:
        for _ in range(0, len(held), 2**16):
            held.write(b"1" * 2**16)
    risen = memory.rise()
    assert risen is not None
    assert risen > 60 * 2**20
    memory.reset()
    risen = memory.rise()
    assert risen is not None
    assert risen < 60 * 2**20


def unready(text):
    return None, int(text)


def dividing():
    return "info", lambda divisor: 1 / divisor


def sleeping():
    return None, time.sleep


def test_a_worker_answers_until_it_fails():
    with worker("lunch", dividing, 1) as process:
        assert process.info == "info"
        assert process.call(2) == 0.5
        with pytest.raises(WorkerError, match="^lunch: ZeroDivisionError: division by zero$"):
            process.call(0)
    assert not process._process.is_alive()


@pytest.mark.parametrize(
    ("setup", "message"),
    [
        (partial(unready, "pie"), r"^lunch: ValueError: invalid literal for int\(\) with base 10: 'pie'$"),
        (partial(os._exit, 3), "^lunch: its process ended with exit code 3$"),
    ],
)
def test_a_worker_that_does_not_start_is_named_with_the_reason(setup, message):
    with pytest.raises(WorkerError, match=message), worker("lunch", setup, 1):
        pass


def test_a_killed_worker_is_named():
    with worker("lunch", sleeping, 1) as process:
        process._process.kill()
        with pytest.raises(WorkerError, match="^lunch: its process was ended by signal 9, as where memory runs out$"):
            process.call(0)


def test_a_worker_ends_with_the_block_however_busy(monkeypatch):
    monkeypatch.setattr(workers, "END_TIMEOUT", 0.2)
    with worker("lunch", sleeping, 1) as process:
        process._connection.send(60.0)
        start = time.perf_counter()
    assert time.perf_counter() - start < 10
    assert not process._process.is_alive()


@pytest.mark.parametrize(("error", "code"), [(WorkerError("lunch: no memory"), 1), (KeyboardInterrupt(), 130)])
def test_a_part_that_fails_ends_the_program_and_keeps_what_was_measured(error, code, tmp_path, capsys):
    def measure(save):
        save([Table("Dishes", ("dish",), [("pie",)])])
        raise error

    options = argparse.Namespace(parts=["lunch"], device="cpu", threads=1, json=tmp_path / "figures.json", plot=None)
    assert program.run_parts(options, {"lunch": measure}, (), lambda tables, path: None, "prog") == code
    assert '"dish": "pie"' in options.json.read_text(encoding="utf-8")
    assert capsys.readouterr().err.splitlines()[1:] == (["prog: error: lunch: no memory"] if code == 1 else [])
