"""A trained model at work on files: what `generate` and `score` do, for Python and for notebooks.

continuing.py    a file's beginning, and what the model draws after it
scoring.py       what files cost, byte by byte
heatmap.py       these costs painted over a file
"""

from megabyte_mm.inference.continuing import continue_file
from megabyte_mm.inference.scoring import ScoredFile, score_files

__all__ = ["ScoredFile", "continue_file", "score_files"]
