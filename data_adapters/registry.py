"""Which adapter reads which file, by name and by suffix, and how a user's own adapter joins them."""

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
"""Name -> adapter class, as kept in checkpoints. Filled by `register`."""


def register(adapter: AdapterClass) -> AdapterClass:
    """Make an adapter class known by its name and its suffixes; returns the class, so that it serves as a decorator.

    Raises ValueError where another class has the name or one of the suffixes. Registering a class again, also after
    its definition was run anew (in a notebook), replaces it.
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
    """Raises ValueError where another class is registered under the adapter's name, which checkpoints would mean."""
    other = ADAPTERS.get(adapter.name)
    if other is not None and not _is_same(adapter, other):
        raise ValueError(
            f"the adapter {_path_of(adapter)} has the name {adapter.name!r} of {_path_of(other)}, and a checkpoint "
            "keeps the name alone: give it a `name` of its own"
        )


def adapter_for(path: str | os.PathLike[str]) -> Adapter:
    """The adapter for a file's suffix, with default settings. Raises MediaError where no adapter knows the suffix."""
    suffix = Path(path).suffix.lower()
    for adapter in ADAPTERS.values():
        if suffix in adapter.suffixes:
            return adapter()
    known = " ".join(sorted(suffix for adapter in ADAPTERS.values() for suffix in adapter.suffixes))
    raise MediaError(path, f"no adapter knows the suffix {suffix!r}, only {known}; the file adapter takes any file")


def build(name: str, settings: Mapping[str, Any]) -> Adapter:
    """The adapter of that name with those settings: the inverse of `spec`.

    Raises ValueError for a name that is not registered, and for settings which its adapter does not take.
    """
    if name not in ADAPTERS:
        raise ValueError(
            f"unknown adapter {name!r}; known: {', '.join(ADAPTERS)}. Make your own known with "
            "data_adapters.register, or pass its import path"
        )
    try:
        return ADAPTERS[name](**settings)
    except TypeError as error:
        raise ValueError(f"the adapter {name!r} cannot be built with {dict(settings)}: {error}") from error


def spec(adapter: Adapter) -> dict[str, Any]:
    """Name and settings, all plain values: what a checkpoint keeps of an adapter."""
    return {"name": adapter.name, "settings": adapter.settings()}


def load_class(import_path: str) -> type[Adapter]:
    """The adapter class at "package.module.Class", imported but not registered.

    Raises ValueError where there is no such module or class, and where the class is no finished Adapter.
    """
    module_name, _, class_name = import_path.rpartition(".")
    if not all(part.isidentifier() for part in import_path.split(".")) or not module_name:
        raise ValueError(f"{import_path!r} is not an import path such as my_adapters.MyAdapter")
    try:
        found = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"cannot import {import_path!r}: {error}") from error
    if not (isinstance(found, type) and issubclass(found, Adapter)):
        raise ValueError(f"{import_path!r} is not a subclass of data_adapters.Adapter")
    if missing := sorted(found.__abstractmethods__) + [f for f in ("name", "suffixes") if not hasattr(found, f)]:
        raise ValueError(f"{import_path!r} does not define {', '.join(missing)}")
    return found


def _is_same(one: type[Adapter], other: type[Adapter]) -> bool:
    """Also where the definition was run anew, as in a notebook."""
    return (one.__module__, one.__qualname__) == (other.__module__, other.__qualname__)


def _path_of(adapter: type[Adapter]) -> str:
    return f"{adapter.__module__}.{adapter.__qualname__}"


for _adapter in (TextAdapter, ImageAdapter, AudioAdapter, FileAdapter):
    register(_adapter)
