"""Config of the killed runs: small models with everything at once that makes resuming hard."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from megabyte_mm.demo_data import make_demo_data

SETTINGS = ("text", "image")
UPDATES_TO_VALIDATION = 7
BATCHES_IN_UPDATE = 2

_DATA: dict[str, dict[str, Any]] = {
    "text": {"adapter": {"class_path": "data_adapters.FileAdapter"}, "window": 256, "max_val_windows": 64},
    "image": {
        "adapter": {"class_path": "data_adapters.ImageAdapter", "init_args": {"mode": "RGB", "size": [16, 16]}},
        "classes": True,
    },
}
_NET: dict[str, dict[str, Any]] = {
    "text": {"patch_size": 8, "global_stack": {"dim": 256, "layers": 2, "heads": 4}, "cross_patch": 4},
    "image": {"global_stack": {"dim": 192, "layers": 2, "heads": 4}},
}


def write_config(name: str, folder: Path, steps: int) -> Path:
    """Write the config of a run over several epochs: dropout, accumulated gradients, two loading processes, samples.

    Its model has some two million weights, so that a checkpoint takes a while to write.
    """
    data = folder / "data"
    make_demo_data(folder / "samples", pictures=96, melodies=0)
    (folder / "samples" / {"text": "text", "image": "images"}[name]).rename(data)
    _truncate(data / "train", 96)
    config = {
        "seed_everything": 7,
        "checkpoint_minutes": 0.0,
        "trainer": {
            "max_steps": steps,
            "val_check_interval": UPDATES_TO_VALIDATION * BATCHES_IN_UPDATE,
            "accumulate_grad_batches": BATCHES_IN_UPDATE,
            "log_every_n_steps": 1,
            "accelerator": "cpu",
            "devices": 1,
            "precision": "32-true",
            "deterministic": True,
            "callbacks": [{"class_path": "tests.soak.phases.PhaseFile"}],
        },
        "data": {"path": str(data), "batch_size": 4, "val_batch_size": 8, "num_workers": 2, **_DATA[name]},
        "model": {
            "net": {**_NET[name], "local_stack": {"dim": 64, "layers": 2, "heads": 2}, "dropout": 0.1},
            "optimizer": {"lr": 2e-3, "warmup_steps": 10, "decay": "cosine"},
        },
        "samples": {"count": 1, "length": 128},
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


def _truncate(folder: Path, kilobytes: int) -> None:
    """Delete all but the first so many kilobytes of the training files, so that a run reads each several times."""
    left = kilobytes * 1024
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        left -= path.stat().st_size
        if left < 0:
            path.unlink()
