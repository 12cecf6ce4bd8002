"""Architectures by their stable names, and registration of a user's own."""

from __future__ import annotations

from dataclasses import is_dataclass
from typing import Any, TypeVar

from megabyte_mm.models.base import ByteModel
from megabyte_mm.models.baselines.perceiver_ar import PerceiverARConfig
from megabyte_mm.models.baselines.transformer import TransformerConfig
from megabyte_mm.models.config import ModelConfig
from megabyte_mm.models.megabyte import MegabyteConfig

ConfigClass = TypeVar("ConfigClass", bound=type[ModelConfig])

CONFIGS: dict[str, type[ModelConfig]] = {}
"""Name, as stored in checkpoints -> config class. Filled by `register`."""


def register(config: ConfigClass) -> ConfigClass:
    """Register the config class of an architecture under its name; a decorator above `@dataclass(frozen=True)`.

    Raises ValueError if another class has the name, and TypeError for a class that is not a dataclass or has no
    `name` of its own. Registering a class again, as when a notebook cell runs again, replaces it.
    """
    if not is_dataclass(config) or "name" not in vars(config):
        raise TypeError(f"{_path_of(config)} must be a dataclass with a `name` of its own")
    other = CONFIGS.get(config.name)
    if other is not None and _path_of(other) != _path_of(config):
        raise ValueError(f"the model name {config.name!r} is taken by {_path_of(other)}")
    CONFIGS[config.name] = config
    return config


def check_registered(config: ModelConfig) -> None:
    """Raise ValueError if the name in a checkpoint would not lead back to this class."""
    kind = type(config)
    if CONFIGS.get(getattr(config, "name", "")) is not kind:
        raise ValueError(f"{_path_of(kind)} is not known by its name: put @megabyte_mm.models.register above the class")


def config_of(spec: dict[str, Any]) -> ModelConfig:
    """The config of a `ByteModel.spec`. Raises ValueError for an unknown name."""
    if spec["name"] not in CONFIGS:
        raise ValueError(
            f"unknown model {spec['name']!r}; known: {', '.join(CONFIGS)}. One of your own is known once the module "
            "that registers it is imported (--import)"
        )
    return CONFIGS[spec["name"]].from_dict(spec["config"])


def build(spec: dict[str, Any]) -> ByteModel:
    """The untrained model of a `ByteModel.spec`. Raises ValueError for an unknown name."""
    return config_of(spec).build()


def _path_of(config: type) -> str:
    return f"{config.__module__}.{config.__qualname__}"


for _config in (MegabyteConfig, TransformerConfig, PerceiverARConfig):
    register(_config)
