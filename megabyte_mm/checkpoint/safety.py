"""What is asked of the files of a checkpoint before they are read: to be whole, and to take no more than they say."""

from __future__ import annotations

import pickle
import pickletools
import zipfile
from typing import IO

_MEMO = ("PUT", "BINPUT", "LONG_BINPUT")
"""Opcodes whose argument is an index into a list, which Python's unpickler makes that long at once."""


def is_plain_archive(file: IO[bytes], size: int) -> bool:
    """Whether a file of that size is an archive as torch.save writes it, with the contents that were written.

    Nothing in it may unpack to more than is there. Its checksums take a second for each gigabyte. Raises OSError and
    BadZipFile.
    """
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        packed = any(member.compress_type != zipfile.ZIP_STORED for member in members)
        if packed or sum(member.file_size for member in members) > size:
            return False
        if archive.testzip() is not None:
            return False
        pickles = [archive.read(member) for member in members if member.filename.endswith("data.pkl")]
    # torch lets a pickle ask for a bytearray of any size.
    return not any(b"\nbytearray\n" in content for content in pickles)


def check_pickle(content: bytes) -> None:
    """Raise UnpicklingError, or ValueError for what cannot be followed, where unpickling would take more than it says.

    Python's unpickler believes an index of its memo, a frame and the length of a bytearray before it looks at the rest.
    """
    for opcode, argument, _ in pickletools.genops(content):  # which raises where a length goes beyond the end
        if opcode.name in (*_MEMO, "FRAME") and isinstance(argument, int) and argument > len(content):
            raise pickle.UnpicklingError(f"it asks for {argument} places in {len(content)} bytes")
