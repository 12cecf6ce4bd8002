"""Settings of older versions under their present names, in the config files and options of fit, validate and test."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import yaml
from jsonargparse import get_loader, set_loader

from megabyte_mm.models.base import RENAMED_FIELDS, with_present_names

NET_OPTIONS = ("--model.net.", "--model.net.init_args.")


def with_present_options(arguments: Sequence[str]) -> list[str]:
    """The arguments, with the present names of the options of model.net."""
    present = {prefix + old: prefix + new for prefix in NET_OPTIONS for old, new in RENAMED_FIELDS.items()}
    parts = [argument.partition("=") for argument in arguments]
    return [present.get(option, option) + equals + value for option, equals, value in parts]


@contextmanager
def former_names_accepted() -> Iterator[None]:
    """Let jsonargparse read YAML files and values that have the former names of fields of model configs."""
    load = get_loader("yaml")
    set_loader("yaml", lambda text: _renamed(load(text)), (yaml.YAMLError,))
    try:
        yield
    finally:
        set_loader("yaml", load, (yaml.YAMLError,))


def _renamed(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {name: _renamed(inner) for name, inner in with_present_names(value).items()}
