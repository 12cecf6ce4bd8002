"""How fast are training steps, and how much memory do they take?

Implementations are worker processes, measured in turns: `python -m benchmarks.train_step`.
"""
