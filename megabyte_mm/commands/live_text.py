"""Text on the terminal as it is drawn."""

from __future__ import annotations

import codecs
from typing import TextIO

from data_adapters import Bytes


class LiveText:
    """Writes bytes as text as far as they are whole characters, and no control characters but tabs and line ends.

    What is not UTF-8, or what the output cannot show, becomes a replacement character.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""
        self._any = False

    def write(self, data: Bytes) -> None:
        """Show what these bytes complete."""
        self._show(self._decoder.decode(data.tobytes()))

    def close(self) -> None:
        """Show what was left open, and end the line."""
        self._show(self._decoder.decode(b"", final=True))
        if self._held:
            self._put("\n")
        if self._any:
            self._put("\n")

    def _show(self, text: str) -> None:
        # A carriage return is held until it is known whether a line end follows.
        text, self._held = self._held + text, ""
        if text.endswith("\r"):
            text, self._held = text[:-1], "\r"
        if text:
            text = text.replace("\r\n", "\n")
            self._put("".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text))

    def _put(self, text: str) -> None:
        encoding = self._out.encoding or "utf-8"
        self._out.write(text.encode(encoding, errors="replace").decode(encoding))
        self._out.flush()
        self._any = True
