"""Sounds as the bytes of their samples: adapter, decoding, containers, sample encodings."""

from data_adapters.audio.adapter import AudioAdapter

__all__ = ["AudioAdapter"]
