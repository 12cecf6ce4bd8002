"""A config file as far as it says what the model is, read without Lightning."""

from __future__ import annotations

import importlib
import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from data_adapters import Adapter, load_class
from megabyte_mm.data.loader import BATCH_SIZE
from megabyte_mm.data.sources import Source, check_sources, patch_size_of, window_of
from megabyte_mm.models import MegabyteConfig, ModelConfig
from megabyte_mm.models.config import is_of


@dataclass(frozen=True)
class Settings:
    """What `fit` would build from a config; net: with nothing left open, for data without classes.

    activation_memory: GiB that a training step may take for activations; None for the default.
    """

    net: ModelConfig
    batch_size: int
    activation_memory: float | None = None


def read_settings(path: str) -> Settings:
    """The model of a config file, with the geometry that its adapter and window give.

    Raises ValueError, naming the file, for what is no config, and where it leaves something open that only data tell.
    """
    settings = _read(path)
    data = _section(settings, "data", path)
    model = _section(settings, "model", path)
    try:
        batch_size, memory = _batch_size(data), _activation_memory(model)
        return Settings(_resolved(_net(model.get("net")), data), batch_size, memory)
    except (TypeError, ValueError, ImportError) as error:
        raise ValueError(f"{path}: {error}") from error


def _read(path: str) -> dict[str, Any]:
    try:
        settings = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a config file ({' '.join(str(error).split())})") from error
    if not isinstance(settings, dict):
        raise ValueError(f"{path}: not a config file")
    return settings


def _batch_size(data: Mapping[str, Any]) -> int:
    asked = data.get("batch_size", BATCH_SIZE)
    if isinstance(asked, bool) or not isinstance(asked, int) or asked < 1:
        raise ValueError(f"data.batch_size is {asked!r}; it must be a whole number from 1 up")
    return asked


def _activation_memory(model: Mapping[str, Any]) -> float | None:
    asked = model.get("activation_memory")
    if asked is not None and not (is_of(asked, float) and asked > 0):
        raise ValueError(f"model.activation_memory is {asked!r}; it must be a number above 0")
    return asked


def _section(settings: Mapping[str, Any], name: str, path: str) -> dict[str, Any]:
    section = settings.get(name) or {}
    if not isinstance(section, dict):
        raise ValueError(f"{path}: {name} is not a section of a config")
    return section


def read_sources(path: str) -> dict[str, Source]:
    """The sources of a config's data by name; one named "" where there is no mix. Raises as `read_settings`."""
    data = _section(_read(path), "data", path)
    try:
        return _sources(data)
    except (TypeError, ValueError, ImportError) as error:
        raise ValueError(f"{path}: {error}") from error


def read_data(path: str, elsewhere: str | None = None) -> dict[str, Any]:
    """The arguments of the ByteData of a config. elsewhere: a path that takes the place of all of its own.

    Raises as `read_settings`.
    """
    sources, data = read_sources(path), _section(_read(path), "data", path)
    arguments = {name: value for name, value in data.items() if name not in ("adapter", "sources")}
    if elsewhere is not None:
        sources = {name: replace(source, path="") for name, source in sources.items()}
        arguments["path"] = elsewhere
    return arguments | ({"adapter": sources[""].adapter} if "" in sources else {"sources": sources})


def read_said(path: str) -> tuple[str, str]:
    """What a config says in data.path and in model.method, unchecked. Raises as `read_settings`."""
    settings = _read(path)
    said = _section(settings, "data", path).get("path"), _section(settings, "model", path).get("method")
    return str(said[0] or ""), str(said[1] or "plain")


def _sources(data: Mapping[str, Any]) -> dict[str, Source]:
    given = data.get("sources")
    if given is None:
        return {"": Source(adapter=_adapter(data.get("adapter"), "data.adapter"))}
    if not isinstance(given, dict) or not all(isinstance(section, dict) for section in given.values()):
        raise ValueError(f"data.sources is {given!r}; it must hold a section for each source")
    found = {}
    for name, section in given.items():
        if unknown := set(section) - {"path", "adapter", "weight"}:
            raise ValueError(f"data.sources.{name}.{min(unknown)}: unknown; there are path, adapter and weight")
        adapter = _adapter(section.get("adapter"), f"data.sources.{name}.adapter")
        found[name] = Source(**{**section, "adapter": adapter})
    check_sources(found, data.get("adapter"), data.get("classes", False))
    return found


def _resolved(net: ModelConfig, data: Mapping[str, Any]) -> ModelConfig:
    sources, window = _sources(data), data.get("window")
    conditions = net.conditions or (1 if "" in sources else 1 + len(sources))
    adapters = [source.adapter for source in sources.values() if source.adapter is not None]
    if len(adapters) < len(sources) and window is None:
        raise ValueError("data.window is missing, and there is no data.adapter that fixes it")
    if window is not None and not isinstance(window, int):
        raise ValueError(f"data.window is {window!r}; it must be a number of bytes")
    units = [adapter.unit for adapter in adapters]
    try:
        length = window_of(adapters, window, units) if len(adapters) == len(sources) else window
        return net.resolve(patch_size_of(adapters), length or 0, conditions, math.lcm(*units))
    except ValueError as error:
        raise ValueError(str(error) if str(error).startswith("data.") else f"model.net.{error}") from error


def _adapter(asked: Any, key: str) -> Adapter | None:
    """An adapter's section: an import path, or class_path and init_args; None where the files would tell."""
    if asked is None:
        return None
    path, arguments = _class(asked, key)
    return load_class(path if "." in path else f"data_adapters.{path}")(**arguments)


def _net(asked: Any) -> ModelConfig:
    """The config of model.net: fields of a MegabyteConfig, or class_path and init_args of any other."""
    if asked is None or (isinstance(asked, dict) and "class_path" not in asked):
        return _filled(MegabyteConfig, asked or {})
    path, arguments = _class(asked, "model.net")
    module, _, name = path.rpartition(".")
    found = getattr(importlib.import_module(module or "megabyte_mm.models"), name, None)
    if not (isinstance(found, type) and issubclass(found, ModelConfig)) or inspect.isabstract(found):
        raise ValueError(f"model.net: {path} is no config of an architecture")
    return _filled(found, arguments)


def _filled(kind: type[ModelConfig], fields: Mapping[str, Any]) -> ModelConfig:
    try:
        return kind.from_dict(fields)
    except ValueError as error:
        raise ValueError(f"model.net.{error}") from error


def _class(asked: Any, key: str) -> tuple[str, dict[str, Any]]:
    """The class_path and init_args of a section, which may be the class_path alone."""
    section = {"class_path": asked} if isinstance(asked, str) else asked
    if not isinstance(section, dict) or not isinstance(section.get("class_path"), str):
        raise ValueError(f"{key} is {asked!r}; it must be a class_path, with init_args if it takes any")
    return section["class_path"], section.get("init_args") or {}
