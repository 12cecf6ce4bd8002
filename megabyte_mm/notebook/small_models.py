"""Small models of the made-up media, trained in a minute: something to try tools on before there is a real one."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from data_adapters import Adapter, AudioAdapter, ImageAdapter, TextAdapter
from megabyte_mm.data.module import ByteData
from megabyte_mm.models import BlockConfig, MegabyteConfig, StackConfig
from megabyte_mm.training.fitting import fit
from megabyte_mm.training.module import ByteLM
from megabyte_mm.training.optim import OptimizerConfig

Kind = Literal["image", "audio", "text"]

_DATA: dict[Kind, dict[str, Any]] = {
    "image": {"path": "images", "batch_size": 2},
    "audio": {"path": "audio", "window": 2048, "batch_size": 2, "max_val_windows": 64},
    "text": {"path": "text", "window": 512, "batch_size": 4, "max_val_windows": 64},
}
_ADAPTERS: dict[Kind, tuple[type[Adapter], dict[str, Any]]] = {
    "image": (ImageAdapter, {"size": (32, 32)}),
    "audio": (AudioAdapter, {"rate": 8000, "channels": 1, "encoding": "pcm8"}),
    "text": (TextAdapter, {}),
}
_SHAPES: dict[Kind, tuple[int | None, int, int]] = {
    "image": (None, 192, 64),
    "audio": (32, 256, 64),
    "text": (8, 256, 96),
}
"""Patch size, and the widths of the global and the local model."""


def small_checkpoint(kind: Kind, media: str | Path, folder: str | Path, steps: int, **settings: Any) -> Path:
    """The checkpoint of a small model of one kind of `make_demo_data`' media.

    folder: holds best.ckpt of an earlier call, which is returned then, or receives it after so many steps of training.
    settings: of the adapter, where they are not to be the usual ones.
    """
    best = Path(folder, "best.ckpt")
    return best if best.is_file() else fit(small_model(kind), small_data(kind, media, **settings), folder, steps)


def small_model(kind: Kind) -> ByteLM:
    """The model, not yet trained."""
    patch, wide, narrow = _SHAPES[kind]
    net = MegabyteConfig(
        patch_size=patch,
        global_stack=StackConfig(dim=wide, layers=2, heads=4),
        local_stack=StackConfig(dim=narrow, layers=2, heads=2),
        local_start="byte",
        embedding_scale=5.0,
        block=BlockConfig(activation="relu2"),
        init_std=0.08,
    )
    return ByteLM(net, OptimizerConfig(lr=4e-3, warmup_steps=20))


def small_data(kind: Kind, media: str | Path, **settings: Any) -> ByteData:
    """What it learns from: `media` is a folder that `make_demo_data` filled; settings as of `small_checkpoint`."""
    adapter, usual = _ADAPTERS[kind]
    data = {**_DATA[kind], "path": str(Path(media, _DATA[kind]["path"]))}
    return ByteData(**data, adapter=adapter(**{**usual, **settings}), val_batch_size=16)
