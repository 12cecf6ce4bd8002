"""Figures of what a model knows: plain numbers in, a matplotlib figure out; nothing is written or shown here.

positions.py        mean bits by position in the patch and in the window
runs.py             curves of a run
inline.py           a figure as SVG inside a page
heat.py             what all heatmaps share: the scale of colours, titles, axes of whole pixels
picture_heatmap.py sound_heatmap.py text_heatmap.py bytes_heatmap.py    bits painted over what they are spent on
characters.py       characters of a text with their bits; text_page.py shows them all, as HTML
media.py sound.py   pictures, texts and sounds as bytes
live.py             the curve of a run that goes on
continuations.py    continuations side by side
comparison.py       several models on the same files
"""
