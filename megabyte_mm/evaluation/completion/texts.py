"""How much of a continued text is words: the share that the training text has."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

import numpy as np

WORD = re.compile(r"[^\W\d_]+")
"""Letters in a row. In scripts without spaces this is a phrase rather than a word."""


@dataclass(frozen=True)
class TextFigures:
    """Shares of the words after the cut that the training text has, of the continuation and of the original.

    nan for one without a whole word.
    """

    known_words: float
    original_known_words: float


def text_figures(prefix: str, continuation: str, original: str, known: Collection[str]) -> TextFigures:
    """Compare what was generated after a prefix with the rest of the original. known: as of `words`."""
    return TextFigures(*(known_share(words_after(prefix, rest), known) for rest in (continuation, original)))


def words(texts: Iterable[str]) -> set[str]:
    """Return the different words of some texts, without regard to case."""
    return {word for text in texts for word in WORD.findall(text.casefold())}


def words_after(prefix: str, rest: str) -> list[str]:
    """Return the words that end after the cut, without regard to case.

    One that begins before the cut counts whole. One that ends with the text is left out: it may go on.
    """
    start = re.search(r"[^\W\d_]*\Z", prefix)
    text = (prefix[start.start() if start else 0 :] + rest).casefold()
    begun = len(start[0].casefold()) if start else 0
    return [match[0] for match in WORD.finditer(text) if begun < match.end() < len(text)]


def known_share(found: Collection[str], known: Collection[str]) -> float:
    """Return the share of words that are known; nan without any."""
    return sum(word in known for word in found) / len(found) if found else np.nan
