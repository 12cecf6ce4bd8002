"""The contract of adapters: a media file becomes a flat byte stream, and the stream becomes a file again."""

from __future__ import annotations

import math
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from data_adapters.neighbourhood import Neighbourhood

Bytes = NDArray[np.uint8]
Format = Mapping[str, int | str]


class MediaError(ValueError):
    """A file that cannot be read or written; the message, one line, names the file and the reason."""

    def __init__(self, path: str | os.PathLike[str], reason: str) -> None:
        self.path = Path(path)
        self.reason = printable(reason)
        super().__init__(f"{printable(os.fspath(path))}: {self.reason}")

    def __reduce__(self) -> tuple[type[MediaError], tuple[Path, str]]:
        return type(self), (self.path, self.reason)


@dataclass(frozen=True)
class ByteStream:
    """A media file as bytes, with the format that is needed to write it again.

    data: (n,) uint8, often read-only. format: plain numbers and strings (mode and size, rate and width, ...), the same
    for a whole stream and for any prefix of it. notes: one line for each lossy conversion made while reading
    ("resized from 640x480 to 32x32"); empty where the stream is the file's exact content.
    """

    data: Bytes
    format: Format
    notes: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        if self.data.dtype != np.uint8 or self.data.ndim != 1:
            raise TypeError(f"a stream must be (n,) uint8, not {self.data.shape} {self.data.dtype}")


class Adapter(ABC):
    """Reads the files of one modality as byte streams, writes streams as files, and describes the layout of the bytes.

    A subclass keeps these promises:

    - `write(read(path))` restores the same pixels, samples or bytes. A file whose content cannot be kept exactly is
      refused with MediaError, or converted with a note in the stream.
    - `write` accepts any prefix of a stream and takes the format from the stream, never from its own settings, so that
      a continuation is written in the format of its prefix.
    - `settings` rebuilds the adapter: `type(self)(**self.settings())`. Checkpoints store it with `name`.
    - Layout: `unit` bytes stay together; `length` and `patch_size` follow from the settings or are None; the
      methods with a format argument answer for one stream where the settings leave a value to each file.
    """

    name: ClassVar[str]
    """Stable name, stored in checkpoints."""
    suffixes: ClassVar[tuple[str, ...]]
    """File name suffixes that the registry maps to this adapter: lower case, with the dot."""
    single_window: ClassVar[bool] = False
    """True where a file must fit into one window of the model (images); False where it may be split (sound, text)."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for former, name in (("whole", "single_window"), ("cut", "last_boundary")):
            if former in vars(cls):  # it would be ignored
                raise TypeError(f"{cls.__qualname__}.{former} has been renamed: call it {name}")

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """Return the arguments that build this adapter again, as plain JSON values."""

    @abstractmethod
    def read(self, path: str | os.PathLike[str]) -> ByteStream:
        """Return the file as a stream. Raises MediaError where it cannot be read, or not without altering its data."""

    @abstractmethod
    def write(self, stream: ByteStream, path: str | os.PathLike[str]) -> None:
        """Write a stream, or a prefix of one, in the stream's own format. A partial file is never left behind."""

    @property
    @abstractmethod
    def output_suffix(self) -> str:
        """File name suffix of written files, for streams whose format has no "suffix" of its own."""

    @abstractmethod
    def default_format(self) -> Format:
        """Format of a stream generated without a prefix. Raises ValueError where the settings do not determine one."""

    @property
    def unit(self) -> int:
        """Number of bytes that must stay together: a pixel, a frame of sound, one byte."""
        return 1

    def unit_in(self, format: Format) -> int:
        """`unit` in a stream of this format, where the settings leave it to each file."""
        return self.unit

    def common_unit(self, formats: Iterable[Format]) -> int:
        """Return the number of bytes that are whole units of the adapter and of streams of all these formats."""
        return math.lcm(self.unit, *map(self.unit_in, formats))

    @property
    def length(self) -> int | None:
        """Number of bytes of every stream, where the settings fix it; such streams have no END."""
        return None

    def length_in(self, format: Format) -> int | None:
        """`length` of a stream of this format, where the format fixes it; generating one then needs no END."""
        return self.length

    @property
    def patch_size(self) -> int | None:
        """Patch size in bytes that the layout requires, or None where any multiple of `unit` will do."""
        return None

    @property
    def neighbourhood(self) -> Neighbourhood:
        """Which earlier bytes lie near each byte, for models that use it; by default the last ones, as for text."""
        return Neighbourhood()

    def check_modality(self, stream: ByteStream) -> None:
        """Raise ValueError for a stream of another adapter."""
        if stream.format.get("modality") != self.name:
            raise ValueError(f"the {self.name} adapter cannot write a stream of format {dict(stream.format)}")

    def last_boundary(self, data: Bytes, length: int) -> int:
        """Return the position of the last boundary between units at or before `length` bytes of `data`."""
        length = min(length, len(data))
        return length - length % self.unit

    def cut_to_units(self, data: Bytes, length: int, unit: int) -> Bytes:
        """Return at most the first `length` bytes, ending at a boundary (`last_boundary`) and in whole `unit`s.

        unit: `unit_in` of the stream's format, or a common multiple of several streams' units.
        """
        end = self.last_boundary(data, length)
        return data[: end - end % unit]


def check_int(**values: int | None) -> None:
    """Raise ValueError, naming the argument, unless each value is an int or None: checkpoints may hold anything."""
    for name, value in values.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise ValueError(f"{name} must be a whole number, not {value!r}")


def printable(text: str) -> str:
    """Return the text as one line for any terminal: line breaks, control codes and surrogates become escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
