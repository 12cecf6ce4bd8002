"""Training steps, measured in processes that take turns: what benchmarks/train_step runs."""
