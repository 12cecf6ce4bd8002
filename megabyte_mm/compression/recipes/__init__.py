"""Recipes: a file as the windows that a model reads, and the same file again, bit for bit.

files.py      the search for a recipe, and rebuilding; text, sound and unknown files
pictures.py   pictures as tiles of pixels, rebuilt by Pillow or zlib
png.py        PNG files from their pixels: line filters and zlib's parameters
tiles.py      a picture of any size in tiles of one size
"""

from megabyte_mm.compression.recipes.files import (
    Recipe,
    SplitFile,
    filler_masks,
    is_whole_file,
    library_versions,
    rebuild_file,
    split_file,
)

__all__ = [
    "Recipe",
    "SplitFile",
    "filler_masks",
    "is_whole_file",
    "library_versions",
    "rebuild_file",
    "split_file",
]
