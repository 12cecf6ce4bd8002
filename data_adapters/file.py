"""Any file as its own bytes, headers and all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from data_adapters.base import Adapter, ByteStream, Format
from data_adapters.io import read_bytes, write_atomically


class FileAdapter(Adapter):
    """A file of any kind as it lies on the disk (raw JPEG bytes, say). Never chosen by suffix, only when asked for.

    Args:
        suffix: File name ending of what is written from nothing; a continuation keeps the ending of its prefix.
    """

    name = "file"
    suffixes: ClassVar[tuple[str, ...]] = ()

    def __init__(self, suffix: str = ".bin") -> None:
        if suffix and (not suffix.startswith(".") or set(suffix) & {"/", "\\", "\0"}):
            raise ValueError(f"suffix must be a file name ending such as '.jpg', not {suffix!r}")
        self.suffix = suffix

    def settings(self) -> dict[str, Any]:
        """The suffix."""
        return {"suffix": self.suffix}

    def read(self, path: str | os.PathLike[str]) -> ByteStream:
        """The file's bytes as they are. Raises MediaError where there is no file to read."""
        data = np.frombuffer(read_bytes(path), np.uint8)
        return ByteStream(data, {"modality": self.name, "suffix": Path(path).suffix})

    def write(self, stream: ByteStream, path: str | os.PathLike[str]) -> None:
        """Write the bytes as they are."""
        self.check_modality(stream)
        write_atomically(path, lambda temporary: temporary.write_bytes(stream.data.tobytes()))

    @property
    def output_suffix(self) -> str:
        """The suffix that was set; a stream that was read from a file has that file's in its format."""
        return self.suffix

    def default_format(self) -> Format:
        """A file with the suffix that was set."""
        return {"modality": self.name, "suffix": self.suffix}
