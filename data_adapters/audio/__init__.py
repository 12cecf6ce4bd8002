"""Sound as the bytes of its samples: adapter, decoding, container checks, sample encodings."""

from data_adapters.audio.adapter import AudioAdapter
from data_adapters.audio.encoding import decode, encode

__all__ = ["AudioAdapter", "decode", "encode"]
