"""Compressed and packed files, recognised by their first bytes."""

from __future__ import annotations

import re

_KINDS = {
    rb"\x1f\x8b\x08": "compressed by gzip",
    rb"\x28\xb5\x2f\xfd": "compressed by zstd",
    rb"BZh[1-9]1AY&SY": "compressed by bzip2",
    rb"\xfd7zXZ\x00": "compressed by xz",
    rb"PK\x03\x04": "a ZIP archive",
    rb"PAR1.*PAR1\Z": "a Parquet table",
    rb"%PDF-\d": "a PDF document",
    rb"SQLite format 3\x00": "an SQLite database",
}
"""Pattern of a file's content -> what the file is. Parquet also ends with its first bytes, which could begin a text."""


def packed_kind(content: bytes) -> str | None:
    """Return what a packed file is ("compressed by gzip"), or None for any other content."""
    return next((kind for pattern, kind in _KINDS.items() if re.match(pattern, content, re.DOTALL)), None)
