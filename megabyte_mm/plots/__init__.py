"""Figures of what a model knows: plain numbers in, a matplotlib figure out; nothing is written or shown here.

positions.py        mean bits by position in the patch and in the window
media.py sound.py   pictures, texts and sounds as bytes
live.py             the curve of a run that goes on
continuations.py    continuations side by side
comparison.py       several models on the same files
"""
