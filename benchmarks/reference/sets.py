"""The data sets, where their files are found, and what others have published on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmarks.reference.enwik8 import split_enwik8
from benchmarks.reference.sc09 import choose_digits
from megabyte_mm.evaluation import Method

FOLDER = Path(__file__).parent
SIZES = ("gpu", "cpu")
Size = Literal["gpu", "cpu"]


@dataclass(frozen=True)
class Published:
    """A figure of others, in bits per byte. model: what it was measured with, and by whom."""

    bits_per_byte: float
    model: str


@dataclass(frozen=True)
class Reference:
    """A data set with published figures.

    name: of its config. title: with the split that figures are of. published: none where there is nothing to compare
    with. split_bytes: of the whole published split, to compare with what was measured; None if unknown.
    method: of scoring the split. prepare: brings the data into shape in a folder, and returns the path to train on.
    notes: what to know before figures are compared.
    """

    name: str
    title: str
    published: tuple[Published, ...]
    split_bytes: int | None
    method: Method
    prepare: Callable[[str, Path], str] | None = None
    notes: tuple[str, ...] = ()

    def configs(self, size: Size) -> list[Path]:
        """The config files of a size, later ones over earlier ones."""
        name = f"{self.name}.yaml"
        return [FOLDER / name, FOLDER / "cpu" / name] if size == "cpu" else [FOLDER / name]


_KATHAROPOULOS = "softmax Transformer, Katharopoulos et al. 2020"

REFERENCES = {
    reference.name: reference
    for reference in (
        Reference(
            "mnist",
            "MNIST, the 10,000 test pictures",
            (Published(0.621, _KATHAROPOULOS),),
            10_000 * 28 * 28,
            "plain",
        ),
        Reference(
            "cifar10",
            "CIFAR-10, the 10,000 test pictures",
            (
                Published(3.47, f"{_KATHAROPOULOS}, in a limited time"),
                Published(2.80, "Sparse Transformer, Child et al. 2019, with much more compute"),
            ),
            10_000 * 32 * 32 * 3,
            "plain",
        ),
        Reference(
            "enwik8",
            "enwik8, its last 5 MB",
            (Published(1.06, "Transformer-XL of 41 M parameters, Dai et al. 2019"),),
            5_000_000,
            "sliding",
            split_enwik8,
        ),
        Reference(
            "tinyshakespeare",
            "tiny Shakespeare, its last tenth",
            (Published(2.120, "nanoGPT, best validation loss of 1.4697 nats a character"),),
            111_540,
            "sliding",
            notes=("nanoGPT's figure is of random windows of 256 bytes, whose first bytes have little before them.",),
        ),
        Reference(
            "sc09",
            "SC09, the ten digits of Speech Commands, its test recordings",
            (),
            None,
            "sliding",
            choose_digits,
            notes=(
                "No published bits per byte of its 16-bit samples are known to us.",
                "Likelihoods in the literature are of samples scaled and rounded to 8 bits, and do not compare.",
            ),
        ),
        Reference(
            "imagenet64",
            "ImageNet of 64 x 64, the 50,000 validation pictures",
            (Published(3.40, "MEGABYTE of 2.7 B and 350 M parameters, Yu et al. 2023"),),
            50_000 * 64 * 64 * 3,
            "plain",
            notes=(
                "There are two sets of this name, and figures of one do not compare with those of the other:",
                "the archives of van den Oord et al. 2016, on which older papers report, and the arrays of",
                "Chrabaszcz et al. 2017.",
            ),
        ),
    )
}
