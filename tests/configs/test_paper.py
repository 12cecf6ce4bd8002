"""configs/paper: every row of the paper's table, of its size, with its recipe, and ready for `fit`."""

from __future__ import annotations

import contextlib
import io
import re
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import yaml

from megabyte_mm.cli.config import read_config
from megabyte_mm.cli.main import main
from megabyte_mm.models import ByteModel, Megabyte, PerceiverAR, Transformer
from megabyte_mm.models.layers import Stack

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "configs" / "paper"

SIZES = {125: (12, 768), 350: (24, 1024), 760: (24, 1536), 1300: (24, 2048), 2700: (32, 2560), 6700: (32, 4096)}
"""Millions of parameters -> layers and width: the paper's table of sizes, which are GPT-3's (Brown et al. 2020)."""
TABLES = 50_257 + 2048
"""Rows of GPT-3's two tables, of its vocabulary and of positions: its sizes hold them, and no byte model has them."""


class Row(NamedTuple):
    """A model in the paper. Stacks are (millions of parameters, width, layers)."""

    stacks: tuple[tuple[int, int, int], ...]
    batch: int
    lr: float
    window: int
    patch: int = 1


ROWS = {
    "text_transformer": Row(((320, 1024, 22),), 72, 2e-4, 1024),
    "text_perceiver_ar": Row(((248, 1024, 17),), 72, 2e-4, 8192),
    "text_megabyte": Row(((758, 2048, 14), (262, 1024, 18)), 48, 2e-4, 8192, 8),
    "text_megabyte_conv": Row(((704, 2048, 13), (262, 1024, 18)), 48, 2e-4, 8192, 8),
    "image64_megabyte_best": Row(((2700, 2560, 32), (350, 1024, 24)), 2, 2e-4, 12_288, 12),
    "image64_megabyte": Row(((1300, 2048, 24), (1300, 2048, 24)), 256, 3e-4, 12_288, 12),
    "image64_transformer": Row(((760, 1536, 24),), 512, 3e-4, 2048),
    "image64_perceiver_ar": Row(((227, 1024, 16),), 512, 3e-4, 12_288),
    "image256_megabyte": Row(((125, 768, 12), (125, 768, 12)), 16, 2e-4, 196_608, 192),
    "image256_transformer": Row(((62, 768, 6),), 1536, 2e-4, 1024),
    "image256_perceiver_ar": Row(((62, 768, 6),), 256, 2e-4, 8192),
    "image640_megabyte": Row(((125, 768, 12), (83, 768, 8)), 32, 3e-4, 1_228_800, 192),
    "image640_transformer": Row(((83, 768, 8),), 4800, 3e-4, 1024),
    "image640_perceiver_ar": Row(((62, 768, 6),), 2048, 3e-4, 4096),
    "audio_megabyte": Row(((350, 1024, 24), (125, 768, 12)), 256, 2e-4, 524_288, 32),
    "audio_transformer": Row(((135, 768, 13),), 2048, 2e-4, 1024),
    "audio_perceiver_ar": Row(((62, 768, 6),), 384, 2e-4, 8192),
}
LONGER = {"image256_perceiver_ar": 196_608, "image640_perceiver_ar": 1_228_800}
"""Where a window is longer than the paper's: a picture is one stream here."""
ROUNDED = {("image64_megabyte_best", 2560): 2556, ("image64_megabyte", 2048): 2040}
"""Global widths that a patch of 12 bytes does not divide."""
COUNTED = ("image64_perceiver_ar",)
"""227M is no share of 350M, which would be 233M, but a count of the whole model: 16 blocks, the cross-attention block
in front of them, and a table of 12,288 positions. With a share of GPT-3's tables its stack has 237M."""
LATENTS = {"text": 1024, "image64": 1024, "image256": 768, "image640": 1024, "audio": 1024}

every_row = pytest.mark.parametrize("name", ROWS)


def settings(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    return content


@cache
def meta_model(name: str) -> ByteModel:
    return read_config(str(FOLDER / f"{name}.yaml")).build_empty()


def stacks(model: ByteModel) -> list[Stack]:
    """In the order of the table: global, local."""
    return [part for part in model.children() if isinstance(part, Stack)]


def weights(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_there_is_a_file_for_every_row_and_no_other() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == set(ROWS)


@every_row
def test_stacks_have_the_papers_sizes(name: str) -> None:
    model, row = meta_model(name), ROWS[name]
    head_widths = {768: 64, 1024: 64, 1536: 96, 2048: 64, 2556: 71, 2040: 60}
    for stack, (millions, width, layers) in zip(stacks(model), row.stacks, strict=True):
        rounded = ROUNDED.get((name, width), width) if stack is getattr(model, "global_stack", None) else width
        assert (stack.config.dim, stack.config.layers, stack.config.feedforward) == (rounded, layers, 4)
        assert stack.config.dim // stack.config.heads == head_widths[rounded]
        assert weights(stack) == pytest.approx(12 * layers * rounded**2, rel=0.005)
        if name in COUNTED:
            assert weights(model) == pytest.approx(millions * 1e6, rel=0.002)
        else:
            [full_depth] = [depth for depth, size in SIZES.values() if size == width]
            tables = TABLES * width * layers / full_depth
            assert weights(stack) + tables == pytest.approx(millions * 1e6, rel=0.03)


@every_row
def test_windows_patches_and_contexts_are_the_papers(name: str) -> None:
    model, row = meta_model(name), ROWS[name]
    context = model.block_size(model.max_len) if isinstance(model, Transformer) else model.max_len
    assert (context, model.patch_size) == (LONGER.get(name, row.window), row.patch)
    if isinstance(model, PerceiverAR):
        assert model.config.latents == LATENTS[name.split("_")[0]]
    if isinstance(model, Megabyte):
        assert model.config.cross_patch == min(model.patch_size, 48)
        assert model.config.conv_encoder == name.endswith("_conv")


@every_row
def test_the_recipe_is_the_papers(name: str) -> None:
    content, model, row = settings(name), meta_model(name), ROWS[name]
    adam = {"lr": row.lr, "beta1": 0.9, "beta2": 0.98, "weight_decay": 0.1}
    schedule = {"warmup_steps": 500, "decay": "linear", "final_lr": 0.0}
    assert content["model"]["optimizer"] == adam | schedule
    assert content["trainer"]["gradient_clip_val"] == 1.0
    assert (model.config.dropout, model.config.init_std) == (0.1, 0.006)
    batch = content["data"]["batch_size"]
    if name in LONGER:
        assert batch == row.batch
    else:  # pictures are whole here, so that a Transformer's batch of pieces is one of fewer pictures
        assert batch * model.max_len == pytest.approx(row.batch * row.window, rel=0.005)


@pytest.mark.parametrize("task", ["text", "image64", "image256", "image640", "audio"])
def test_rows_that_are_compared_take_equal_compute(task: str) -> None:
    compute = {}
    for name in (f"{task}_megabyte", f"{task}_transformer", f"{task}_perceiver_ar"):
        content, model = settings(name), meta_model(name)
        steps, windows = content["trainer"]["max_steps"], content["data"]["batch_size"]
        compute[name] = steps * windows * model.max_len * model.training_flops_per_byte()
    # For text the paper gives what is equal: 80 GB.
    assert max(compute.values()) == pytest.approx(min(compute.values()), rel=0.2 if task == "text" else 0.01), compute


@every_row
def test_the_documented_table_agrees(name: str) -> None:
    model, document = meta_model(name), (ROOT / "docs" / "paper.md").read_text(encoding="utf-8")
    for number, (stack, (millions, width, layers)) in enumerate(zip(stacks(model), ROWS[name].stacks, strict=True)):
        [nominal] = [size * layers / depth for size, (depth, dim) in SIZES.items() if dim == width]
        cells = [f"{nominal / millions:.3f}", count(weights(stack)), "" if number else count(weights(model))]
        config = "" if number else f"`paper/{name}`"
        pattern = rf"\| {config} \| \w+ {layers} x {stack.config.dim} \| .* \| {' [|] '.join(map(re.escape, cells))} \|"
        assert re.search(pattern, document), pattern


def count(parameters: int) -> str:
    return f"{parameters / 1e9:.3f}B" if parameters >= 1e9 else f"{parameters / 1e6:.1f}M"


def test_fit_takes_a_row_by_name() -> None:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert main(["fit", "--config", "paper/text_megabyte", "--data.path", "x", "--print_config"]) == 0
    printed = yaml.safe_load(out.getvalue())
    assert printed["data"]["batch_size"] == settings("text_megabyte")["data"]["batch_size"]
    assert printed["model"]["net"]["init_args"]["dropout"] == 0.1
