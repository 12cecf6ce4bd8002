"""Small made-up pictures, melodies and texts to try everything on, made on the spot: nothing is downloaded."""

from megabyte_mm.demo_data.make import make_samples

__all__ = ["make_samples"]
