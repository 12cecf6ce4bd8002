"""Decoding one symbol at a time: caches, steps of a stack, native code."""
