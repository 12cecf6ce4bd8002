"""How much features say of classes: nearest neighbours and a linear probe.

Legend: F files, D width of a feature vector, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from megabyte_mm.features.embedding import Floats

Ints = NDArray[np.int64]
NEIGHBOURS = (1, 5, 20)
_PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
_HELD_OUT = 5
"""One in so many training files chooses the penalty."""


@dataclass(frozen=True)
class Accuracy:
    """Of a classifier on `files` files, with the standard error of their share."""

    name: str
    correct: int
    files: int

    @property
    def share(self) -> float:
        return self.correct / self.files

    @property
    def error(self) -> float:
        return math.sqrt(self.share * (1 - self.share) / self.files)


def neighbour_accuracies(train_FD: Floats, labels_F: Ints, val_FD: Floats, val_labels_F: Ints) -> list[Accuracy]:
    """The accuracy of the vote of the nearest files by cosine, for each of NEIGHBOURS that the files allow.

    A neighbour's vote weighs as much as its cosine, taken at a temperature of 0.07 as for DINO (Caron et al. 2021).
    """
    train_FD, val_FD = standardize(train_FD, val_FD)
    train, val = (F.normalize(torch.from_numpy(vectors), dim=1) for vectors in (train_FD, val_FD))
    wanted_F = torch.from_numpy(val_labels_F)
    votes_FC = F.one_hot(torch.from_numpy(labels_F)).float()
    accuracies = []
    for count in (count for count in NEIGHBOURS if count <= len(train)):
        correct = 0
        for start in range(0, len(val), 256):
            rows, wanted = val[start : start + 256], wanted_F[start : start + 256]
            cosines, nearest = (rows @ train.T).topk(count)
            scores = (votes_FC[nearest] * (cosines / 0.07).exp()[..., None]).sum(dim=1)
            correct += int((scores.argmax(dim=1) == wanted).sum())
        accuracies.append(Accuracy(f"{count} nearest", correct, len(val)))
    return accuracies


def linear_accuracy(train_FD: Floats, labels_F: Ints, val_FD: Floats, val_labels_F: Ints) -> Accuracy:
    """The accuracy of multinomial logistic regression on standardized features.

    Its penalty on squared weights is the best on a fifth of the training files; then all of them train.
    """
    train_FD, val_FD = standardize(train_FD, val_FD)
    train, labels = torch.from_numpy(train_FD), torch.from_numpy(labels_F)
    classes = int(labels_F.max()) + 1
    held = torch.randperm(len(train), generator=torch.Generator().manual_seed(0)) % _HELD_OUT == 0
    scores = {}
    for penalty in _PENALTIES:
        weights = _regression(train[~held], labels[~held], classes, penalty)
        scores[penalty] = _correct(weights, train[held], labels[held])
    best = max(scores, key=lambda penalty: scores[penalty])
    weights = _regression(train, labels, classes, best)
    return Accuracy(
        "linear probe", _correct(weights, torch.from_numpy(val_FD), torch.from_numpy(val_labels_F)), len(val_FD)
    )


def principal_components(vectors_FD: Floats, count: int = 2) -> Floats:
    """The files' coordinates on the first principal components: (F, count)."""
    centred = torch.from_numpy(vectors_FD - vectors_FD.mean(axis=0))
    _, _, axes = torch.linalg.svd(centred, full_matrices=False)
    coordinates: Floats = (centred @ axes[:count].T).numpy()
    return coordinates


def class_numbers(labels: Sequence[str], classes: Sequence[str]) -> Ints:
    """The number of each label's class."""
    numbers = {name: number for number, name in enumerate(classes)}
    return np.array([numbers[label] for label in labels], dtype=np.int64)


def standardize(train_FD: Floats, val_FD: Floats) -> tuple[Floats, Floats]:
    """Both with the mean and the standard deviation of `train` taken out; constant features become 0."""
    mean_D, scale_D = standards(train_FD)
    return (train_FD - mean_D) * scale_D, (val_FD - mean_D) * scale_D


def standards(vectors_FD: Floats) -> tuple[Floats, Floats]:
    """The mean and the factor (D,) that bring features to a mean of 0 and a deviation of 1; constant ones to 0."""
    mean_D, std_D = vectors_FD.mean(axis=0), vectors_FD.std(axis=0)
    scale_D = np.where(std_D > 1e-6 * (np.abs(mean_D) + 1), 1 / np.maximum(std_D, 1e-12), 0).astype(np.float32)
    return mean_D, scale_D


def _regression(vectors_FD: Tensor, labels_F: Tensor, classes: int, penalty: float) -> Tensor:
    """Weights and bias, (D + 1, C), by L-BFGS."""
    inputs = F.pad(vectors_FD, (0, 1), value=1.0)
    weights = torch.zeros(inputs.shape[1], classes, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = F.cross_entropy(inputs @ weights, labels_F) + penalty * weights[:-1].square().sum() / 2
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return weights.detach()


def _correct(weights: Tensor, vectors_FD: Tensor, labels_F: Tensor) -> int:
    return int(((F.pad(vectors_FD, (0, 1), value=1.0) @ weights).argmax(dim=1) == labels_F).sum())
