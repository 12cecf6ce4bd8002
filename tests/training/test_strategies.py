"""One run on one process and on two, by every strategy: the same figures, and checkpoints that either can read.

Two processes are started once, as torchrun starts them, and train one run after the other.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from megabyte_mm.checkpoint import AVERAGE_KEY, load_model
from megabyte_mm.cli.main import main
from megabyte_mm.models import MegabyteConfig, StackConfig
from megabyte_mm.training.distributed import gather_model
from tests.models.layouts import EACH
from tests.training.test_fit import logged

FIGURES = ("train/loss", "train/bpb", "val/bpb")

WINDOWS = {"train": [200, 150, 97, 33, 260, 80, 41, 19, 150, 66], "val": [80, 33, 47, 70, 20]}
"""Sizes of files: windows of 32 bytes that often end early; to validate 11, which two processes cannot share evenly."""

NETS = {
    "megabyte": [
        "--model.net.patch_size=4",
        "--model.net.cross_patch=2",
        "--model.net.global_stack={dim: 32, layers: 2, heads: 2}",
        "--model.net.local_stack={dim: 16, layers: 2, heads: 2}",
    ],
    "transformer": [
        "--model.net=TransformerConfig",
        "--model.net.stack={dim: 32, layers: 2, heads: 2}",
        "--model.method=sliding",
    ],
    "perceiver_ar": [
        "--model.net=PerceiverARConfig",
        "--model.net.stack={dim: 32, layers: 2, heads: 2}",
        "--model.net.latents=16",
        "--model.net.neighbourhood={rows: 64}",
    ],
}
NETS["parts"] = [
    *(argument for argument in NETS["megabyte"] if "patch" not in argument),
    "--data.window=null",
    (
        "--data.sources={small: {adapter: data_adapters.TextAdapter, patch_size: 4, window: 32}, "
        "large: {adapter: data_adapters.TextAdapter, patch_size: 8, window: 64, weight: 0.5}}"
    ),
]
NETS["muon"] = [*NETS["megabyte"], "--model.net.neighbourhood={rows: 64}", "--model.optimizer.muon=true"]

NETS["sgd"] = [
    *NETS["megabyte"],
    "--model.optimizer.algorithm=SGD",
    "--model.optimizer.options={momentum: 0.9}",
]

CONFIG = """
trainer: {max_steps: 8, val_check_interval: 4, log_every_n_steps: 1, accelerator: cpu, devices: 1, precision: 32-true}
data: {path: texts, window: 32, val_batch_size: 2, cache_dir: cache}
samples: {count: 0}
model: {optimizer: {lr: 0.01, warmup_steps: 2, decay: constant}}
"""

LONG = ["--data.window=128", "--data.val_batch_size=1", "--trainer.max_steps=2", "--trainer.val_check_interval=2"]
"""Windows that little memory for activations cuts into four chunks, which hear of each other; five to validate, which
as single ones would make one process wait for the other."""

ONE = ["--data.batch_size=8"]
TWO = ["--data.batch_size=4", "--trainer.devices=2"]
HALF = ["--trainer.max_steps=4"]
CHECKPOINTED = ["--model.activation_checkpointing=true"]
SAMPLES = ["--samples.count=2", "--samples.length=4"]

ALONE = {
    **{name: [*ONE, *net] for name, net in NETS.items()},
    "half": [*ONE, *HALF, *NETS["megabyte"]],
    "average": [*ONE, "--model.ema_decay=0.9", *NETS["megabyte"]],
    "long": ["--data.batch_size=2", *LONG, *NETS["megabyte"]],
    "accumulated": [
        "--data.batch_size=4",
        "--trainer.accumulate_grad_batches=2",
        "--trainer.val_check_interval=8",  # counts batches
        *NETS["megabyte"],
    ],
}
TOGETHER = {
    "ddp": [*TWO, "--trainer.strategy=ddp", *SAMPLES, *NETS["megabyte"]],
    "average-ddp": [*TWO, "--trainer.strategy=ddp", *SAMPLES, "--model.ema_decay=0.9", *HALF, *NETS["megabyte"]],
    "average-resumed": [
        *TWO,
        "--trainer.strategy=ddp",
        "--model.ema_decay=0.9",
        "--ckpt_path=average-ddp/last.ckpt",
        *NETS["megabyte"],
    ],
    "fsdp2": [*TWO, "--trainer.strategy=fsdp2_sharded", *SAMPLES, *HALF, *NETS["megabyte"]],
    "resumed": [*TWO, "--trainer.strategy=fsdp2", "--ckpt_path=half/last.ckpt", *NETS["megabyte"]],
    "chunks": [
        "--data.batch_size=1",
        "--trainer.devices=2",
        "--trainer.strategy=fsdp2",
        "--model.activation_memory=1e-9",
        *LONG,
        *NETS["megabyte"],
    ],
    "transformer-2": [*TWO, "--trainer.strategy=fsdp2", *CHECKPOINTED, *NETS["transformer"]],
    "perceiver_ar-2": [*TWO, "--trainer.strategy=ddp", *NETS["perceiver_ar"]],
    "parts-ddp": [*TWO, "--trainer.strategy=ddp", *SAMPLES, *NETS["parts"]],
    "parts-fsdp2": [*TWO, "--trainer.strategy=fsdp2", *HALF, *NETS["parts"]],
    "muon-2": [*TWO, "--trainer.strategy=fsdp2_sharded", *SAMPLES, *HALF, *NETS["muon"]],
    "muon-resumed": [*TWO, "--trainer.strategy=fsdp2_sharded", "--ckpt_path=muon-2/last.ckpt", *NETS["muon"]],
    "sgd-2": [*TWO, "--trainer.strategy=fsdp2_sharded", *HALF, *NETS["sgd"]],
    "sgd-resumed": [*TWO, "--trainer.strategy=fsdp2", "--ckpt_path=sgd-2/last.ckpt", *NETS["sgd"]],
    "factored": [*TWO, "--trainer.strategy=fsdp2", *NETS["megabyte"], "--model.optimizer.algorithm=Adafactor"],
    "stuck": [*TWO, "--trainer.strategy=fsdp2_sharded", "--trainer.max_steps=1", *NETS["megabyte"]],
}
ENDS = {"stuck": 2, "factored": 2}
"""Exit codes other than 0."""

PROGRAM = """
import json, sys
from megabyte_mm.cli.main import main
codes = [main(arguments) for arguments in json.loads(sys.argv[1])]
print(codes)
sys.exit(codes != json.loads(sys.argv[2]))
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with texts, and all runs above by their names."""
    folder = tmp_path_factory.mktemp("runs")
    for split, sizes in WINDOWS.items():
        (folder / "texts" / split).mkdir(parents=True)
        for number, size in enumerate(sizes):
            content = bytes(97 + (7 * i * i + i // 5 + size) % 26 for i in range(size))
            (folder / "texts" / split / f"{number}.txt").write_bytes(content)
    (folder / "config.yaml").write_text(CONFIG)
    (folder / "stuck").mkdir()
    (folder / "stuck/.last.ckpt.tmp").symlink_to(folder / "texts")  # which the first process alone fails to remove
    train(folder, ALONE, processes=1)
    train(folder, TOGETHER, processes=2)
    return folder


def train(folder: Path, jobs: dict[str, list[str]], processes: int) -> None:
    arguments = [
        ["fit", "--config=config.yaml", f"--trainer.default_root_dir={name}", *given] for name, given in jobs.items()
    ]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    surroundings = os.environ | {"OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    ranks = range(processes) if processes > 1 else [None]
    started = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, json.dumps(arguments), json.dumps([ENDS.get(name, 0) for name in jobs])],
            env=surroundings if rank is None else surroundings | {"LOCAL_RANK": str(rank), "NODE_RANK": "0"},
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in ranks
    ]
    outputs = [process.communicate(timeout=240)[0] for process in started]
    assert [process.returncode for process in started] == [0] * processes, "\n".join(outputs)


@pytest.fixture
def resume(runs: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Go on in a new folder from a checkpoint, on one process."""
    monkeypatch.chdir(runs)
    return lambda name, *arguments: main(
        ["fit", "--config=config.yaml", f"--trainer.default_root_dir={name}", *NETS["megabyte"], *arguments]
    )


def figures(run: Path) -> dict[str, list[float]]:
    return {name: logged(run, name) for name in FIGURES}


def assert_same(two: dict[str, list[float]], one: dict[str, list[float]], first: int = 0) -> None:
    """first: the step that the second run began with, validated after every fourth."""
    for name in FIGURES:
        expected = one[name][first // 4 if name == "val/bpb" else first :]
        assert two[name] == pytest.approx(expected[: len(two[name])], rel=1e-5)


@pytest.mark.parametrize(
    ("two", "one"),
    [
        ("ddp", "megabyte"),
        ("fsdp2", "megabyte"),
        ("chunks", "long"),
        ("transformer-2", "transformer"),
        ("perceiver_ar-2", "perceiver_ar"),
        ("muon-2", "muon"),
        ("parts-ddp", "parts"),
        ("parts-fsdp2", "parts"),
    ],
)
def test_two_processes_train_and_measure_as_one(runs, two, one):
    """With windows that end early, clipped gradients, and shares of the validation windows that differ."""
    steps = {"long": 2}.get(one, 4 if two in ("fsdp2", "muon-2", "parts-fsdp2") else 8)
    assert len(logged(runs / two, "train/loss")) == steps
    assert_same(figures(runs / two), figures(runs / one))
    read = logged(runs / two, "train/bytes")
    assert read == logged(runs / one, "train/bytes")[: len(read)]
    assert len(list((runs / two / "logs").iterdir())) == 1


def test_two_processes_average_and_resume_as_one(runs):
    one = figures(runs / "average")
    assert one["val/bpb"] != pytest.approx(figures(runs / "megabyte")["val/bpb"], rel=1e-3)
    assert_same(figures(runs / "average-ddp"), one)
    assert_same(figures(runs / "average-resumed"), one, first=4)
    checkpoints = [torch.load(runs / run / "last.ckpt", weights_only=True) for run in ("average-resumed", "average")]
    torch.testing.assert_close(*(checkpoint[AVERAGE_KEY] for checkpoint in checkpoints), rtol=1e-4, atol=1e-5)


def test_accumulated_batches_train_as_one_large_batch(runs):
    assert_same(figures(runs / "accumulated"), figures(runs / "megabyte"))


@pytest.mark.parametrize("strategy", ["ddp", "fsdp2", "muon-2"])
def test_samples_are_generated_where_several_processes_train(runs, strategy):
    assert len(list((runs / strategy / "logs/version_0/samples/step-0000004").iterdir())) == 2


def test_a_run_goes_on_with_more_processes(runs):
    assert_same(figures(runs / "resumed"), figures(runs / "megabyte"), first=4)
    assert (runs / "resumed/last.ckpt").is_file()


@pytest.mark.parametrize("name", ["muon", "sgd"])
def test_momentum_goes_on_in_shards(runs, name):
    assert_same(figures(runs / f"{name}-resumed"), figures(runs / name), first=4)


@pytest.mark.parametrize(("sharded", "net"), [("fsdp2", "megabyte"), ("muon-2", "muon")])
def test_a_run_of_two_processes_with_sharded_checkpoints_goes_on_in_one(runs, resume, sharded, net):
    assert (runs / sharded / "last.ckpt").is_dir()
    assert resume(f"{net}-alone", *ONE, *NETS[net], f"--ckpt_path={sharded}/last.ckpt") == 0
    assert_same(figures(runs / f"{net}-alone"), figures(runs / net), first=4)


def test_a_run_goes_on_with_other_devices_only_where_its_updates_stay_the_same(resume, capfd):
    assert resume("other", "--data.batch_size=4", "--ckpt_path=fsdp2/last.ckpt") == 2
    assert "devices was 2 and is 1" in capfd.readouterr().err


def test_a_file_and_shards_of_one_run_hold_the_same(runs):
    """The weights of two processes, put together by one that has no process group."""
    ids = torch.arange(32)[None]
    shards, file = (load_model(runs / run / "last.ckpt").model.nll(ids) for run in ("fsdp2", "half"))
    torch.testing.assert_close(shards, file, rtol=1e-4, atol=1e-5)


def test_what_the_first_process_alone_cannot_write_ends_all_of_them(runs):
    assert not (runs / "stuck/last.ckpt").exists()
    assert (runs / "texts/train").is_dir()


def test_every_command_reads_shards(runs, monkeypatch, tmp_path, capfd):
    monkeypatch.chdir(runs)
    assert main(["generate", "fsdp2/last.ckpt", f"--out={tmp_path}", "--length=4", "--num_samples=1"]) == 0
    assert main(["info", "fsdp2/last.ckpt"]) == 0
    capfd.readouterr()
    assert main(["validate", "--config=config.yaml", "--ckpt_path=fsdp2/best.ckpt", *NETS["megabyte"]]) == 0
    assert f"{logged(runs / 'fsdp2', 'val/bpb')[0]:.4f}" in capfd.readouterr().out


REFUSED = {
    "--trainer.strategy=fsdp": "trainer.strategy fsdp is not supported: take fsdp2",
    "--trainer.strategy=lightning.pytorch.strategies.ModelParallelStrategy": "ModelParallelStrategy is not supported",
    "--trainer.strategy=fsdp2 --model.compile_mode=default": "model.compile_mode default does not work with fsdp2",
}


@pytest.mark.parametrize("arguments", REFUSED)
def test_what_cannot_be_combined_is_refused_in_one_line(fit, capfd, arguments, monkeypatch):
    monkeypatch.setenv("MASTER_PORT", "0")
    assert fit(*arguments.split()) == 2
    assert REFUSED[arguments] in capfd.readouterr().err.splitlines()[-1]


def test_a_model_that_is_gathered_has_the_rules_of_its_neighbourhood(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are no weights: no state dict brings them along."""
    config = MegabyteConfig(
        patch_size=4,
        max_len=16,
        global_stack=StackConfig(16, 1, 2),
        local_stack=StackConfig(8, 1, 2),
        neighbourhood=EACH,
        conditions=3,
    )
    model, ids = config.build().eval(), torch.arange(16)[None]
    monkeypatch.setattr("megabyte_mm.training.distributed.FSDPModule", type(model))
    gathered = gather_model(model, True, torch.device("cpu"))
    assert gathered is not None
    for name, buffer in model.named_buffers():
        assert torch.equal(gathered.get_buffer(name), buffer), name
    torch.testing.assert_close(gathered.eval().nll(ids), model.nll(ids))
