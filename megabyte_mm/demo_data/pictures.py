"""Small labelled pictures: bold shapes, stepped gradients and block letters in seven colours, without noise.

They can be learned in minutes: edges are hard, backgrounds are plain, all channel values are multiples of 8, and the
upper half of a picture determines the lower half.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product

import numpy as np
from numpy.typing import NDArray
from PIL import ImageFont

Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Grid = NDArray[np.float64]
Colour = tuple[int, int, int]

SIDE = 32
CELL = 4  # letters and gradients are built of cells as large as the image model's patches
INKS: tuple[Colour, ...] = (
    (240, 72, 72),
    (240, 184, 72),
    (72, 184, 72),
    (72, 128, 240),
    (240, 72, 184),
)
GROUNDS: tuple[Colour, ...] = ((240, 240, 240), (16, 16, 72))
LETTERS = "AHIOTUVXY8"
RADII = (10, 12)
ACROSS, DOWN = (-4, 0, 4), (-4, 0)  # never below the middle, so that the upper half shows the full width of a shape


def _heart(x: Grid, y: Grid) -> Mask:
    x, y = 1.2 * x, 0.1 - 1.2 * y
    return (x**2 + y**2 - 1) ** 3 < x**2 * y**3


def _face(x: Grid, y: Grid) -> Mask:
    eyes = np.hypot(abs(x) - 0.4, y + 0.3) < 0.18
    mouth = (abs(np.hypot(x, y) - 0.6) < 0.13) & (y > 0.15)
    return (np.hypot(x, y) < 1) & ~eyes & ~mouth


SHAPES: dict[str, Callable[[Grid, Grid], Mask]] = {
    "circle": lambda x, y: np.hypot(x, y) < 1,
    "cross": lambda x, y: (np.minimum(abs(x), abs(y)) < 0.35) & (np.maximum(abs(x), abs(y)) < 1),
    "diamond": lambda x, y: abs(x) + abs(y) < 1,
    "face": _face,
    "heart": _heart,
    "ring": lambda x, y: abs(np.hypot(x, y) - 0.75) < 0.25,
    "square": lambda x, y: np.maximum(abs(x), abs(y)) < 0.85,
    "triangle": lambda x, y: (abs(x) < (y + 1) / 2) & (y < 1),
}
CLASSES = tuple(sorted((*SHAPES, "gradient", "letter")))


def make_pictures(label: str, count: int, rng: np.random.Generator) -> list[Pixels]:
    """Draw `count` different pictures of one of CLASSES, in random order: (SIDE, SIDE, 3) uint8 RGB each.

    Raises ValueError where the class has fewer different pictures.
    """
    pictures = list(_variants(label))
    if count > len(pictures):
        raise ValueError(f"there are {len(pictures)} different pictures of class {label}, fewer than {count}")
    return [pictures[index] for index in rng.permutation(len(pictures))[:count]]


def shape_mask(shape: Callable[[Grid, Grid], Mask], radius: int, x: int, y: int, side: int = SIDE) -> Mask:
    """The pixels of a shape: (side, side) bool. x, y: pixels from the middle, to the right and down."""
    centres = np.arange(side) + 0.5 - side / 2
    return shape((centres[None, :] - x) / radius, (centres[:, None] - y) / radius)


def painted(mask: Mask, ink: Colour, ground: Colour) -> Pixels:
    """A picture of two colours: (side, side, 3) uint8 RGB."""
    return np.where(mask[:, :, None], ink, ground).astype(np.uint8)


def _variants(label: str) -> Iterator[Pixels]:
    """All different pictures of a class."""
    if label == "gradient":
        yield from _gradients()
        return
    masks = _letter_masks() if label == "letter" else _shape_masks(SHAPES[label])
    for mask, ink, ground in product(masks, INKS, GROUNDS):
        yield painted(mask, ink, ground)


def _shape_masks(shape: Callable[[Grid, Grid], Mask]) -> list[Mask]:
    return [shape_mask(shape, radius, x, y) for radius, x, y in product(RADII, ACROSS, DOWN)]


def _letter_masks() -> list[Mask]:
    return [_letter_mask(letter, shift // CELL) for letter, shift in product(LETTERS, ACROSS)]


def _letter_mask(letter: str, shift: int) -> Mask:
    """A letter of Pillow's bitmap font, each dot one cell, shifted by some cells to the right."""
    glyph = ImageFont.load_default_imagefont().getmask(letter)
    dots = np.array(glyph).reshape(glyph.size[::-1]) > 0
    dots = dots[dots.any(axis=1)][:, dots.any(axis=0)]
    cells = np.zeros((SIDE // CELL, SIDE // CELL), dtype=bool)
    (height, width), (rows, columns) = cells.shape, dots.shape
    top, left = (height - rows) // 2, (width - columns) // 2 + shift
    cells[top : top + rows, left : left + columns] = dots
    return cells.repeat(CELL, axis=0).repeat(CELL, axis=1)


def _gradients() -> Iterator[Pixels]:
    """From one colour to another in eight steps: down, across or along the diagonal."""
    steps = SIDE // CELL
    down, across = np.mgrid[:steps, :steps]
    for level, first, last in product((down, across, (down + across) // 2), INKS, INKS + GROUNDS):
        if first != last:
            yield _blend(level, first, last).repeat(CELL, axis=0).repeat(CELL, axis=1)


def _blend(level: NDArray[np.int64], first: Colour, last: Colour) -> Pixels:
    """Colours at level 0..7 of 7 between two; exact, since palette values differ by multiples of 56."""
    weight = level[:, :, None]
    colours: Pixels = (((7 - weight) * np.array(first) + weight * np.array(last)) // 7).astype(np.uint8)
    return colours
