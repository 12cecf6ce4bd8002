"""Bits of a file drawn over its content: pictures, sounds, texts, any bytes."""
