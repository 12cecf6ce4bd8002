"""How fast are bytes generated?

Implementations are worker processes, measured in turns: `python -m benchmarks.decode`.
"""
