"""What the benchmarks share: interleaved timing, worker processes, peak memory, reports, and the models they time."""
