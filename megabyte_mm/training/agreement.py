"""What model, data and checkpoint must agree on, as far as settings alone tell: checked before a file is encoded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from data_adapters import Adapter, load_class
from megabyte_mm.checkpoint import SPEC_KEY, read_checkpoint
from megabyte_mm.data.files import find_files
from megabyte_mm.data.windows import resolve_window
from megabyte_mm.evaluation.methods import Method, check_method
from megabyte_mm.models import ModelConfig


def check_agreement(net: ModelConfig, method: Method, data: Mapping[str, Any], checkpoint: str | None) -> None:
    """Raise ValueError where they cannot belong together.

    data: the section of a config that ByteData is made from. checkpoint: the file that the run goes on from, if any.
    """
    adapter, window = _adapter_of(data), data.get("window")
    if adapter is not None:
        check_model(net, method, adapter, window)
    if checkpoint is not None:
        check_checkpoint(checkpoint, adapter, window)


def _adapter_of(data: Mapping[str, Any]) -> Adapter | None:
    """The adapter that was asked for, else the one that the files' suffixes choose; None where they leave it open."""
    if asked := data.get("adapter"):
        return load_class(asked["class_path"])(**asked.get("init_args", {}))
    try:
        return find_files(str(data.get("path") or "")).adapter
    except (ValueError, OSError):  # the data say it themselves, and better
        return None


def check_model(net: ModelConfig, method: Method, adapter: Adapter, window: int | None) -> None:
    """Raise ValueError, naming the fields and both values, where the model cannot be built for such data."""
    length = resolve_window(adapter, window)
    try:
        resolved = net.resolve(adapter.patch_size, length, net.conditions or 1, adapter.unit)
        with torch.device("meta"):  # without memory, and without drawing weights
            model = resolved.build()
    except ValueError as error:
        raise ValueError(f"model.net.{error}") from error
    try:
        check_method(method, model, adapter.unit)
    except ValueError as error:
        raise ValueError(f"model.method {method}: {error}") from error


def check_checkpoint(path: str, adapter: Adapter | None, window: int | None) -> None:
    """Raise ValueError where the file is no checkpoint of ours, or was trained on data of another kind.

    path: a file. No code in it is run.
    """
    spec = read_checkpoint(path)[SPEC_KEY]
    data = spec.get("data") if isinstance(spec, dict) else None
    if not isinstance(data, dict) or not isinstance(data.get("adapter"), dict):
        raise ValueError(f"{path}: a damaged checkpoint: it does not say what it was trained on")
    if adapter is None:
        return
    theirs = data["adapter"]
    pairs: dict[str, tuple[Any, Any]] = {"data.adapter.name": (adapter.name, theirs.get("name"))}
    if adapter.name == theirs.get("name"):
        settings = theirs.get("settings") or {}
        pairs |= {f"data.adapter.{key}": (value, settings.get(key)) for key, value in adapter.settings().items()}
        if window is not None or adapter.length is not None:
            pairs["data.window"] = resolve_window(adapter, window), data.get("window")
    differing = [f"{name} is {ours!r} here and {its!r} there" for name, (ours, its) in pairs.items() if ours != its]
    if differing:
        raise ValueError(f"{path}: does not fit this run's settings: {'; '.join(differing)}")
