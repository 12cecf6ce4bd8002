"""From files to batches; `module.ByteData` is the door, the rest is named in the order that data takes.

files.py          a path -> files, their adapter, their split, their classes
digests.py        the files' sha256, remembered
encode.py         files -> their streams, by one process or several
shard_writer.py   streams -> flat uint8 shards and their index
places.py         where shards lie: a folder, or a URL
cache.py          files -> shard folder, once
prepare.py        files -> shards at a place, for many machines, restartably
shard_cache.py    shards from afar, kept up to a bound; ahead.py fetches them before their turn
shards.py         the reader of shards
sources.py        a path or a URL -> records and their adapter
records.py        a reader -> the records of each split
windows.py        records -> windows, jittered by pure functions
order.py          which windows come when: shuffled, in groups of shards, by weight
dataset.py        windows -> batches of symbols
sampler.py        which of them are a rank's
loader.py         batches in an order that resumes exactly
module.py         ByteData, the LightningDataModule
telling.py        what a user hears of files; progress.py shows a bar for what takes long
epochs.py         mends how Lightning counts epochs
"""
