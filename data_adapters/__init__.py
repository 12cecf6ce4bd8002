"""Media files as flat byte streams, and back: text, images, sound, any file, and whatever a user adds.

base.py             ByteStream, Adapter, MediaError: the contract
text.py             UTF-8
image.py            pixels; image_file.py opens the files, bit_depth.py finds deep samples, scan.py orders the bytes
audio.py            samples; sound_file.py opens the files, sound_container.py checks them, sound_samples.py encodes
file.py             any file as its own bytes
registry.py         by name, by suffix, by import path
sheet.py            contact sheets of pictures
"""

from data_adapters.audio import AudioAdapter
from data_adapters.base import Adapter, Bytes, ByteStream, Format, MediaError, printable
from data_adapters.file import FileAdapter
from data_adapters.image import ImageAdapter
from data_adapters.image.contact_sheet import contact_sheet
from data_adapters.io import read_bytes, write_atomically
from data_adapters.registry import ADAPTERS, adapter_for, build, load_class, register, spec
from data_adapters.text import TextAdapter

__all__ = [
    "ADAPTERS",
    "Adapter",
    "AudioAdapter",
    "ByteStream",
    "Bytes",
    "FileAdapter",
    "Format",
    "ImageAdapter",
    "MediaError",
    "TextAdapter",
    "adapter_for",
    "build",
    "contact_sheet",
    "load_class",
    "printable",
    "read_bytes",
    "register",
    "spec",
    "write_atomically",
]
