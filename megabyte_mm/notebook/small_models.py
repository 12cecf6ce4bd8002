"""Small models of the demo data, trained in minutes, to try tools on."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from data_adapters import Adapter, AudioAdapter, ImageAdapter, TextAdapter
from megabyte_mm.data import Source
from megabyte_mm.data.module import ByteData
from megabyte_mm.models import BlockConfig, MegabyteConfig, StackConfig
from megabyte_mm.training import ByteLM, OptimizerConfig, fit

Kind = Literal["image", "audio", "text", "captions", "notes"]
"""Of the demo data; captions and notes are records of two parts, of `make_demo_pairs`."""

_DATA: dict[Kind, dict[str, Any]] = {
    "image": {"path": "images", "batch_size": 2},
    "audio": {"path": "audio", "window": 2048, "batch_size": 2, "max_val_windows": 64},
    "text": {"path": "text", "window": 512, "batch_size": 4, "max_val_windows": 64},
    "captions": {
        "path": "captions",
        "parts": [["text", "image"], ["image", "text"]],
        "part_weights": [[0, 1], [0, 0.1]],
        "batch_size": 8,
    },
    "notes": {"path": "melodies", "parts": ["audio", "text"], "part_weights": [0, 1], "batch_size": 8},
}
_ADAPTERS: dict[Kind, tuple[type[Adapter], dict[str, Any]]] = {
    "image": (ImageAdapter, {"size": (32, 32)}),
    "audio": (AudioAdapter, {"rate": 8000, "channels": 1, "encoding": "pcm8"}),
    "text": (TextAdapter, {}),
    "captions": (ImageAdapter, {"size": (16, 16), "patch": 4, "transform": "subtract_green"}),
    "notes": (AudioAdapter, {"rate": 8000, "channels": 1, "encoding": "pcm8"}),
}
_PATCHES: dict[Kind, dict[str, int | None]] = {
    "captions": {"text": 1, "image": None},
    "notes": {"audio": 60, "text": 3},
}
"""Of the parts of records. Every note lasts a multiple of 60 samples; its name and a space are 3 bytes."""
_SIZES: dict[Kind, tuple[int | None, int, int, int]] = {
    "image": (None, 192, 2, 64),
    "audio": (32, 256, 2, 64),
    "text": (8, 256, 2, 96),
    "captions": (None, 192, 4, 64),
    "notes": (None, 240, 4, 64),
}
"""Patch size, width and layers of the global model, width of the local model."""


def small_checkpoint(kind: Kind, media: str | Path, folder: str | Path, steps: int, **settings: Any) -> Path:
    """Return the checkpoint of a small model of the demo data; it is trained on the first call.

    media: folder of `make_demo_data`, or of `make_demo_pairs`. folder: of the run; if it has a best.ckpt, that is
    returned without training. settings: of the adapter, in place of the defaults here.
    """
    best = Path(folder, "best.ckpt")
    if best.is_file():
        return best
    return fit(small_model(kind), small_data(kind, media, **settings), folder, steps)


def small_model(kind: Kind) -> ByteLM:
    """Return an untrained model."""
    patch_size, global_dim, layers, local_dim = _SIZES[kind]
    is_record = kind in _PATCHES
    net = MegabyteConfig(
        patch_size=patch_size,
        global_stack=StackConfig(dim=global_dim, layers=layers, heads=4),
        local_stack=StackConfig(dim=local_dim, layers=2, heads=2),
        local_start="byte",
        embedding_scale=5.0,
        patch_scale=10.0 if is_record else 1.0,
        block=BlockConfig(activation="relu2", qk_norm=is_record),
        init_std=0.05 if is_record else 0.08,
    )
    return ByteLM(net, OptimizerConfig(lr=4e-3, warmup_steps=20, muon=is_record))


def small_data(kind: Kind, media: str | Path, **settings: Any) -> ByteData:
    """Return the training data of one kind. media, settings: as of `small_checkpoint`."""
    adapter_class, defaults = _ADAPTERS[kind]
    adapter = adapter_class(**{**defaults, **settings})
    data = {**_DATA[kind], "path": str(Path(media, _DATA[kind]["path"]))}
    if kind not in _PATCHES:
        return ByteData(**data, adapter=adapter, val_batch_size=16)
    sources = {
        name: Source(adapter=None if name == "text" else adapter, patch_size=size)
        for name, size in _PATCHES[kind].items()
    }
    return ByteData(**data, sources=sources, val_batch_size=16)
