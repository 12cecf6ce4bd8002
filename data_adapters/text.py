"""Text files as their UTF-8 bytes, untouched."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from data_adapters.base import Adapter, Bytes, ByteStream, Format
from data_adapters.io import read_bytes, write_atomically


class TextAdapter(Adapter):
    """A text file as it lies on the disk: line ends, a byte order mark, NULs and even invalid UTF-8 all survive."""

    name = "text"
    suffixes: ClassVar[tuple[str, ...]] = (
        *(".txt", ".text", ".md", ".markdown", ".rst", ".tex", ".log"),
        *(".csv", ".tsv", ".json", ".jsonl", ".yaml", ".yml", ".toml", ".ini", ".cfg", ".xml", ".html", ".htm", ".svg"),
        *(".py", ".pyi", ".c", ".h", ".cc", ".cpp", ".hpp", ".rs", ".go", ".java", ".js", ".ts", ".css", ".sh", ".sql"),
    )

    def settings(self) -> dict[str, Any]:
        """None: there is nothing to set."""
        return {}

    def read(self, path: str | os.PathLike[str]) -> ByteStream:
        """The file's bytes as they are. Raises MediaError where there is no file to read."""
        data = np.frombuffer(read_bytes(path), np.uint8)
        return ByteStream(data, {**self.default_format(), "suffix": Path(path).suffix})

    def write(self, stream: ByteStream, path: str | os.PathLike[str]) -> None:
        """Write the bytes as they are; a prefix that ends inside a character is written so."""
        self.check_modality(stream)
        write_atomically(path, lambda temporary: temporary.write_bytes(stream.data.tobytes()))

    @property
    def output_suffix(self) -> str:
        """For text from nothing ".txt"; a continuation keeps the ending of its prefix's file."""
        return ".txt"

    def default_format(self) -> Format:
        """Text from nothing: of this modality, with the ending ".txt"."""
        return {"modality": self.name, "suffix": self.output_suffix}

    def cut(self, data: Bytes, length: int) -> int:
        """The last place at or before `length` bytes which is not inside a UTF-8 character.

        A character that the end of `data` cuts short is left out too. Where the bytes are not UTF-8, `length` itself.
        """
        length = min(length, len(data))
        for back in range(1, min(length, 3) + 1):
            byte = int(data[length - back])
            if not _is_continuation(byte):
                missing = _character_length(byte) - back
                whole = all(_is_continuation(int(b)) for b in data[length : length + max(missing, 0)])
                return length - back if missing > 0 and whole else length
        return length

    def show(self, data: Bytes) -> str:
        """The bytes as text to look at, with a replacement character for whatever is not UTF-8."""
        return data.tobytes().decode("utf-8", errors="replace")


def _is_continuation(byte: int) -> bool:
    return byte & 0xC0 == 0x80


def _character_length(lead: int) -> int:
    """Bytes in the UTF-8 character that starts with `lead`; 1 where no character does."""
    if 0xC2 <= lead <= 0xDF:
        return 2
    if 0xE0 <= lead <= 0xEF:
        return 3
    return 4 if 0xF0 <= lead <= 0xF4 else 1
