"""What the benchmarks share.

timing     interleaved measurements, and ratios within a round
workers    processes that compute on request, one at a time
memory     the peak memory of a process
training   one training step as a function
workloads  the models and batches that are timed
report     tables, the description of the machine, and JSON files
program    the command line of a benchmark that measures in parts
"""
