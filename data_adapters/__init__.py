"""Media files as flat byte streams and back: text, images, sound, any file, and adapters that users add.

base.py             ByteStream, Adapter, MediaError: the contract
neighbourhood.py    which earlier bytes lie near each byte, in plain numbers
registry.py         adapters by name, by suffix, by import path
io.py               reading whole files, atomic writing
text.py, file.py    text as UTF-8; any file as its own bytes
image/              pixels: the adapter, decoding, scan orders, contact sheets
audio/              samples: the adapter, decoding, container checks, sample encodings
"""

from data_adapters.audio import AudioAdapter
from data_adapters.base import Adapter, Bytes, ByteStream, Format, MediaError, printable
from data_adapters.file import FileAdapter
from data_adapters.image import ImageAdapter
from data_adapters.image.contact_sheet import contact_sheet
from data_adapters.io import UnavailableError, read_bytes, write_atomically, write_bytes
from data_adapters.neighbourhood import Group, Neighbourhood, Predictor
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
    "Group",
    "ImageAdapter",
    "MediaError",
    "Neighbourhood",
    "Predictor",
    "TextAdapter",
    "UnavailableError",
    "adapter_for",
    "build",
    "contact_sheet",
    "load_class",
    "printable",
    "read_bytes",
    "register",
    "spec",
    "write_atomically",
    "write_bytes",
]
