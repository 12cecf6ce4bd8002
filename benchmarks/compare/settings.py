"""Settings from YAML, section by section: every mistake raises ValueError with one line that says where it is."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_type_hints

import yaml

from megabyte_mm.cli.config import check_duplicate_keys
from megabyte_mm.models.config import KINDS, is_of

Settings = dict[str, Any]

KIND_NAMES = {**KINDS, str: "text"}
"""Names of the kinds that a setting may be of, for messages."""


def read_settings(path: Path, prefix: str = "") -> Settings:
    """The content of a YAML file. prefix: of the message where there is no such file."""
    if not path.is_file():
        raise ValueError(f"{prefix}there is no file {path}")
    try:
        text = path.read_text(encoding="utf-8")
        settings = yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: {' '.join(str(error).split())}") from error
    check_duplicate_keys(str(path), text)
    if not isinstance(settings, dict):
        raise ValueError(f"{path} holds no settings")
    return settings


def section(settings: Mapping[Any, Any], key: Any, name: str) -> Settings:
    """The settings below a key, none where it is empty or missing. name: of the section, for messages."""
    content = settings.get(key)
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ValueError(f"{name} is {content!r}; it must hold settings, each with a name")
    return dict(content)


def class_section(settings: Mapping[str, Any], key: str, name: str) -> Settings:
    """class_path and init_args below a key, which may also hold the class_path alone; init_args only if not empty."""
    content = settings.get(key)
    whole = {"class_path": content} if isinstance(content, str) else section(settings, key, name)
    if "class_path" in whole and not isinstance(whole["class_path"], str):
        raise ValueError(f"{name}: class_path is {whole['class_path']!r}; it must be the name of a class")
    if arguments := section(whole, "init_args", f"{name}: init_args"):
        return {**whole, "init_args": arguments}
    return {key: value for key, value in whole.items() if key != "init_args"}


def refuse_unknown(settings: Mapping[Any, Any], known: Iterable[str], name: str) -> None:
    """Raise ValueError where settings hold an unknown key."""
    if unknown := sorted(str(key) for key in set(settings) - set(known)):
        raise ValueError(f"{name}: unknown {', '.join(unknown)}; known: {', '.join(sorted(known))}")


def check_kinds(settings: Mapping[str, Any], called: Callable[..., Any], name: str) -> None:
    """Raise ValueError where a number, a truth value or a text is of another kind than a parameter's annotation."""
    hints = get_type_hints(called.__init__ if inspect.isclass(called) else called)
    for key, value in settings.items():
        kinds = get_args(hints[key]) if isinstance(hints[key], UnionType) else (hints[key],)
        names = [KIND_NAMES[kind] for kind in kinds if kind in KIND_NAMES]
        if names and not any(is_of(value, kind) for kind in kinds):
            raise ValueError(f"{name}: {key} is {value!r}; it must be {' or '.join(names)}")
