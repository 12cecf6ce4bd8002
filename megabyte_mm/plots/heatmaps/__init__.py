"""Bits painted over what they are spent on: pictures, sounds, texts, any bytes."""
