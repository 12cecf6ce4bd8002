"""On a GPU: fit in each precision and strategy, and what its checkpoints generate, score and compress."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from megabyte_mm.cli.main import main
from tests.training.conftest import Fit

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")]

DEVICE, ACCELERATOR = "cuda", "gpu"


@pytest.mark.parametrize(
    ("precision", "strategy", "compile_mode"),
    [
        *((precision, "auto", "null") for precision in ("32-true", "bf16-mixed", "16-mixed", "bf16-true")),
        *(("bf16-mixed", strategy, "null") for strategy in ("ddp", "fsdp2")),
        ("bf16-mixed", "auto", "auto"),
    ],
)
def test_a_run_trains_resumes_and_generates(
    precision: str, strategy: str, compile_mode: str, fit: Fit, tmp_path: Path
) -> None:
    options = [f"--trainer.precision={precision}", f"--trainer.strategy={strategy}"]
    options += [f"--model.compile_mode={compile_mode}", f"--trainer.accelerator={ACCELERATOR}", "--trainer.devices=1"]
    assert fit(*options, "--trainer.max_steps=4") == 0
    assert fit(*options, "--trainer.max_steps=8", "--ckpt_path=last") == 0
    checkpoint = str(tmp_path / "run" / "best.ckpt")
    out = str(tmp_path / "out")
    assert (
        main(["generate", checkpoint, "--device", DEVICE, "--length", "100", "--num_samples", "3", "--out", out]) == 0
    )
    assert all(path.stat().st_size <= 100 for path in Path(out).iterdir())


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_what_is_compressed_comes_back(precision: str, fit: Fit, texts: Path, tmp_path: Path) -> None:
    assert fit(f"--trainer.accelerator={ACCELERATOR}", "--trainer.devices=1") == 0
    checkpoint, packed, out = (str(tmp_path / name) for name in ("run/best.ckpt", "texts.mbz", "out"))
    device = ["--device", DEVICE]
    assert main(["score", checkpoint, str(texts / "val"), *device]) == 0
    assert main(["compress", checkpoint, str(texts / "val"), "--out", packed, "--precision", precision, *device]) == 0
    assert main(["decompress", checkpoint, packed, "--out", out, *device]) == 0
    [restored] = list(Path(out).rglob("*.txt"))
    assert restored.read_bytes() == (texts / "val" / "c.txt").read_bytes()
