"""What a GPU does with this project, in minutes: `python -m benchmarks.gpu --minutes 9 --out DIR`.

program      the command line, and a process for each part
settings     the sizes, the device, and the JSON files
environment  versions, speeds of the card, attention kernels that run
training     training steps, beside peers; memory; a profile
decoding     bytes a second by rows, and the share of the memory's bandwidth
"""
