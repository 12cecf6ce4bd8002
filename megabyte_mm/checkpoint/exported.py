"""Exported models: folders of weights and a config, as on the Hugging Face hub; no code in them runs."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from data_adapters import printable
from megabyte_mm.checkpoint.rounding import Precision, pack, unpack

CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"
MAX_CONFIG = 2**24
"""Bytes of a config: far more than any model takes."""
DIGEST = "weights_sha256"
"""The config's entry with the weights' digest: safetensors files carry no checksum of their own."""


def is_exported(path: str | os.PathLike[str]) -> bool:
    """True for the folder of an exported model, complete or damaged."""
    return Path(path).is_dir() and (Path(path, CONFIG_FILE).exists() or Path(path, WEIGHTS_FILE).exists())


def write_exported(
    folder: Path, config: Mapping[str, Any], weights: Mapping[str, Tensor], precision: Precision = "float32"
) -> None:
    """Write the weights, rounded to a precision, and then the config, of plain values, into an existing folder.

    Raises ValueError for an unknown precision, OSError for a disk that is full or not permitted.
    """
    try:
        save_file(_unshared(pack(weights, precision)), folder / WEIGHTS_FILE, metadata={"format": "pt"})
    except SafetensorError as error:  # which wraps that of the disk
        raise OSError(f"{folder / WEIGHTS_FILE}: cannot be written: {error}") from error
    entries = {**config, DIGEST: _digest(folder / WEIGHTS_FILE)}
    text = json.dumps(entries, indent=2, allow_nan=False) + "\n"
    (folder / CONFIG_FILE).write_text(text, encoding="utf-8")
    shutil.copymode(folder / CONFIG_FILE, folder / WEIGHTS_FILE)  # safetensors writes files that only their owner reads


def read_exported(folder: Path, shown: str = "") -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read the config and the weights of an exported model. shown: the folder's name in errors.

    Raises ValueError, naming the file, for one that is missing, damaged, or not of this project.
    """
    shown = shown or os.fspath(folder)
    config = _read_config(_file(folder, CONFIG_FILE, shown), f"{shown}/{CONFIG_FILE}")
    return config, _read_weights(_file(folder, WEIGHTS_FILE, shown), config.get(DIGEST), f"{shown}/{WEIGHTS_FILE}")


def _unshared(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights without shared memory, as safetensors requires: tied weights are copied for each of their names."""
    unshared: dict[str, Tensor] = {}
    pointers: set[int] = set()
    for name, weight in weights.items():
        weight = weight.detach().cpu()
        pointer = weight.untyped_storage().data_ptr()
        unshared[name] = weight.clone().contiguous() if pointer in pointers else weight.contiguous()
        pointers.add(pointer)
    return unshared


def _file(folder: Path, name: str, shown: str) -> Path:
    if not (folder / name).is_file():  # opening a pipe would block until another process writes
        raise ValueError(
            f"{shown}: an exported model holds {CONFIG_FILE} and {WEIGHTS_FILE}, and there is no file {name}"
        )
    return folder / name


def _read_config(path: Path, shown: str) -> dict[str, Any]:
    if path.stat().st_size > MAX_CONFIG:
        raise ValueError(f"{shown}: too large for the config of a model")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{shown}: not a JSON file, or a damaged one ({printable(str(error))})") from error
    if not isinstance(config, dict) or not {"format", "model", "data"} <= set(config):
        raise ValueError(f"{shown}: not the config of a megabyte-mm model")
    return config


def _read_weights(path: Path, digest: Any, shown: str) -> dict[str, Tensor]:
    if digest is not None and _digest(path) != digest:
        raise ValueError(f"{shown}: damaged, or not the weights that {CONFIG_FILE} was written with ({DIGEST})")
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            packed = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
    except (SafetensorError, OSError, ValueError, RuntimeError, TypeError, MemoryError) as error:
        raise ValueError(f"{shown}: not a safetensors file, or a damaged one ({printable(str(error))})") from error
    try:
        return unpack(packed)
    except ValueError as error:
        raise ValueError(f"{shown}: {printable(str(error))}") from error


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
