"""An experiment's YAML file, and the models that it names."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks.peers import PEERS
from data_adapters import registry
from megabyte_mm import models
from megabyte_mm.data.module import ByteData
from megabyte_mm.evaluation.methods import METHODS, Method
from megabyte_mm.models import MegabyteConfig, ModelConfig
from megabyte_mm.training.cli import refuse_duplicate_keys
from megabyte_mm.training.optim import OptimizerConfig

ROOT = Path(__file__).resolve().parents[2]
Settings = dict[str, Any]

OF_A_FILE = ("extends", "data", "defaults", "models")
OF_A_MODEL = ("extends", "net", "optimizer", "batch_size", "peer", "methods", "data")


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

    def open_data(self, path: str, seed: int, val_windows: int | None) -> ByteData:
        """The data in this model's form, set up. Raises ValueError and FileNotFoundError as ByteData does."""
        adapter = self.data.get("adapter")
        arguments = {**self.data, "adapter": adapter and _adapter(adapter)}
        data = ByteData(path, **arguments, batch_size=self.batch_size, seed=seed, max_val_windows=val_windows)
        data.setup()
        return data


def read_experiment(path: Path) -> list[Entry]:
    """The models of an experiment's file, in its order.

    Raises ValueError, naming the model and the key, for what is not known, and OSError for a file that is not there.
    """
    experiment = _read(path)
    _refuse_unknown(experiment, OF_A_FILE, str(path))
    if not (named := experiment.get("models")):
        raise ValueError(f"{path} names no models")
    shared = merged(_shipped(experiment), {"data": experiment.get("data") or {}})
    defaults = experiment.get("defaults") or {}
    _refuse_unknown(defaults, set(OF_A_MODEL) - {"extends"}, f"{path}, defaults")
    shared = merged(shared, defaults)
    return [_entry(name, merged(merged(shared, _shipped(own or {})), own or {})) for name, own in named.items()]


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


def _shipped(settings: Mapping[str, Any]) -> Settings:
    """What a config file for `megabyte-mm fit`, named under `extends` from the repository's root, says of a model."""
    if "extends" not in settings:
        return {}
    config = _read(ROOT / settings["extends"])
    data = dict(config.get("data") or {})
    model = config.get("model") or {}
    found = {"data": data, "net": _flat(model.get("net") or {}), "optimizer": model.get("optimizer")}
    if "batch_size" in data:
        found["batch_size"] = data.pop("batch_size")
    return {key: value for key, value in found.items() if value is not None}


def _entry(name: str, settings: Settings) -> Entry:
    where = f"model {name}"
    _refuse_unknown(settings, OF_A_MODEL, where)
    peer = settings.get("peer")
    if peer is not None and peer not in PEERS:
        raise ValueError(f"{where}: unknown peer {peer!r}; known: {', '.join(PEERS)}")
    methods = tuple(settings.get("methods") or ("plain",))
    if unknown := [method for method in methods if method not in METHODS]:
        raise ValueError(f"{where}: unknown methods {', '.join(unknown)}; known: {', '.join(METHODS)}")
    net = _net(settings.get("net") or {}, where)
    if peer is not None and not isinstance(net, MegabyteConfig):
        raise ValueError(f"{where}: a peer takes its sizes from a MegabyteConfig, not from {type(net).__name__}")
    data = settings.get("data") or {}
    known = set(inspect.signature(ByteData).parameters) - {"path", "seed", "batch_size", "max_val_windows"}
    _refuse_unknown(data, known, f"{where}, data")
    optimizer = _optimizer(settings.get("optimizer") or {}, where)
    return Entry(name, net, optimizer, settings.get("batch_size", 16), data, peer, methods)


def _optimizer(settings: Settings, where: str) -> OptimizerConfig:
    where = f"{where}, optimizer"
    _refuse_unknown(settings, inspect.signature(OptimizerConfig).parameters, where)
    if text := [name for name, value in settings.items() if isinstance(value, str) and name != "decay"]:
        raise ValueError(f"{where}: {text[0]} is the text {settings[text[0]]!r}; YAML wants 1.0e-3 instead of 1e-3")
    try:
        return OptimizerConfig(**settings)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _net(settings: Mapping[str, Any], where: str) -> ModelConfig:
    named = _class_name(settings)
    values = {key: value for key, value in _flat(settings).items() if key != "class_path"}
    known = {kind.__name__: kind for kind in models.CONFIGS.values()}
    if named not in known:
        raise ValueError(f"{where}: unknown class_path {named!r}; known: {', '.join(known)}")
    kind = known[named]
    _refuse_unknown(values, inspect.signature(kind).parameters, f"{where}, net")
    try:
        return kind.from_dict(values)
    except (TypeError, ValueError, KeyError) as error:
        raise ValueError(f"{where}, net: {error}") from error


def _flat(net: Mapping[str, Any]) -> Settings:
    """The fields of an architecture beside its class_path, where they may also stand below init_args."""
    beside = {key: value for key, value in net.items() if key != "init_args"}
    return {**beside, **net.get("init_args", {})}


def _adapter(settings: Mapping[str, Any]) -> Any:
    _refuse_unknown(settings, ("class_path", "init_args"), "data.adapter")
    try:
        return registry.load_class(settings["class_path"])(**settings.get("init_args") or {})
    except (KeyError, TypeError) as error:
        raise ValueError(f"data.adapter: {error}") from error


def _read(path: Path) -> Settings:
    refuse_duplicate_keys(str(path))
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: {' '.join(str(error).split())}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds no settings")
    return found


def _refuse_unknown(settings: Mapping[str, Any], known: Any, where: str) -> None:
    if unknown := sorted(set(settings) - set(known)):
        raise ValueError(f"{where}: unknown {', '.join(unknown)}; known: {', '.join(sorted(known))}")
