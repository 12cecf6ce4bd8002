"""What every adapter promises: a media file becomes a flat byte stream, and the stream becomes the file again."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Format = Mapping[str, int | str]


class MediaError(ValueError):
    """A file that cannot be read or written as asked; the message names the file and says why in one line."""

    def __init__(self, path: str | os.PathLike[str], reason: str) -> None:
        self.path = Path(path)
        self.reason = printable(reason)
        super().__init__(f"{printable(os.fspath(path))}: {self.reason}")

    def __reduce__(self) -> tuple[type[MediaError], tuple[Path, str]]:
        return type(self), (self.path, self.reason)


@dataclass(frozen=True)
class ByteStream:
    """A media file as bytes, with what is needed to write it again.

    data: (n,) uint8, often read-only. format: plain numbers and strings (mode and size, rate and width, ...), the same
    for a whole stream and for any prefix of it. notes: one line for each conversion that reading did and a
    user should hear of ("resized from 640x480 to 32x32"); empty when the stream is the file's content untouched.
    """

    data: Bytes
    format: Format
    notes: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        if self.data.dtype != np.uint8 or self.data.ndim != 1:
            raise TypeError(f"a stream is (n,) uint8, not {self.data.shape} {self.data.dtype}")


class Adapter(ABC):
    """Reads the files of one modality as byte streams, writes streams as files, and describes the bytes' geometry.

    `write(read(path))` gives back the same pixels, samples or bytes, and `write` accepts any prefix of a stream.
    """

    name: ClassVar[str]
    """Stable name, kept in checkpoints."""
    suffixes: ClassVar[tuple[str, ...]]
    """File name endings that the registry maps here: lower case, with the dot."""
    single_window: ClassVar[bool] = False
    """Whether a file must fit into one window of the model (images), or may be cut into several (sound, text)."""

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """The arguments that build this adapter again: `type(self)(**self.settings())`. Plain JSON values."""

    @abstractmethod
    def read(self, path: str | os.PathLike[str]) -> ByteStream:
        """The file as a stream. Raises MediaError where it cannot be read, or not without bending its data."""

    @abstractmethod
    def write(self, stream: ByteStream, path: str | os.PathLike[str]) -> None:
        """Write a stream, or a prefix of one, in the stream's own format. The file appears whole or not at all."""

    @property
    @abstractmethod
    def output_suffix(self) -> str:
        """The file name ending of what `write` makes, where the stream's format has no "suffix" of its own."""

    @abstractmethod
    def default_format(self) -> Format:
        """The format of a stream that starts from nothing. Raises ValueError where the settings do not fix one."""

    @property
    def unit(self) -> int:
        """Bytes in the smallest piece that must stay together: a pixel, a frame of sound, one byte."""
        return 1

    def unit_in(self, format: Format) -> int:
        """The same in a stream of that format, where the settings leave it to each file."""
        return self.unit

    @property
    def length(self) -> int | None:
        """Bytes in every stream, where the settings fix it; such streams never hold an END."""
        return None

    def length_in(self, format: Format) -> int | None:
        """Bytes in a whole stream of that format, where the format fixes it; then drawing one needs no END."""
        return self.length

    @property
    def patch_size(self) -> int | None:
        """The patch size in bytes that follows from the byte layout, or None where any multiple of `unit` will do."""
        return None

    def check_modality(self, stream: ByteStream) -> None:
        """Raises ValueError where the stream was read by an adapter of another name."""
        if stream.format.get("modality") != self.name:
            raise ValueError(f"the {self.name} adapter cannot write a stream of format {dict(stream.format)}")

    def cut(self, data: Bytes, length: int) -> int:
        """The last boundary between units at or before `length` bytes of `data`."""
        length = min(length, len(data))
        return length - length % self.unit


def check_int(**values: int | None) -> None:
    """Raise ValueError, naming the argument, where one that is given is no whole number: a checkpoint may hold any."""
    for name, value in values.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise ValueError(f"{name} must be a whole number, not {value!r}")


def printable(text: str) -> str:
    """The text on one line that every terminal can show: line ends, control codes and raw bytes as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
