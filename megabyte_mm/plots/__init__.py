"""Figures of what a model knows: plain numbers in, a matplotlib figure out; nothing is written or shown here.

positions.py    mean bits by position in the patch and in the window
runs.py         curves of a run
inline.py       a figure as SVG inside a page
"""
