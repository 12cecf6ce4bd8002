"""Sound as the bytes of its samples: adapter, decoding, container checks, sample encodings."""

from data_adapters.audio.adapter import AudioAdapter

__all__ = ["AudioAdapter"]
