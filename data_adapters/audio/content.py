"""Bytes of an open file without reading it whole: slices for the checks, a file object for libsndfile."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from typing import Any, BinaryIO

_BLOCK = 2**20


class Content:
    """Bytes `start` to `end` of an open file, behind a prefix; a slice reads only the bytes that it returns.

    Slices without a step work as on `bytes`; negative positions do not. Raises OSError where reading fails.
    """

    def __init__(self, file: BinaryIO, start: int, end: int, prefix: bytes = b"") -> None:
        self._file, self._start, self._end, self._prefix = file, start, end, prefix

    @classmethod
    def of(cls, file: BinaryIO) -> Content:
        """Return the whole file."""
        return cls(file, 0, file.seek(0, os.SEEK_END))

    def __len__(self) -> int:
        return len(self._prefix) + self._end - self._start

    def __getitem__(self, span: slice) -> bytes:
        start, stop, _ = span.indices(len(self))
        head = self._prefix[start:stop]
        start, stop = max(start - len(self._prefix), 0), stop - len(self._prefix)
        if stop <= start:
            return head
        self._file.seek(self._start + start)
        return head + self._file.read(stop - start)

    def part(self, start: int, end: int | None = None, prefix: bytes = b"") -> Content:
        """Return bytes `start` to `end` behind a prefix of their own. Only of content without a prefix."""
        assert not self._prefix, "content with a prefix has no parts"
        end = len(self) if end is None else end
        return Content(self._file, self._start + start, self._start + end, prefix)

    def find_all(self, pattern: bytes, start: int) -> Iterator[int]:
        """Positions of the pattern from `start` on."""
        for at in range(start, len(self), _BLOCK):
            block = self[at : at + _BLOCK + len(pattern) - 1]
            position = block.find(pattern)
            while position >= 0:
                yield at + position
                position = block.find(pattern, position + 1)

    def unpadded_length(self) -> int:
        """Length without the NULs at the end."""
        end = len(self)
        while end:
            start = max(end - _BLOCK, 0)
            if block := self[start:end].rstrip(b"\0"):
                return start + len(block)
            end = start
        return 0


class ContentFile(io.RawIOBase):
    """Content as a file for libsndfile, whose callbacks must not raise.

    Seeks before the start, which damaged headers cause, are clamped. error: the first error of reading, to be raised
    once libsndfile has returned; until then the file seems to end.
    """

    def __init__(self, content: Content) -> None:
        self._content, self._at = content, 0
        self.error: OSError | None = None

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """Position in bytes."""
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a position and return it."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: len(self._content)}[whence]
        self._at = max(base + offset, 0)
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer as far as the content goes; returns the number of bytes."""
        view = memoryview(buffer).cast("B")
        try:
            block = self._content[self._at : self._at + len(view)]
        except OSError as error:
            self.error = self.error or error
            return 0
        view[: len(block)] = block
        self._at += len(block)
        return len(block)
