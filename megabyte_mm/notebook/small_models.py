"""Small models of the demo data, trained in a minute, to try tools on."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from data_adapters import Adapter, AudioAdapter, ImageAdapter, TextAdapter
from megabyte_mm.data.module import ByteData
from megabyte_mm.models import BlockConfig, MegabyteConfig, StackConfig
from megabyte_mm.training import ByteLM, OptimizerConfig, fit

Modality = Literal["image", "audio", "text"]

_DATA: dict[Modality, dict[str, Any]] = {
    "image": {"path": "images", "batch_size": 2},
    "audio": {"path": "audio", "window": 2048, "batch_size": 2, "max_val_windows": 64},
    "text": {"path": "text", "window": 512, "batch_size": 4, "max_val_windows": 64},
}
_ADAPTERS: dict[Modality, tuple[type[Adapter], dict[str, Any]]] = {
    "image": (ImageAdapter, {"size": (32, 32)}),
    "audio": (AudioAdapter, {"rate": 8000, "channels": 1, "encoding": "pcm8"}),
    "text": (TextAdapter, {}),
}
_SIZES: dict[Modality, tuple[int | None, int, int]] = {
    "image": (None, 192, 64),
    "audio": (32, 256, 64),
    "text": (8, 256, 96),
}
"""Patch size, width of the global model, width of the local model."""


def small_checkpoint(modality: Modality, media: str | Path, folder: str | Path, steps: int, **settings: Any) -> Path:
    """Return the checkpoint of a small model of the demo data; it is trained on the first call.

    media: folder of `make_demo_data`. folder: of the run; if it has a best.ckpt, that is returned without training.
    settings: of the adapter, in place of the defaults here.
    """
    best = Path(folder, "best.ckpt")
    if best.is_file():
        return best
    return fit(small_model(modality), small_data(modality, media, **settings), folder, steps)


def small_model(modality: Modality) -> ByteLM:
    """Return an untrained model."""
    patch_size, global_dim, local_dim = _SIZES[modality]
    net = MegabyteConfig(
        patch_size=patch_size,
        global_stack=StackConfig(dim=global_dim, layers=2, heads=4),
        local_stack=StackConfig(dim=local_dim, layers=2, heads=2),
        local_start="byte",
        embedding_scale=5.0,
        block=BlockConfig(activation="relu2"),
        init_std=0.08,
    )
    return ByteLM(net, OptimizerConfig(lr=4e-3, warmup_steps=20))


def small_data(modality: Modality, media: str | Path, **settings: Any) -> ByteData:
    """Return the training data of one modality. media, settings: as of `small_checkpoint`."""
    adapter, defaults = _ADAPTERS[modality]
    data = {**_DATA[modality], "path": str(Path(media, _DATA[modality]["path"]))}
    return ByteData(**data, adapter=adapter(**{**defaults, **settings}), val_batch_size=16)
