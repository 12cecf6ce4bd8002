"""Compression: a model's probabilities drive an entropy coder, and its bits per byte become files on disk.

coding.py      windows of bytes <-> coded bytes, by a decoder's steps and constriction's range coder
recipes/       files <-> windows, bit for bit
container.py   the file format
settings.py    what both sides must share: the model, its steps, the numbers of a machine
packing.py     files <-> blocks of a container, in memory
files.py       files <-> containers, on the disk
summary.py     figures and a table of compressed files
"""

from megabyte_mm.compression.coding import Window, decode, encode
from megabyte_mm.compression.container import Container, unpack
from megabyte_mm.compression.files import compress_files, decompress_files, find_sources
from megabyte_mm.compression.packing import PackedFile, SourceFile, pack_files, unpack_files
from megabyte_mm.compression.settings import coding_settings

__all__ = [
    "Container",
    "PackedFile",
    "SourceFile",
    "Window",
    "coding_settings",
    "compress_files",
    "decode",
    "decompress_files",
    "encode",
    "find_sources",
    "pack_files",
    "unpack",
    "unpack_files",
]
