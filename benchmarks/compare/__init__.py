"""Which model reaches fewer bits per byte in equal training time?

Models of an experiment are trained side by side on the same data: `python -m benchmarks.compare`.
"""
