"""Errors about one value: a field of a config, an argument of a function, an output path."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

DIVERGED = "the model's output is not finite: its training has diverged; take an earlier checkpoint"


class FieldError(ValueError):
    """A value that is missing, not allowed, or at odds with another; its message is the field's name and the reason.

    field: dotted, as "data.window"; empty for a message without one. reason: starts with ":" where no space follows the
    name, as in "data.sources: ...". Pickles, so that processes can hand it over.
    """

    def __init__(self, field: str, reason: str = "") -> None:
        super().__init__(field, reason)
        self.field, self.reason = field, reason

    def __str__(self) -> str:
        space = " " if self.field and self.reason and not self.reason.startswith(":") else ""
        return f"{self.field}{space}{self.reason}"

    def inside(self, prefix: str) -> Self:
        """The same error about the field `prefix.field`: that of an outer config, or of the section of a file."""
        return type(self)(f"{prefix}.{self.field}", self.reason)


class PathNotFoundError(FieldError, FileNotFoundError):
    """A field that names a file, folder or URL that does not exist."""


class ArgumentValueError(FieldError):
    """A value that does not fit an argument of a function; the command line shows its field as an option, `--field`."""


@contextmanager
def errors_inside(prefix: str) -> Iterator[None]:
    """Raise a FieldError of the block as one about the field `prefix.field`."""
    try:
        yield
    except FieldError as error:
        raise error.inside(prefix) from error


def check_absent(path: Path, option: str, overwrite: bool) -> None:
    """Raise ValueError for an output path that exists, unless it may be overwritten."""
    if path.exists() and not overwrite:
        raise ValueError(f"{path} exists already; choose another --{option}, or add --overwrite")


def check_positive(**counts: int | None) -> None:
    """Raise ArgumentValueError for an argument below 1; None is accepted."""
    for name, count in counts.items():
        if count is not None and count < 1:
            raise ArgumentValueError(name, f"is {count}; it must be at least 1")
