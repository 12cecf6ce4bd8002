"""Bytes drawn, measured in processes that take turns: what benchmarks/decode runs."""
