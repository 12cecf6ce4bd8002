"""Pictures made from captions, judged by the captions of the real pictures that they are nearest to."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from data_adapters import Bytes

MOST_WORDS = 60
"""That have a figure of their own: the most frequent ones."""


@dataclass(frozen=True)
class Captioned:
    """Real pictures, (H, W, C) uint8, and the caption of each."""

    pictures: Sequence[Bytes]
    captions: Sequence[str]

    def nearest(self, picture: Bytes) -> str:
        """The caption of the picture of the same size with the smallest mean difference of its values."""
        same = [number for number, real in enumerate(self.pictures) if real.shape == picture.shape]
        if not same:
            raise ValueError(
                f"no real picture has the size of a generated one, {picture.shape[1]} x {picture.shape[0]}"
            )
        wide = picture.astype(np.int16)
        differences = [np.abs(self.pictures[number] - wide).mean() for number in same]
        return self.captions[same[int(np.argmin(differences))]]


def caption_rows(wanted: Sequence[str], nearest: Sequence[str]) -> list[tuple[str, int, float]]:
    """What was asked for, how often, and in which share of the cases the nearest caption has it.

    First all whole captions, then each word that some of them have and others lack. wanted, nearest: captions of equal
    number, of which one or more.
    """
    rows = [("all", len(wanted), fmean(a == b for a, b in zip(wanted, nearest, strict=True)))]
    words = [frozenset(re.findall(r"\w+", caption)) for caption in wanted]
    nearest_words = [frozenset(re.findall(r"\w+", caption)) for caption in nearest]
    counts = Counter(word for each in words for word in each)
    common = [word for word, number in counts.most_common(MOST_WORDS) if number < len(wanted)]
    for word in sorted(common):
        asked = [number for number, each in enumerate(words) if word in each]
        rows.append((word, len(asked), fmean(word in nearest_words[number] for number in asked)))
    return rows
