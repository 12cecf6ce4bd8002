"""From files to batches; `module.ByteData` is the door, the rest is named in the order that data takes.

files.py       a path -> files, their adapter, their split, their classes
digests.py     the files' sha256, remembered
cache.py       files -> shard folder, once
shards.py      flat uint8 shards and their index
records.py     a shard folder -> the records of each split
windows.py     records -> windows, shuffled and jittered by pure functions
loader.py      windows -> batches that resume exactly
module.py      ByteData, the LightningDataModule
progress.py    a bar for what takes long
"""
