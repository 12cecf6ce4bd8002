"""Text on the terminal as it is drawn."""

from __future__ import annotations

import codecs
import unicodedata
from typing import TextIO

from data_adapters import Bytes

HIDDEN = {"Cc", "Cn", "Co", "Cs"}
"""Unicode's kinds of what no terminal should get: controls, and what is no character."""
TURNING = set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Marks that change the direction of what follows, beyond the text itself."""


class LiveText:
    """Writes bytes as text as far as they are whole characters, and no control characters but tabs and line ends.

    What is not UTF-8, or what the output cannot show, becomes a replacement character. Where nobody reads on, as after
    `| head`, nothing more is shown: the drawing goes on, and its files are written.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""
        self._any = False
        self._gone = False

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
            self._put("".join(c if _harmless(c) else "\N{REPLACEMENT CHARACTER}" for c in text))

    def _put(self, text: str) -> None:
        encoding = self._out.encoding or "utf-8"
        self._any = True
        if self._gone:
            return
        try:
            self._out.write(text.encode(encoding, errors="replace").decode(encoding))
            self._out.flush()
        except OSError:
            self._gone = True


def _harmless(character: str) -> bool:
    if character in "\n\t":
        return True
    return unicodedata.category(character) not in HIDDEN and character not in TURNING
