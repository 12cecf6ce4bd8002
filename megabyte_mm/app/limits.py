"""What one user of the playground may ask for, so that none takes the server from the others."""

from __future__ import annotations

from dataclasses import dataclass

from megabyte_mm.errors import ArgumentValueError


@dataclass(frozen=True)
class Limits:
    """Limits of the playground.

    Args:
        upload_megabytes: Size of an uploaded file.
        pixels: Pixels of an uploaded picture.
        stream_bytes: Bytes of a sound or text that are used; what follows is left out, with a note.
        text: Characters of a typed text.
        count: Continuations of one request.
        length: Bytes that a continuation of open length may have.
        scored_bytes: Bytes of a sound or text whose bits are measured.
        queue: Requests that may wait; later ones are refused.
        reading_seconds: Time to read a file.
        reading_megabytes: Memory of the process that reads files.
    """

    upload_megabytes: int = 16
    pixels: int = 25_000_000
    stream_bytes: int = 4_000_000
    text: int = 20_000
    count: int = 8
    length: int = 16_384
    scored_bytes: int = 65_536
    queue: int = 64
    reading_seconds: float = 20.0
    reading_megabytes: int = 4_096


def check_count(name: str, value: float, low: int, high: int) -> None:
    """Raise ArgumentValueError for a value that is no whole number, or outside the range."""
    check_range(name, value, low, high)
    if value != int(value):
        raise ArgumentValueError(name, f"is {value}; it must be a whole number")


def check_range(name: str, value: float, low: float, high: float) -> None:
    """Raise ArgumentValueError for a value that is no number, or outside the range."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ArgumentValueError(name, f"is {value}; it must be a number from {low} to {high}")
