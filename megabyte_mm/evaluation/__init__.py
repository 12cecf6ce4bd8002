"""Streams scored with a model: how many bits each of their bytes costs.

methods.py    plain, sliding, strided, sliding+strided
scoring.py    streams -> the nats of each symbol, and where in patch and window it was predicted
curves.py     mean bits by position in the patch and in the window
report.py     the figures of many files as a table and as JSON
"""
