"""Bits per byte as files on disk: a model's probabilities drive an entropy coder, and back.

coding.py         windows of bytes <-> coded bytes, by the steps of a decoder and constriction's range coder
fingerprint.py    what must be the same on both sides: the model, and the numbers that this machine gets of it
container.py      the file format
"""
