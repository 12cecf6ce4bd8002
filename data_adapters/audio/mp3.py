"""Frames of MP3 files: the sounds that follow each other, how long each is, and whether anything else lies between.

An MP3 file is a row of frames of known sizes. A header in its first frame (Xing, Info) may state their number.
libsndfile reads no further than that number, and without it no further than it estimates. So every frame is counted
here, and a sound without such a header gets one.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import NamedTuple

from data_adapters.audio.content import Content

_RATES = (44100, 48000, 32000)
_KBITS = {  # (is MPEG 1, layer) -> kbit/s of bit rate indices 1 to 14
    (True, 1): range(32, 449, 32),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
DECODER_DELAY = 529
"""Samples that a decoder leaves out at the start, where they only fill its filters. libsndfile's lengths count them."""

_HEAD = 64
"""Bytes from the start of a frame that hold its header and the start of a Xing header."""


class Kind(NamedTuple):
    """What all frames of a sound share. rate: in Hz."""

    is_mpeg1: bool
    layer: int
    rate: int
    is_mono: bool

    @property
    def side_info_size(self) -> int:
        """Bytes between the header and the sound of a frame of layer 3, or its Xing header."""
        return {(True, False): 32, (True, True): 17, (False, False): 17, (False, True): 9}[self.is_mpeg1, self.is_mono]

    @property
    def num_samples(self) -> int:
        """Samples of each channel in a frame."""
        return 384 if self.layer == 1 else 1152 if self.is_mpeg1 or self.layer == 2 else 576


class Frame(NamedTuple):
    """Header of a frame. size: bytes of the whole frame."""

    kind: Kind
    size: int


@dataclass
class _Run:
    """Frames in a row. start, end: bytes. first: bytes of the first frame with sound. stated: frames, by a header."""

    kind: Kind
    start: int
    end: int
    first: bytes = b""
    stated: int | None = None
    num_frames: int = 0


class Mp3Sound(NamedTuple):
    """A sound in an MP3 file. states_length: True where its own header does. num_samples: of each channel, if not."""

    content: Content
    states_length: bool
    num_samples: int


def parse_frame(head: bytes) -> Frame | None:
    """Header of the frame with these first bytes; None for bytes that are no frame of a stated size."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    version, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)
    bits_index, rate_index, padding = head[2] >> 4, head[2] >> 2 & 3, head[2] >> 1 & 1
    if version == 1 or layer == 4 or bits_index in (0, 15) or rate_index == 3:
        return None
    is_mpeg1 = version == 3
    rate = _RATES[rate_index] >> {3: 0, 2: 1, 0: 2}[version]
    bits = 1000 * _KBITS[is_mpeg1, layer][bits_index - 1]
    if layer == 1:
        size = (12 * bits // rate + padding) * 4
    else:
        size = (144 if is_mpeg1 or layer == 2 else 72) * bits // rate + padding
    return Frame(Kind(is_mpeg1, layer, rate, head[3] >> 6 == 3), size)


def skip_tags(content: Content, at: int) -> int:
    """Position behind the tags (ID3, APE) and NULs that start at a position."""
    while at < len(content):
        head = content[at : at + 32]
        if head[:3] == b"ID3" and len(head) >= 10:
            size = sum((byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
            at += 10 + size + 10 * (head[5] >> 4 & 1)  # the last ten: a footer
        elif head[:3] == b"TAG":
            at += 128
        elif head[:8] == b"APETAGEX":
            is_header = len(head) == 32 and head[23] & 0x20
            at += 32 + (int.from_bytes(head[12:16], "little") if is_header else 0)
        elif head[:1] == b"\0":
            at += len(head) - len(head.lstrip(b"\0"))
        else:
            return at
    return len(content)


def split(content: Content) -> list[Mp3Sound]:
    """Return the sounds of a file, each with a header that states its length.

    Raises ValueError for a file with fewer frames than it states, and for one with anything between or behind its
    frames but tags and, at the end, a part of a frame.
    """
    runs: list[_Run] = []
    at, is_open = 0, False
    while at < len(content):
        head = content[at : at + _HEAD]
        frame = parse_frame(head)
        if len(head) < 4 or (frame is not None and at + frame.size > len(content)):
            break
        if frame is None:
            raise ValueError(f"cannot be decoded: it has no MP3 frame at byte {at}")
        xing = _read_xing(head, frame.kind)
        if not is_open or xing or frame.kind != runs[-1].kind or runs[-1].num_frames == runs[-1].stated:
            runs.append(_Run(frame.kind, at, at))
        run = runs[-1]
        if xing:
            run.stated = xing.num_frames
            run.start += 0 if run.stated else frame.size
        else:
            run.num_frames += 1
            run.first = run.first or head
        at += frame.size
        run.end = at
        is_open = (after_tags := skip_tags(content, at)) == at
        at = after_tags
    for run in runs:
        if run.stated and run.num_frames < run.stated:
            raise ValueError(f"is truncated: it has {run.num_frames} of {run.stated} MP3 frames")
    return [_sound(content, run) for run in runs if run.num_frames]


class _Xing(NamedTuple):
    num_frames: int | None


def _read_xing(head: bytes, kind: Kind) -> _Xing | None:
    """The Xing header of a frame that holds one instead of sound; encoders place it behind a checksum or not."""
    for at in (4 + kind.side_info_size, 6 + kind.side_info_size):
        if kind.layer == 3 and head[at : at + 4] in (b"Xing", b"Info"):
            return _Xing(int.from_bytes(head[at + 8 : at + 12], "big") if head[at + 7] & 1 else None)
    return None


def _sound(content: Content, run: _Run) -> Mp3Sound:
    if run.stated:
        return Mp3Sound(content.part(run.start, run.end), True, 0)
    prefix = _xing_frame(run) if run.kind.layer == 3 else b""  # the other layers have no such header
    return Mp3Sound(content.part(run.start, run.end, prefix), False, run.num_frames * run.kind.num_samples)


def _xing_frame(run: _Run) -> bytes:
    """Return a frame like the others of a run, with a header that states their number instead of sound."""
    bits_index = 9 if run.kind.is_mpeg1 else 8  # 128 or 64 kbit/s: room for the header at any rate
    first = run.first
    head = bytes([first[0], first[1] | 1, bits_index << 4 | first[2] & 0x0C, first[3]])
    frame = parse_frame(head)
    assert frame is not None
    body = bytes(run.kind.side_info_size) + b"Xing" + struct.pack(">II", 1, run.num_frames)
    return (head + body).ljust(frame.size, b"\0")
