"""Adapters by name and by suffix; registration of user adapters."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from data_adapters.audio import AudioAdapter
from data_adapters.base import Adapter, MediaError
from data_adapters.file import FileAdapter
from data_adapters.image import ImageAdapter
from data_adapters.text import TextAdapter

AdapterClass = TypeVar("AdapterClass", bound=type[Adapter])

ADAPTERS: dict[str, type[Adapter]] = {}
"""Name, as stored in checkpoints -> adapter class. Filled by `register`."""


def register(adapter: AdapterClass) -> AdapterClass:
    """Register an adapter class under its name and its suffixes. Returns the class; also usable as a decorator.

    Raises ValueError where another class has the name or one of the suffixes. Registering a class again replaces it,
    also after its definition was executed again (in a notebook).
    """
    for name, other in ADAPTERS.items():
        if _is_same(adapter, other):
            continue
        if name == adapter.name:
            raise ValueError(f"the adapter name {name!r} is taken by {_path_of(other)}")
        if taken := sorted(set(adapter.suffixes) & set(other.suffixes)):
            raise ValueError(f"the suffix {taken[0]!r} of {_path_of(adapter)} is taken by {_path_of(other)}")
    ADAPTERS[adapter.name] = adapter
    return adapter


def check_name(adapter: type[Adapter]) -> None:
    """Raise ValueError where the adapter's name is registered for another class: a checkpoint would load that one."""
    other = ADAPTERS.get(adapter.name)
    if other is not None and not _is_same(adapter, other):
        raise ValueError(
            f"the adapter {_path_of(adapter)} has the name {adapter.name!r} of {_path_of(other)}, and checkpoints "
            "store only the name: give it a `name` of its own"
        )


def adapter_for(path: str | os.PathLike[str]) -> Adapter:
    """Return the adapter for a file's suffix, with default settings. Raises MediaError for an unknown suffix."""
    suffix = Path(path).suffix.lower()
    for adapter in ADAPTERS.values():
        if suffix in adapter.suffixes:
            return adapter()
    known = " ".join(sorted(suffix for adapter in ADAPTERS.values() for suffix in adapter.suffixes))
    raise MediaError(path, f"unknown suffix {suffix!r}; known: {known}; the file adapter reads any file")


def build(name: str, settings: Mapping[str, Any]) -> Adapter:
    """Build the adapter with this name and these settings: the inverse of `spec`.

    Raises ValueError for an unregistered name, and for settings that the adapter does not have.
    """
    if name not in ADAPTERS:
        raise ValueError(
            f"unknown adapter {name!r}; known: {', '.join(ADAPTERS)}. Register your own with "
            "data_adapters.register, or pass its import path"
        )
    try:
        return ADAPTERS[name](**settings)
    except TypeError as error:
        raise ValueError(f"the adapter {name!r} cannot be built with {dict(settings)}: {error}") from error


def spec(adapter: Adapter) -> dict[str, Any]:
    """Return name and settings as plain values, which checkpoints store."""
    return {"name": adapter.name, "settings": adapter.settings()}


def load_class(import_path: str) -> type[Adapter]:
    """Import the adapter class "package.module.Class" without registering it.

    Raises ValueError for a missing module or class, and for a class that is not a complete Adapter.
    """
    module_name, _, class_name = import_path.rpartition(".")
    if not all(part.isidentifier() for part in import_path.split(".")) or not module_name:
        raise ValueError(f"{import_path!r} is not an import path such as my_adapters.MyAdapter")
    try:
        loaded = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"cannot import {import_path!r}: {error}") from error
    if not (isinstance(loaded, type) and issubclass(loaded, Adapter)):
        raise ValueError(f"{import_path!r} is not a subclass of data_adapters.Adapter")
    if missing := sorted(loaded.__abstractmethods__) + [f for f in ("name", "suffixes") if not hasattr(loaded, f)]:
        raise ValueError(f"{import_path!r} does not define {', '.join(missing)}")
    return loaded


def _is_same(one: type[Adapter], other: type[Adapter]) -> bool:
    """True also for a class whose definition was executed again, as in a notebook."""
    return (one.__module__, one.__qualname__) == (other.__module__, other.__qualname__)


def _path_of(adapter: type[Adapter]) -> str:
    return f"{adapter.__module__}.{adapter.__qualname__}"


for _adapter in (TextAdapter, ImageAdapter, AudioAdapter, FileAdapter):
    register(_adapter)
