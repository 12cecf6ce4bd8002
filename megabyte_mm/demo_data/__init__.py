"""Small made-up pictures, melodies and texts to try everything on, made on the spot: nothing is downloaded."""

from megabyte_mm.demo_data.make import make_demo_data

__all__ = ["make_demo_data"]
