"""A checkpoint, as a file, a folder of shards or an exported model, to a bare model, without Lightning."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from data_adapters import Adapter, load_class, printable, registry
from megabyte_mm.checkpoint.bundle import SPEC_KEY, Bundle, Modality
from megabyte_mm.checkpoint.dcp import is_sharded_checkpoint, read_sharded_checkpoint
from megabyte_mm.checkpoint.exported import CONFIG_FILE, is_exported, read_exported
from megabyte_mm.checkpoint.hub import download, hub_id
from megabyte_mm.checkpoint.provenance import TRAINING, Provenance, from_run, from_values
from megabyte_mm.checkpoint.safety import (
    DAMAGE,
    check_data,
    check_finite_weights,
    check_format,
    check_modalities,
    check_weights_match_config,
    is_plain_archive,
)
from megabyte_mm.checkpoint.shipped import shipped_folder
from megabyte_mm.models import config_of

WEIGHT_PREFIX = "model."
"""Prefix of the bare model's weights in a Lightning checkpoint."""
AVERAGE_KEY = "weight_average"
"""Entry of a checkpoint with the moving average of the weights, by their names; absent where there is none."""


def load_model(
    path: str | os.PathLike[str], device: str | torch.device = "cpu", adapter: type[Adapter] | str | None = None
) -> Bundle:
    """Load the model of a checkpoint, ready for use on `device`.

    path: a file, a folder of shards, a folder that `export` wrote, or, if no file has that name, a model that comes
    with the package, such as demo:image, or the id of one on the Hugging Face hub: user/name or user/name@revision.
    adapter: the class of a modality of your own, or its import
    path; the checkpoint holds its settings. Raises ValueError for anything but a checkpoint of this project,
    FileNotFoundError for a missing one.
    """
    adapter = load_class(adapter) if isinstance(adapter, str) else adapter
    checkpoint = read_checkpoint(path)
    with _naming(path):
        spec, weights = checkpoint[SPEC_KEY], _model_weights(averaged_state(checkpoint))
        check_format(spec["format"])
        data = spec["data"]
        sources = _sources(data, adapter)
        config = config_of(spec["model"])
        check_data(data, config)
        check_weights_match_config(config, weights)
        check_finite_weights(weights.values())
        modalities = {name: _modality(source, adapter) for name, source in sources.items()}
        check_modalities(modalities, data["window"], config)
        model = config.build()
        model.load_state_dict(weights)
        model = model.to(device).eval()
        unlearned = {name: tuple(parts) for name, parts in data.get("unlearned", {}).items()}
        return Bundle(model, modalities, tuple(data["conditions"]), data["window"], _provenance(checkpoint), unlearned)


def read_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read all entries of a checkpoint but the optimizer's state, without running code in it.

    Tensors of a file stay on the disk until they are used. An exported model, here or on the hub, has the entries of a
    checkpoint. Raises ValueError for anything but a checkpoint of this project, FileNotFoundError for a missing one.
    """
    if (folder := shipped_folder(path)) is not None:
        return _as_checkpoint(*read_exported(folder, shown=os.fspath(path)))
    if is_exported(path):
        return _as_checkpoint(*read_exported(Path(path)))
    if (model_id := hub_id(path)) is not None:
        return _as_checkpoint(*read_exported(download(model_id), shown=str(model_id)))
    checkpoint = read_sharded_checkpoint(path, moments=False) if is_sharded_checkpoint(path) else _read_file(path)
    if not isinstance(checkpoint, dict) or SPEC_KEY not in checkpoint:
        raise ValueError(f"{os.fspath(path)}: not a checkpoint of megabyte-mm")
    return checkpoint


def averaged_state(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the weights of a checkpoint for use: their average where it has one, else those that were trained."""
    return {**checkpoint["state_dict"], **checkpoint.get(AVERAGE_KEY, {})}


def last_checkpoint_hint(path: str | os.PathLike[str]) -> str:
    """The end of a message about a missing best.ckpt, if the run has a last.ckpt; else an empty string."""
    last = Path(path).with_name("last.ckpt")
    if Path(path).name != "best.ckpt" or not last.is_file():
        return ""
    return f"; there is {last}: best.ckpt comes with the first validation"


def _as_checkpoint(config: dict[str, Any], weights: Mapping[str, Tensor]) -> dict[str, Any]:
    state = {WEIGHT_PREFIX + name: weight for name, weight in weights.items()}
    return {SPEC_KEY: config, "state_dict": state, TRAINING: config.get(TRAINING)}


def _read_file(path: str | os.PathLike[str]) -> Any:
    damaged = ValueError(f"{os.fspath(path)}: not a checkpoint, or a damaged one")
    try:
        is_plain = _is_plain_file(path)
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True) if is_plain else None
    except FileNotFoundError as error:
        reason = f"{error.strerror}{last_checkpoint_hint(path)}"
        raise FileNotFoundError(error.errno, reason, os.fspath(path)) from error
    except OSError as error:
        if error.filename is None:  # raised by torch
            raise damaged from error
        raise
    except DAMAGE as error:
        raise damaged from error
    if checkpoint is None:
        raise damaged
    return checkpoint


def _is_plain_file(path: str | os.PathLike[str]) -> bool:
    """True for an archive as torch.save writes it. Raises OSError and BadZipFile."""
    status = Path(path).stat()
    if stat.S_IFMT(status.st_mode) not in (stat.S_IFREG, stat.S_IFDIR):
        return False  # opening a pipe would block until another process writes
    with Path(path).open("rb") as file:
        return is_plain_archive(file, status.st_size)


@contextmanager
def _naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn the errors of a spec or of weights that no version wrote into a ValueError that names the checkpoint."""
    name = Path(path, CONFIG_FILE) if is_exported(path) else os.fspath(path)
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{name}: {printable(str(error))}") from error
    except (LookupError, TypeError, AttributeError, RuntimeError, ArithmeticError) as error:
        reason = printable(f"{type(error).__name__}: {error}")
        raise ValueError(f"{name}: a damaged checkpoint ({reason})") from error


def _model_weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.removeprefix(WEIGHT_PREFIX): weight for name, weight in state.items() if name.startswith(WEIGHT_PREFIX)
    }


def _sources(data: dict[str, Any], custom_adapter: type[Adapter] | None) -> dict[str, Any]:
    """The data's specs by modality. Raises ValueError if a user's own adapter belongs to none of them."""
    sources: dict[str, Any] = data.get("sources", {"": data})
    names = [source["adapter"]["name"] for source in sources.values()]
    if custom_adapter is not None and custom_adapter.name not in names:
        raise ValueError(f"trained with the adapter {', '.join(map(repr, names))}, not with {custom_adapter.name!r}")
    return sources


def _modality(source: Mapping[str, Any], custom_adapter: type[Adapter] | None) -> Modality:
    name, settings = source["adapter"]["name"], source["adapter"]["settings"]
    window = source.get("window") if "conditions" not in source else None  # that of an only source is all data's
    if custom_adapter is not None and custom_adapter.name == name:
        try:
            return Modality(custom_adapter(**settings), source["fixed_length"], window, _files(source))
        except TypeError as error:
            raise ValueError(f"the adapter {custom_adapter.name!r} cannot be built with {settings}: {error}") from error
    if name not in registry.ADAPTERS:
        raise ValueError(f"trained with the custom adapter {name!r}: pass its import path with --adapter")
    return Modality(registry.build(name, settings), source["fixed_length"], window, _files(source))


def _provenance(checkpoint: Mapping[str, Any]) -> Provenance:
    return from_values(checkpoint[TRAINING]) if TRAINING in checkpoint else from_run(checkpoint)


def _files(source: Mapping[str, Any]) -> dict[str, Any]:
    """How the files of a part are found. Raises ValueError for anything but plain values."""
    files = source.get("files", {})
    if not isinstance(files, dict) or any(not isinstance(value, str | bool) for value in files.values()):
        raise ValueError(f"the files of a source are {files!r}")
    return files
