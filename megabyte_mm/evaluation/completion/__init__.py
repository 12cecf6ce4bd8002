"""How good completions are, measured against the originals that their prefixes were cut from.

pictures.py  pixels that are right, and the outline of a shape
sounds.py    loudness and pitch after the cut
texts.py     words that the training text has
figures.py   the figures of a stream by its adapter, and several in a line
"""

from megabyte_mm.evaluation.completion.figures import (
    CompletionFigures,
    completion_figures,
    generated_pixels,
    mean_defined,
    summary,
)
from megabyte_mm.evaluation.completion.pictures import PictureFigures, fit_background, picture_figures
from megabyte_mm.evaluation.completion.sounds import SoundFigures, sound_figures
from megabyte_mm.evaluation.completion.texts import TextFigures, text_figures, words

__all__ = [
    "CompletionFigures",
    "PictureFigures",
    "SoundFigures",
    "TextFigures",
    "completion_figures",
    "fit_background",
    "generated_pixels",
    "mean_defined",
    "picture_figures",
    "sound_figures",
    "summary",
    "text_figures",
    "words",
]
