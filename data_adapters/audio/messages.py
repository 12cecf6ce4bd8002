"""libsndfile's messages about sound files, in plain words."""

from __future__ import annotations

import re

import soundfile

_DAMAGED = "cannot be decoded: its contents are damaged"

_PLAIN = {
    r"format not recognised|not a regular file": "is not a sound file in a supported format: WAV, AIFF, FLAC, Ogg, MP3",
    r"SF_INFO|channel count|too many channels": (
        "cannot be decoded: its header states no valid rate, length or number of channels"
    ),
    r"unimplemented format|unsupported|unknown encoding|does not support|supports only|wavpack": (
        "cannot be decoded: its coding is not supported; convert it to WAV of 16 bits first"
    ),
    r"no data could be read|shorter than": "cannot be decoded: its end is missing",
}
"""Parts of libsndfile's messages, in any case -> what they mean."""


def plain_reason(error: soundfile.LibsndfileError) -> str:
    """Return why a file cannot be decoded, as the end of a sentence about it.

    The messages that are not listed name a part of a file or of libsndfile's code, and mean damaged files.
    """
    matching = (reason for part, reason in _PLAIN.items() if re.search(part, error.error_string, re.IGNORECASE))
    return next(matching, _DAMAGED)
