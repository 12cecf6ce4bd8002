"""Configs from the plain values that files hold, with every mistake told by the name of its field."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from types import UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

Config = TypeVar("Config")

KINDS = {int: "a whole number", float: "a number", bool: "true or false"}


def from_plain(kind: type[Config], values: Any, inside: str = "") -> Config:
    """The dataclass that `dataclasses.asdict` made plain, with those inside it; what is left out takes its default.

    inside: what stands before a field's name where it is told, such as `block.`. Raises ValueError, naming the field,
    for one that is unknown, missing, of another type or outside its range.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"{inside.removesuffix('.') or kind.__name__} is {values!r}; it must hold {_listed(kind)}")
    known: dict[str, Field[Any]] = {field.name: field for field in fields(kind)}  # type: ignore[arg-type] # dataclasses
    for name in values:
        if name not in known:
            raise ValueError(f"{inside}{name} is no field of {kind.__name__}; it has {_listed(kind)}")
    for name, field in known.items():
        if name not in values and field.default is MISSING and field.default_factory is MISSING:
            raise ValueError(f"{inside}{name} is missing")
    hints = get_type_hints(kind)
    found = {name: _value(value, hints[name], f"{inside}{name}") for name, value in values.items()}
    try:
        return kind(**found)
    except ValueError as error:
        raise ValueError(f"{inside}{error}") from error


def _listed(kind: type) -> str:
    return ", ".join(field.name for field in fields(kind))


def _value(value: Any, hint: Any, name: str) -> Any:
    """The value as its field has it. Raises ValueError where it has another type."""
    kinds = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    if value is None and type(None) in kinds:
        return None
    [kind] = [kind for kind in kinds if kind is not type(None)]
    if is_dataclass(kind):
        return from_plain(kind, value, f"{name}.")  # type: ignore[arg-type] # never an instance
    if get_origin(kind) is not Literal and not is_of(value, kind):
        raise ValueError(f"{name} is {value!r}; it must be {KINDS[kind]}{_hint(value, kind)}")
    return value


def is_of(value: Any, kind: type) -> bool:
    """Whether a value that a file holds is of that kind: true and false are no numbers, a whole number may be any."""
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, int | float if kind is float else kind)


def _hint(value: Any, kind: type) -> str:
    """YAML takes 1e-3 for text."""
    return "; YAML wants 1.0e-3 instead of 1e-3" if kind is float and isinstance(value, str) and "e" in value else ""
