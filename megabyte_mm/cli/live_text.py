"""Text on the terminal while it is generated."""

from __future__ import annotations

import codecs
import unicodedata
from typing import TextIO

from data_adapters import Bytes

HIDDEN = {"Cc", "Cn", "Co", "Cs"}
"""Unicode categories that are not sent to a terminal: controls, and code points without a character."""
DIRECTION_MARKS = set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Marks that change the direction of the text after them, beyond the generated text."""


class LiveText:
    """Writes bytes as text, whole characters only, without control characters other than tabs and line breaks.

    Bytes that are not UTF-8, and characters that the output lacks, become replacement characters. After the output is
    closed, as by `| head`, nothing more is written, and generation goes on.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._pending = ""
        self._written = False
        self._closed = False

    def write(self, data: Bytes) -> None:
        """Write the characters that these bytes complete."""
        self._write_text(self._decoder.decode(data.tobytes()))

    def close(self) -> None:
        """Write what is incomplete, and end the line."""
        self._write_text(self._decoder.decode(b"", final=True))
        if self._pending:
            self._put("\n")
        if self._written:
            self._put("\n")

    def _write_text(self, text: str) -> None:
        # A carriage return is pending until the next character shows whether it is part of a line break.
        text, self._pending = self._pending + text, ""
        if text.endswith("\r"):
            text, self._pending = text[:-1], "\r"
        if text:
            text = text.replace("\r\n", "\n")
            self._put("".join(c if _is_harmless(c) else "\N{REPLACEMENT CHARACTER}" for c in text))

    def _put(self, text: str) -> None:
        encoding = self._out.encoding or "utf-8"
        self._written = True
        if self._closed:
            return
        try:
            self._out.write(text.encode(encoding, errors="replace").decode(encoding))
            self._out.flush()
        except OSError:
            self._closed = True


def _is_harmless(character: str) -> bool:
    if character in "\n\t":
        return True
    return unicodedata.category(character) not in HIDDEN and character not in DIRECTION_MARKS
