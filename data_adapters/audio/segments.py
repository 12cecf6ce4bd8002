"""Sound files that lie end to end in one file, such as chained Ogg streams: libsndfile reads only the first."""

from __future__ import annotations

from dataclasses import dataclass

from data_adapters.audio import containers, flac, mp3, ogg
from data_adapters.audio.content import Content

_UNKNOWN_LENGTH = "an MP3 file that does not state its length: the end may be missing"
_TRAILING_DATA = "data after its samples was ignored: its header may be wrong"


@dataclass(frozen=True)
class Segment:
    """A sound of its own in a file.

    content: as libsndfile reads it. num_frames: those that must be in it, where libsndfile does not know. is_mp3: True
    where its frames have been counted.
    """

    content: Content
    num_frames: int = 0
    is_mp3: bool = False


def split(content: Content) -> tuple[list[Segment], tuple[str, ...]]:
    """Return the sounds of a file, without the tags in front, and notes of defects.

    Every byte is accounted for: part of a sound, a tag or chunk, or noted. A file that is no sound is one segment.
    Raises ValueError for a file that is truncated, or damaged so that bytes would be skipped.
    """
    content = content.part(mp3.skip_tags(content, 0) if content[:3] == b"ID3" else 0)
    notes: tuple[str, ...] = ()
    if containers.is_chunked(content):
        files, has_trailing_data = containers.split(containers.close_wav(content))
        if any(map(containers.is_truncated, files)):
            raise ValueError("is truncated: its header states more data than the file has")
        segments = [Segment(file) for file in files]
    elif content[:4] == b"OggS":
        files, has_trailing_data = ogg.split(content)
        segments = [Segment(file) for file in files]
    elif content[:4] == b"fLaC":
        files = flac.split(content)
        has_trailing_data = any(map(flac.has_trailing_data, files))
        segments = [Segment(file) for file in files]
    elif mp3.parse_frame(content[:4]):
        sounds = mp3.split(content)
        if not sounds:
            raise ValueError("cannot be decoded: it has no complete MP3 frame")
        segments = [Segment(sound.content, sound.num_samples, is_mp3=True) for sound in sounds]
        has_trailing_data = False
        notes = () if all(sound.states_length for sound in sounds) else (_UNKNOWN_LENGTH,)
    else:
        return [Segment(content)], ()
    return segments, notes + (_TRAILING_DATA,) * has_trailing_data
