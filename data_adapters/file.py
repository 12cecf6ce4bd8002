"""Any file as its own bytes, headers and all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from data_adapters.base import Adapter, ByteStream, Format
from data_adapters.io import read_bytes, write_bytes


class FileAdapter(Adapter):
    """A file of any kind as its own bytes (such as a JPEG file). Never chosen by suffix, only by name.

    Args:
        suffix: Suffix of files generated without a prefix; a continuation keeps the suffix of its prefix.
    """

    name = "file"
    suffixes: ClassVar[tuple[str, ...]] = ()

    def __init__(self, suffix: str = ".bin") -> None:
        if suffix and (not suffix.startswith(".") or set(suffix) & {"/", "\\", "\0"}):
            raise ValueError(f"suffix must be a file name suffix such as '.jpg', not {suffix!r}")
        self.suffix = suffix

    def settings(self) -> dict[str, Any]:
        """The suffix."""
        return {"suffix": self.suffix}

    def read(self, path: str | os.PathLike[str]) -> ByteStream:
        """Return the file's bytes unchanged. Raises MediaError where the file cannot be read."""
        data = np.frombuffer(read_bytes(path), np.uint8)
        return ByteStream(data, {"modality": self.name, "suffix": Path(path).suffix})

    def write(self, stream: ByteStream, path: str | os.PathLike[str]) -> None:
        """Write the bytes unchanged."""
        self.check_modality(stream)
        write_bytes(path, stream.data.tobytes())

    @property
    def output_suffix(self) -> str:
        """The `suffix` setting. The format of a stream that was read from a file holds the suffix of that file."""
        return self.suffix

    def default_format(self) -> Format:
        """A file with the suffix of the settings."""
        return {"modality": self.name, "suffix": self.suffix}
