"""Text files as their UTF-8 bytes, unchanged."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from data_adapters.base import Adapter, Bytes, ByteStream, Format, MediaError
from data_adapters.io import read_bytes, write_bytes
from data_adapters.packed import packed_kind


class TextAdapter(Adapter):
    """A text file as its own bytes: line ends, a byte order mark, NULs and invalid UTF-8 are all preserved.

    Compressed and packed files are refused: a model would learn nothing of the texts in them.
    """

    name = "text"
    suffixes: ClassVar[tuple[str, ...]] = (
        *(".txt", ".text", ".md", ".markdown", ".rst", ".tex", ".log"),
        *(".csv", ".tsv", ".json", ".jsonl", ".yaml", ".yml", ".toml", ".ini", ".cfg", ".xml", ".html", ".htm", ".svg"),
        *(".py", ".pyi", ".c", ".h", ".cc", ".cpp", ".hpp", ".rs", ".go", ".java", ".js", ".ts", ".css", ".sh", ".sql"),
    )

    def settings(self) -> dict[str, Any]:
        """Empty: there are no settings."""
        return {}

    def read(self, path: str | os.PathLike[str]) -> ByteStream:
        """Return the file's bytes unchanged. Raises MediaError where the file cannot be read, or is packed."""
        content = read_bytes(path)
        if kind := packed_kind(content):
            raise MediaError(path, f"is {kind}, not text: unpack it first, or read its bytes with the file adapter")
        return ByteStream(np.frombuffer(content, np.uint8), {**self.default_format(), "suffix": Path(path).suffix})

    def stream_of(self, text: str) -> ByteStream:
        """Return a text that is no file as a stream."""
        return ByteStream(np.frombuffer(text.encode("utf-8", "surrogateescape"), np.uint8), self.default_format())

    def write(self, stream: ByteStream, path: str | os.PathLike[str]) -> None:
        """Write the bytes unchanged; a prefix may end inside a character."""
        self.check_modality(stream)
        write_bytes(path, stream.data.tobytes())

    @property
    def output_suffix(self) -> str:
        """Suffix of text without a prefix; a continuation keeps the suffix of its prefix."""
        return ".txt"

    def default_format(self) -> Format:
        """Format of text without a prefix."""
        return {"modality": self.name, "suffix": self.output_suffix}

    def last_boundary(self, data: Bytes, length: int) -> int:
        """Return the last position at or before `length` that is not inside a UTF-8 character.

        A character that is cut off by the end of `data` is left out too. For bytes that are not UTF-8: `length` itself.
        """
        length = min(length, len(data))
        for back in range(1, min(length, 3) + 1):
            byte = int(data[length - back])
            if not _is_continuation(byte):
                missing = _character_length(byte) - back
                is_utf8 = all(_is_continuation(int(b)) for b in data[length : length + max(missing, 0)])
                return length - back if missing > 0 and is_utf8 else length
        return length

    def decode(self, data: Bytes) -> str:
        """Return the bytes as text, with U+FFFD (the replacement character) for bytes that are not UTF-8."""
        return data.tobytes().decode("utf-8", errors="replace")


def _is_continuation(byte: int) -> bool:
    return byte & 0xC0 == 0x80


def _character_length(lead: int) -> int:
    """Number of bytes in the UTF-8 character that starts with `lead`; 1 for a byte that starts none."""
    if 0xC2 <= lead <= 0xDF:
        return 2
    if 0xE0 <= lead <= 0xEF:
        return 3
    return 4 if 0xF0 <= lead <= 0xF4 else 1
