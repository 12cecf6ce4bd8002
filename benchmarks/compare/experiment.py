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
from megabyte_mm.evaluation.methods import METHODS, Method
from megabyte_mm.models import MegabyteConfig, ModelConfig
from megabyte_mm.models.config import from_plain
from megabyte_mm.training.optim import OptimizerConfig

ROOT = Path(__file__).resolve().parents[2]

OF_A_FILE = ("extends", "data", "defaults", "models")
OF_A_MODEL = ("extends", "net", "optimizer", "batch_size", "peer", "methods", "data")
OF_DATA = set(inspect.signature(ByteData).parameters) - {"path", "seed", "batch_size", "max_val_windows"}


@dataclass(frozen=True)
class Entry:
    """One model of an experiment: what is trained, on what, and how. Open fields of `net` are filled from the data."""

    name: str
    net: ModelConfig
    optimizer: OptimizerConfig
    batch_size: int
    data: Settings
    """Arguments of ByteData but path, seed and batch size."""
    peer: str | None = None
    methods: tuple[Method, ...] = ("plain",)
    """How the finished model is read; plain is always among them."""

    def open_data(self, path: str, seed: int, val_windows: int | None) -> ByteData:
        """The data in this model's form, set up. Raises ValueError and FileNotFoundError as ByteData does."""
        adapter = self.data.get("adapter")
        arguments = {**self.data, "adapter": None if adapter is None else _adapter(adapter)}
        data = ByteData(path, **arguments, batch_size=self.batch_size, seed=seed, max_val_windows=val_windows)
        data.setup()
        return data


def read_experiment(path: Path) -> list[Entry]:
    """The models of an experiment's file, in its order.

    Raises ValueError, naming the model and the key, for what is not known or of the wrong kind.
    """
    experiment = read_settings(path)
    refuse_unknown(experiment, OF_A_FILE, str(path))
    if not (named := section(experiment, "models", f"{path}: models")):
        raise ValueError(f"{path} names no models")
    defaults = section(experiment, "defaults", f"{path}: defaults")
    refuse_unknown(defaults, set(OF_A_MODEL) - {"extends"}, f"{path}, defaults")
    shared = merged(_shipped(experiment, str(path)), _uniform(experiment, str(path)))
    shared = merged(shared, _uniform(defaults, f"{path}, defaults"))
    return [_entry(str(key), section(named, key, f"model {key}"), shared) for key in named]


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> Settings:
    """`base` with `changes`, mapping by mapping. Another class_path begins anew: the arguments of one class are not
    those of another."""
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
    """What a config file for `megabyte-mm fit`, named under `extends` from the repository's root, says of a model."""
    asked = settings.get("extends")
    if asked is None:
        return {}
    if not isinstance(asked, str):
        raise ValueError(f"{name}: extends is {asked!r}; it must be a config file such as configs/text.yaml")
    config = read_settings(ROOT / asked, f"{name}: extends is {asked}, but ")
    data, model = (section(config, key, f"{asked}: {key}") for key in ("data", "model"))
    found: Settings = {"data": data}
    found.update((key, model[key]) for key in ("net", "optimizer") if key in model)
    if "batch_size" in data:
        found["batch_size"] = data.pop("batch_size")
    return _uniform(found, asked)


def _uniform(settings: Settings, name: str) -> Settings:
    """What settings say of a model, with every class as class_path and arguments, ready to be merged with others."""
    found = {key: value for key, value in settings.items() if key in OF_A_MODEL and key != "extends"}
    if "data" in found:
        found["data"] = data = section(found, "data", f"{name}: data")
        if data.get("adapter") is not None:
            data["adapter"] = class_section(data, "adapter", f"{name}: data.adapter")
    if "net" in found:
        net = class_section(found, "net", f"{name}: net")
        fields = net.pop("init_args", {})
        found["net"] = {**net, **fields}
    if "optimizer" in found:
        found["optimizer"] = section(found, "optimizer", f"{name}: optimizer")
    return found


def _entry(name: str, own: Settings, shared: Settings) -> Entry:
    where = f"model {name}"
    refuse_unknown(own, OF_A_MODEL, where)
    settings = merged(merged(shared, _shipped(own, where)), _uniform(own, where))
    net = _net(settings.get("net", {}), where)
    data = settings.get("data", {})
    refuse_unknown(data, OF_DATA, f"{where}, data")
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


def _batch_size(asked: Any, where: str) -> int:
    if isinstance(asked, bool) or not isinstance(asked, int) or asked < 1:
        raise ValueError(f"{where}: batch_size is {asked!r}; it must be a whole number of at least 1")
    return asked


def _peer(asked: Any, net: ModelConfig, where: str) -> str | None:
    if asked is None:
        return None
    if not isinstance(asked, str) or asked not in PEERS:
        raise ValueError(f"{where}: unknown peer {asked!r}; known: {', '.join(PEERS)}")
    if not isinstance(net, MegabyteConfig):
        raise ValueError(f"{where}: a peer takes its sizes from a MegabyteConfig, not from {type(net).__name__}")
    return asked


def _methods(asked: Any, where: str) -> tuple[Method, ...]:
    """The methods that are asked for, after plain: by it all models compare, and runs are watched on the way."""
    if asked is not None and not isinstance(asked, list):
        raise ValueError(f"{where}: methods is {asked!r}; it must be a list such as [plain, sliding]")
    if unknown := [str(method) for method in asked or () if method not in METHODS]:
        raise ValueError(f"{where}: unknown methods {', '.join(unknown)}; known: {', '.join(METHODS)}")
    return tuple(dict.fromkeys(("plain", *(asked or ()))))


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
        found = getattr(importlib.import_module(module or models.__name__), name, None)
    except (ImportError, TypeError, ValueError):
        found = None
    if not (isinstance(found, type) and issubclass(found, ModelConfig)) or inspect.isabstract(found):
        known = ", ".join(kind.__name__ for kind in models.CONFIGS.values())
        raise ValueError(
            f"{where}, net: {path!r} names no model's config; known: {known}, or the import path of another"
        )
    return found


def _adapter(settings: Settings) -> Adapter:
    """What class_path, an import path or a bare name in data_adapters, makes of init_args."""
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
