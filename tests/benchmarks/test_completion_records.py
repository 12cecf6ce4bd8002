"""benchmarks.completion on records of several parts: generated last parts beside the real ones."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.completion import __main__ as completion
from megabyte_mm.cli.main import main

WORDS = ("dark", "bright")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory) -> Path:
    """Dark and bright pictures, their words, and masks of their light pixels."""
    root, rng = tmp_path_factory.mktemp("records") / "pairs", np.random.default_rng(0)
    for i in range(24):
        folder = root / ("val" if i < 8 else "train")
        folder.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(20 + 200 * (i % 2), 32 + 200 * (i % 2), (4, 4, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
        Image.fromarray(np.where(pixels > 127, 255, 0).astype(np.uint8)).save(folder / f"{i}.mask.png")
        (folder / f"{i}.txt").write_text(WORDS[i % 2])
    return root


@pytest.fixture(scope="module")
def checkpoint(pairs, tmp_path_factory) -> str:
    run = tmp_path_factory.mktemp("run")
    stack = "{dim: 24, layers: 1, heads: 2}"
    image = "{class_path: data_adapters.ImageAdapter, init_args: {size: [4, 4], patch: 2}}"
    config = run / "pairs.yaml"
    config.write_text(
        f"""
trainer: {{default_root_dir: {run}, max_steps: 60, accelerator: cpu, devices: 1, precision: 32-true,
  limit_val_batches: 0}}
data:
  path: {pairs}
  parts: [[text, image], [image, text], [image, mask]]
  drop_part: 0.2
  part_weights: [0, 1]
  sources:
    text: {{patch_size: 4}}
    image: {{suffix: .png, adapter: {image}}}
    mask: {{suffix: .mask.png, adapter: {image}}}
  batch_size: 8
samples: {{count: 0}}
model:
  net: {{global_stack: {stack}, local_stack: {stack}, init_std: 0.1, embedding_scale: 5.0, patch_scale: 10.0}}
  optimizer: {{lr: 0.01, warmup_steps: 10}}
"""
    )
    assert main(["fit", "--config", str(config)]) == 0
    return str(run / "last.ckpt")


def test_generated_parts_are_compared_with_those_of_the_record(checkpoint, pairs, tmp_path):
    out, figures = tmp_path / "out", tmp_path / "figures.json"
    options = ["--count", "8", "--temperature", "1", "--guidance", "1.5", "--out", str(out), "--json", str(figures)]
    assert completion.main([checkpoint, str(pairs), *options]) == 0
    (table,) = json.loads(figures.read_text(encoding="utf-8"))["completion"].values()
    rows = {(row["order"], row["given"]): row for row in table}
    assert list(rows) == [
        *(("text+image", given) for given in ("all", "bright", "dark")),
        *(("image+text", "all"), ("image+mask", "all")),
    ]
    assert [row["records"] for row in rows.values()] == [8, 4, 4, 8, 8]
    assert rows["text+image", "all"]["originals"] == 1.0
    assert rows["text+image", "all"]["judged right"] >= 0.5
    # Equal words make different pictures.
    assert len({path.read_bytes() for path in out.glob("text+image-*.png")}) == 8
    assert (out / "image+text-0007.txt").is_file()
    assert 0.0 <= rows["image+mask", "all"]["mask IoU"] <= 1.0


def test_folders_that_cannot_be_compared_are_refused_before_anything_is_generated(checkpoint, pairs, capsys):
    assert completion.main([checkpoint, str(pairs / "val")]) == 2
    assert "has no folder train" in capsys.readouterr().err.splitlines()[-1]
