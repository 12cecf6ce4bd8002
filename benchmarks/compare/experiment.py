"""An experiment's YAML file, and the models that it names."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.compare.settings import Settings, check_kinds, class_section, read_settings, refuse_unknown, section
from benchmarks.peers import PEERS
from data_adapters import Adapter, registry
from megabyte_mm import models
from megabyte_mm.data.loader import BATCH_SIZE
from megabyte_mm.data.module import ByteData
from megabyte_mm.evaluation import METHODS, Method
from megabyte_mm.models import MegabyteConfig, ModelConfig
from megabyte_mm.models.config import from_plain
from megabyte_mm.training.optim import OptimizerConfig

ROOT = Path(__file__).resolve().parents[2]

FILE_KEYS = ("extends", "data", "defaults", "models")
MODEL_KEYS = ("extends", "net", "optimizer", "batch_size", "peer", "methods", "data")
DATA_KEYS = set(inspect.signature(ByteData).parameters) - {"path", "seed", "batch_size", "max_val_windows"}


@dataclass(frozen=True)
class Entry:
    """One model of an experiment with its data and its recipe. Unset fields of `net` are filled from the data."""

    name: str
    net: ModelConfig
    optimizer: OptimizerConfig
    batch_size: int
    data: Settings
    """Arguments of ByteData but path, seed and batch size."""
    peer: str | None = None
    methods: tuple[Method, ...] = ("plain",)
    """How the finished model is scored; plain is always among them."""

    def open_data(self, path: str, seed: int, val_windows: int | None) -> ByteData:
        """The data as this model reads it, set up. Raises ValueError and FileNotFoundError as ByteData does."""
        adapter = self.data.get("adapter")
        arguments = {**self.data, "adapter": None if adapter is None else _adapter(adapter)}
        data = ByteData(path, **arguments, batch_size=self.batch_size, seed=seed, max_val_windows=val_windows)
        data.setup()
        return data


def read_experiment(path: Path) -> list[Entry]:
    """The models of an experiment's file, in its order.

    Raises ValueError, naming the model and the key, for an unknown key or a value of the wrong kind.
    """
    experiment = read_settings(path)
    refuse_unknown(experiment, FILE_KEYS, str(path))
    if not (sections := section(experiment, "models", f"{path}: models")):
        raise ValueError(f"{path} names no models")
    defaults = section(experiment, "defaults", f"{path}: defaults")
    refuse_unknown(defaults, set(MODEL_KEYS) - {"extends"}, f"{path}, defaults")
    shared = merged(_shipped(experiment, str(path)), _uniform(experiment, str(path)))
    shared = merged(shared, _uniform(defaults, f"{path}, defaults"))
    return [_entry(str(key), section(sections, key, f"model {key}"), shared) for key in sections]


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> Settings:
    """`base` with `changes`, mapping by mapping. A section with another class_path is replaced as a whole: its
    arguments are those of another class."""
    result = {**base}
    for key, value in changes.items():
        old = result.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        result[key] = merged(old, value) if both and _same_class(old, value) else value  # type: ignore[arg-type]
    return result


def _same_class(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    return "class_path" not in new or _class_name(old) == _class_name(new)


def _class_name(settings: Mapping[str, Any]) -> str:
    return str(settings.get("class_path", MegabyteConfig.__name__)).rpartition(".")[2]


def _shipped(settings: Settings, name: str) -> Settings:
    """Settings of a model in the config file of `extends`, which is named from the repository's root."""
    path = settings.get("extends")
    if path is None:
        return {}
    if not isinstance(path, str):
        raise ValueError(f"{name}: extends is {path!r}; it must be a config file such as configs/text.yaml")
    config = read_settings(ROOT / path, f"{name}: extends is {path}, but ")
    data, model = (section(config, key, f"{path}: {key}") for key in ("data", "model"))
    shipped: Settings = {"data": data}
    shipped.update((key, model[key]) for key in ("net", "optimizer") if key in model)
    if "batch_size" in data:
        shipped["batch_size"] = data.pop("batch_size")
    return _uniform(shipped, path)


def _uniform(settings: Settings, name: str) -> Settings:
    """The settings of a model, with every class as class_path and arguments, ready to be merged with others."""
    model = {key: value for key, value in settings.items() if key in MODEL_KEYS and key != "extends"}
    if "data" in model:
        model["data"] = data = section(model, "data", f"{name}: data")
        if data.get("adapter") is not None:
            data["adapter"] = class_section(data, "adapter", f"{name}: data.adapter")
    if "net" in model:
        net = class_section(model, "net", f"{name}: net")
        fields = net.pop("init_args", {})
        model["net"] = {**net, **fields}
    if "optimizer" in model:
        model["optimizer"] = section(model, "optimizer", f"{name}: optimizer")
    return model


def _entry(name: str, own: Settings, shared: Settings) -> Entry:
    where = f"model {name}"
    refuse_unknown(own, MODEL_KEYS, where)
    settings = merged(merged(shared, _shipped(own, where)), _uniform(own, where))
    net = _net(settings.get("net", {}), where)
    data = settings.get("data", {})
    refuse_unknown(data, DATA_KEYS, f"{where}, data")
    check_kinds(data, ByteData, f"{where}, data")
    return Entry(
        name,
        net,
        _optimizer(settings.get("optimizer", {}), where),
        _batch_size(settings.get("batch_size", BATCH_SIZE), where),
        data,
        _peer(settings.get("peer"), net, where),
        _methods(settings.get("methods"), where),
    )


def _batch_size(value: Any, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{where}: batch_size is {value!r}; it must be a whole number of at least 1")
    return value


def _peer(name: Any, net: ModelConfig, where: str) -> str | None:
    if name is None:
        return None
    if not isinstance(name, str) or name not in PEERS:
        raise ValueError(f"{where}: unknown peer {name!r}; known: {', '.join(PEERS)}")
    if not isinstance(net, MegabyteConfig):
        raise ValueError(f"{where}: a peer takes its sizes from a MegabyteConfig, not from {type(net).__name__}")
    return name


def _methods(names: Any, where: str) -> tuple[Method, ...]:
    """The methods of an entry after plain, which is common to all models and used during training."""
    if names is not None and not isinstance(names, list):
        raise ValueError(f"{where}: methods is {names!r}; it must be a list such as [plain, sliding]")
    if unknown := [str(method) for method in names or () if method not in METHODS]:
        raise ValueError(f"{where}: unknown methods {', '.join(unknown)}; known: {', '.join(METHODS)}")
    return tuple(dict.fromkeys(("plain", *(names or ()))))


def _optimizer(settings: Settings, where: str) -> OptimizerConfig:
    try:
        return from_plain(OptimizerConfig, settings)
    except ValueError as error:
        raise ValueError(f"{where}, optimizer: {error}") from error


def _net(settings: Settings, where: str) -> ModelConfig:
    kind = _config_class(settings.get("class_path", MegabyteConfig.__name__), where)
    try:
        return kind.from_dict({key: value for key, value in settings.items() if key != "class_path"})
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}, net: {error}") from error


def _config_class(path: str, where: str) -> type[ModelConfig]:
    """The config class of an import path, or of a bare name in megabyte_mm.models."""
    module, _, name = path.rpartition(".")
    try:
        kind = getattr(importlib.import_module(module or models.__name__), name, None)
    except (ImportError, TypeError, ValueError):
        kind = None
    if not (isinstance(kind, type) and issubclass(kind, ModelConfig)) or inspect.isabstract(kind):
        known = ", ".join(config.__name__ for config in models.CONFIGS.values())
        raise ValueError(
            f"{where}, net: {path!r} names no model's config; known: {known}, or the import path of another"
        )
    return kind


def _adapter(settings: Settings) -> Adapter:
    """The adapter of class_path, an import path or a bare name in data_adapters, and init_args."""
    refuse_unknown(settings, ("class_path", "init_args"), "data.adapter")
    if "class_path" not in settings:
        raise ValueError("data.adapter: class_path is missing")
    path, arguments = settings["class_path"], settings.get("init_args", {})
    try:
        return registry.load_class(path if "." in path else f"data_adapters.{path}")(**arguments)
    except TypeError as error:
        raise ValueError(f"data.adapter: {path} cannot be built with {arguments}: {error}") from error
    except ValueError as error:
        raise ValueError(f"data.adapter: {error}") from error
