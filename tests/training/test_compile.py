"""torch.compile in `fit`: pictures and text, changing batches, dropout, recomputation; results as without it."""

import importlib.util
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from megabyte_mm.models import (
    Megabyte,
    MegabyteConfig,
    PartConfig,
    PerceiverARConfig,
    StackConfig,
    StepOptions,
    TransformerConfig,
)
from megabyte_mm.training.module import ByteLM
from megabyte_mm.training.trainer import compile_mode_here, records_graphs
from tests.training.conftest import weights

pytestmark = [
    # torch.compile imports parts of torch that warn of their age, and looks whether tensors have a gradient.
    pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning"),
]
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs g++ on a CPU")


@pytest.fixture(autouse=True)
def nothing_compiled_stays():
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    yield
    torch._dynamo.reset()


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let torch.compile trace and differentiate as always, but run the operations without making C++ of them."""
    compile_function = torch.compile

    def trace(function: Any, options: dict[str, Any], dynamic: bool) -> Any:
        return compile_function(function, backend="aot_eager", dynamic=dynamic)

    monkeypatch.setattr(torch, "compile", trace)


def compiled_graphs() -> int:
    return torch._dynamo.utils.counters["stats"]["unique_graphs"]


@pytest.fixture
def media(tmp_path: Path, texts: Path) -> dict[str, list[str]]:
    """For each modality what `fit` needs: five windows to train on."""
    draw = np.random.default_rng(0)
    for name in ["train/" + str(n) for n in range(5)] + ["val/0"]:
        (tmp_path / "pictures" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (4, 4, 3), np.uint8)).save(tmp_path / "pictures" / f"{name}.png")
    text = tmp_path / "five.txt"
    text.write_bytes((texts / "train/a.txt").read_bytes()[: 5 * 32])
    return {
        "image": [
            f"--data.path={tmp_path / 'pictures'}",
            "--data.adapter={class_path: ImageAdapter, init_args: {size: [4, 4], patch: 2}}",
            "--data.window=null",
            "--model.net.patch_size=null",
            "--model.net.global_stack.dim=24",
            "--model.net.neighbourhood={}",
        ],
        "text": [
            f"--data.path={text}",
            "--data.val_share=0.2",
            "--model.net.cross_patch=2",
            "--model.net.dropout=0.1",
            "--model.net.neighbourhood={rows: 64}",
        ],
    }


@needs_compiler
def test_fit_gives_the_weights_that_it_gives_without_compilation(fit, media, tmp_path):
    fit_plain_and_compiled("image", fit, media, tmp_path)


@needs_compiler
@pytest.mark.usefixtures("traced")
def test_blocks_that_attend_across_patches_are_traced_in_fit(fit, media, tmp_path):
    fit_plain_and_compiled("text", fit, media, tmp_path)


def fit_plain_and_compiled(modality, fit, media, tmp_path):
    arguments = [*media[modality], "--data.batch_size=2", "--trainer.max_steps=6"]
    assert fit(*arguments, f"--trainer.default_root_dir={tmp_path / 'plain'}") == 0
    assert compiled_graphs() == 0
    assert fit(*arguments, f"--trainer.default_root_dir={tmp_path / 'fast'}", "--model.compile_mode=default") == 0
    assert compiled_graphs() >= 2  # at least one for each level
    plain, fast = (weights(tmp_path / name / "last.ckpt") for name in ("plain", "fast"))
    torch.testing.assert_close(fast, plain, rtol=1e-3, atol=1e-4)


def test_without_a_compiler_fit_ends_before_it_begins(fit, root, monkeypatch, capsys):
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert fit("--model.compile_mode=default") == 2
    assert "model.compile_mode needs a C++ compiler, and there is no no-such-compiler" in capsys.readouterr().err
    assert not list(root.rglob("*.ckpt"))


def test_graphs_are_refused_where_gradients_are_added_up_over_batches(fit, capsys):
    assert fit("--model.compile_mode=reduce-overhead", "--trainer.accumulate_grad_batches=2") == 2
    output = capsys.readouterr().err
    assert "model.compile_mode reduce-overhead records CUDA graphs" in output
    assert "accumulate_grad_batches 2" in output


@pytest.mark.parametrize(
    ("lacking", "mode"), [(None, "default"), *((name, None) for name in ("gpu", "triton", "compiler", "header", "age"))]
)
def test_a_gpu_that_can_compile_does_so_by_itself(lacking, mode, monkeypatch, tmp_path):
    (tmp_path / "Python.h").touch()
    spec = None if lacking == "triton" else importlib.util.find_spec("json")
    monkeypatch.setattr("megabyte_mm.training.trainer.find_spec", lambda _: spec)
    monkeypatch.setattr("shutil.which", lambda _: None if lacking == "compiler" else "/bin/cc")
    monkeypatch.setattr("sysconfig.get_path", lambda _: str(tmp_path / "none" if lacking == "header" else tmp_path))
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda _: (6, 1) if lacking == "age" else (9, 0))
    device = torch.device("cpu" if lacking == "gpu" else "cuda")
    trainer: Any = SimpleNamespace(strategy=SimpleNamespace(root_device=device))
    assert compile_mode_here("auto", trainer) == mode


@pytest.mark.parametrize(
    ("devices", "accumulated", "net", "budget", "records"),
    [
        (1, 1, {}, 2.0**31, True),
        (2, 1, {}, 2.0**31, False),
        (1, 2, {}, 2.0**31, False),
        (1, 1, {}, 1.0, False),
        (1, 1, {"parts": (PartConfig(4, 16), PartConfig(4, 16)), "orders": ((0, 1),), "conditions": 1}, 2.0**31, False),
    ],
    ids=["one device", "two devices", "accumulation", "chunks", "parts"],
)
def test_a_gpu_records_graphs_by_itself_where_blocks_run_once_in_an_update(devices, accumulated, net, budget, records):
    trainer: Any = SimpleNamespace(world_size=devices, accumulate_grad_batches=accumulated)
    stack = StackConfig(16, 1, 2)
    model = MegabyteConfig(4, 32, stack, stack, **net).build()
    assert records_graphs(trainer, model, 2, budget) == records
    assert not records_graphs(trainer, TransformerConfig(max_len=32, stack=stack).build(), 2, budget)


@needs_compiler
@pytest.mark.parametrize(
    ("options", "mode"), [((), "reduce-overhead"), (("--model.activation_checkpointing=true",), "default")]
)
def test_fit_records_graphs_by_itself_and_drops_gradients_before_each_step(
    options, mode, fit, media, monkeypatch, capsys
):
    monkeypatch.setattr("megabyte_mm.training.module.compile_mode_here", lambda setting, trainer: "default")
    kept, modules, start = [], [], ByteLM.on_train_batch_start

    def started(module, *rest):
        modules.append(module)
        start(module, *rest)

    def marked():
        kept.append(any(parameter.grad is not None for parameter in modules[-1].parameters()))

    monkeypatch.setattr(ByteLM, "on_train_batch_start", started)
    monkeypatch.setattr("torch.compiler.cudagraph_mark_step_begin", marked)
    assert fit(*media["image"], "--data.batch_size=2", "--trainer.max_steps=3", *options) == 0
    assert f"compiling the model ({mode})" in capsys.readouterr().err
    assert kept == [False] * 3 if mode == "reduce-overhead" else any(kept)


def test_an_unknown_mode_is_refused_by_name(fit, capsys):
    assert fit("--model.compile_mode=fastest") == 2
    assert "compile_mode" in capsys.readouterr().err


@pytest.mark.usefixtures("traced")
def test_compiled_blocks_are_computed_anew_in_chunks_and_leave_scoring_alone():
    stack = StackConfig(dim=16, layers=2, heads=2)
    torch.manual_seed(0)
    model = Megabyte(MegabyteConfig(patch_size=4, max_len=48, global_stack=stack, local_stack=stack, init_std=0.3))
    ids = torch.randint(256, (2, 48))
    names = set(model.state_dict())
    found = []
    for compiled in (False, True):
        if compiled:
            model.compile_blocks()
        for budget in (2**30, 1):
            model.zero_grad()
            nats = model.nll(ids[:1] if budget == 1 else ids, options=StepOptions(budget))
            nats.sum().backward()
            found.append(
                (nats.detach(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
            )
    torch.testing.assert_close(found[2:], found[:2], rtol=1e-4, atol=1e-5)
    assert set(model.state_dict()) == names
    before = compiled_graphs()
    assert before
    with torch.no_grad():
        model.nll(ids[:, :33])
    assert compiled_graphs() == before


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize(("kind", "options"), [(TransformerConfig, {}), (PerceiverARConfig, {"latents": 8})])
def test_the_baselines_compile_too(kind, options):
    torch.manual_seed(0)
    model = kind(max_len=16, stack=StackConfig(dim=16, layers=1, heads=2), init_std=0.3, **options).build()
    ids, found = torch.randint(256, (2, 16)), []
    for compiled in (False, True):
        if compiled:
            model.compile_blocks()
        model.zero_grad()
        torch.manual_seed(1)  # PerceiverAR learns from a place at random
        nats, _ = model.training_nll(ids)
        nats.sum().backward()
        found.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    assert compiled_graphs()
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-5)
