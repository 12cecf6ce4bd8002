"""The parts of benchmarks/kills.py: what is trained, how it is killed, and how two runs are compared."""
