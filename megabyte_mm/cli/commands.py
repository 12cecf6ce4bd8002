"""The commands of `megabyte-mm`: summaries, examples, and options beyond their signatures."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple


class Command(NamedTuple):
    """A command of `megabyte-mm`. options: arguments of argparse that a signature cannot express, by name."""

    summary: str
    example: str
    options: Mapping[str, Mapping[str, Any]] = MappingProxyType({})


TRAINING_COMMANDS = {
    "fit": Command(
        "train a model on a folder of files",
        "megabyte-mm fit --config image --data.path photos/\n"
        "  megabyte-mm fit --config image --data.path photos/ --ckpt_path last     (resume)\n"
        "  megabyte-mm fit --config my.yaml --trainer.max_steps 20000 --model.optimizer.lr 5e-4",
    ),
    "validate": Command(
        "measure val/bpb of a checkpoint",
        "megabyte-mm validate --config image --data.path photos/ --ckpt_path runs/image/best.ckpt",
    ),
    "test": Command(
        "measure test/bpb of a checkpoint",
        "megabyte-mm test --config image --data.path photos/ --ckpt_path runs/image/best.ckpt",
    ),
}
"""The commands of Lightning, which megabyte_mm.cli.fit runs."""

OWN_COMMANDS = {
    "demo-data": Command(
        "make small images, melodies and texts to try everything on", "megabyte-mm demo-data media/", {"folder": {}}
    ),
    "prepare": Command(
        "encode files once, for training from any machine",
        "megabyte-mm prepare photos/ --config image --out s3://bucket/photos\n"
        "  megabyte-mm fit --config image --data.path s3://bucket/photos",
        {"path": {"nargs": "+", "metavar": "PATH"}, "--allow_skipped": {"action": "store_true"}},
    ),
    "generate": Command(
        "generate files from nothing, or continue files",
        "megabyte-mm generate demo:image --out out/\n"
        "  megabyte-mm generate runs/image/best.ckpt --out out/ --num_samples 16\n"
        "  megabyte-mm generate runs/image/best.ckpt --out out/ --prefix a.png b.png --keep 0.5\n"
        "  megabyte-mm generate runs/pairs/best.ckpt --out out/ --text 'a red heart' --guidance 2",
        {
            "checkpoint": {},
            "--prefix": {"nargs": "+", "default": [], "metavar": "FILE"},
            "--text": {"nargs": "+", "default": [], "metavar": "TEXT"},
            "--overwrite": {"action": "store_true"},
        },
    ),
    "app": Command(
        "serve a model as a web page, and as JSON endpoints",
        "megabyte-mm app runs/image/best.ckpt\n"
        "  megabyte-mm app shared/image --files photos/val --port 8000\n"
        "  megabyte-mm app user/name --host 0.0.0.0",
        {"checkpoint": {}},
    ),
    "score": Command(
        "measure the bits per byte of files",
        "megabyte-mm score runs/image/best.ckpt photos/ --json scores.json --heatmap heat/\n"
        "  megabyte-mm score runs/text/best.ckpt a.txt b.txt --method plain sliding+strided --curves curves.png",
        {
            "checkpoint": {},
            "path": {"nargs": "+", "metavar": "PATH"},
            "--method": {"nargs": "+", "default": ["plain"], "metavar": "METHOD"},
            "--overwrite": {"action": "store_true"},
        },
    ),
    "embed": Command(
        "write features of files",
        "megabyte-mm embed runs/image/best.ckpt photos/train --out train.npz",
        {"checkpoint": {}, "path": {"nargs": "+", "metavar": "PATH"}, "--overwrite": {"action": "store_true"}},
    ),
    "probe": Command(
        "measure what features say of classes",
        "megabyte-mm probe train.npz val.npz --map map.png",
        {"train": {}, "val": {}},
    ),
    "classify": Command(
        "find the class or text that makes a file cheapest",
        "megabyte-mm classify runs/digits/best.ckpt a.wav b.wav\n"
        "  megabyte-mm classify runs/pairs/best.ckpt photos/ --candidates cat dog\n"
        "  megabyte-mm classify runs/image/best.ckpt photos/val --head photos/train",
        {
            "checkpoint": {},
            "file": {"nargs": "+", "metavar": "FILE"},
            "--candidates": {"nargs": "+", "default": [], "metavar": "NAME"},
            "--also": {"nargs": "+", "default": [], "metavar": "CHECKPOINT"},
            "--weights": {"nargs": "+", "type": float, "default": [], "metavar": "NUMBER"},
        },
    ),
    "search": Command(
        "find the files most like a file, or of a text",
        "megabyte-mm search runs/image/best.ckpt a.png photos/\n"
        "  megabyte-mm search runs/pairs/best.ckpt 'a red heart' photos/",
        {"checkpoint": {}, "query": {}, "folder": {}},
    ),
    "compress": Command(
        "compress files with a model, without loss",
        "megabyte-mm compress runs/image/best.ckpt photos/ --out photos.mbz\n"
        "  megabyte-mm compress runs/text/best.ckpt a.txt b.txt --out small/",
        {
            "checkpoint": {},
            "file": {"nargs": "+", "metavar": "FILE"},
            "--content_only": {"action": "store_true"},
            "--check": {"action": "store_true"},
            "--overwrite": {"action": "store_true"},
        },
    ),
    "decompress": Command(
        "restore compressed files",
        "megabyte-mm decompress runs/image/best.ckpt photos.mbz --out photos/",
        {
            "checkpoint": {},
            "file": {"nargs": "+", "metavar": "FILE"},
            "--content_only": {"action": "store_true"},
            "--overwrite": {"action": "store_true"},
        },
    ),
    "report": Command(
        "build an HTML page of a run: curves, samples, other codecs",
        "megabyte-mm report runs/image\n  megabyte-mm report runs/text --data texts/ --out text.html",
        {"run": {}},
    ),
    "info": Command(
        "print the size and cost of a model before it is run",
        "megabyte-mm info image\n"
        "  megabyte-mm info paper/text_megabyte --batch_size 6 --json costs.json\n"
        "  megabyte-mm info runs/image/best.ckpt",
        {"model": {}},
    ),
    "export": Command(
        "write a model as a folder for others, with a model card",
        "megabyte-mm export runs/image/best.ckpt shared/image --data photos/val\n"
        "  megabyte-mm generate shared/image --out out/\n"
        "  megabyte-mm export runs/image/best.ckpt space/ --space",
        {"checkpoint": {}, "folder": {}, "--space": {"action": "store_true"}, "--overwrite": {"action": "store_true"}},
    ),
    "push": Command(
        "put a model on the Hugging Face hub",
        "megabyte-mm push shared/image user/name\n  megabyte-mm generate user/name --out out/",
        {"model": {}, "to": {}, "--private": {"action": "store_true"}},
    ),
}
"""Commands of this project: NAME is the function NAME of the module megabyte_mm.cli.NAME, with _ for -."""

COMMANDS = TRAINING_COMMANDS | OWN_COMMANDS

ALIASES = {"samples": "demo-data"}
"""Former names of commands, which still work."""
