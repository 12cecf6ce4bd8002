"""Known data sets with published figures: one config and one command each, trained and tested by `megabyte-mm`.

docs/benchmarks.md has the data sets, the addresses of their files, and the figures.
"""
