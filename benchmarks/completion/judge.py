"""A small classifier, trained on the real training pictures in seconds, that judges completed ones."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from data_adapters import Bytes

EPOCHS, BATCH, LR = 4, 64, 2e-3
MIN_UPDATES = 400
"""Of a small collection, which is then read more often."""
MIN_SIDE = 4
"""Pixels of a picture's width and height: the network halves both twice."""


@dataclass(frozen=True)
class Judge:
    """A trained classifier of pictures of one size."""

    network: nn.Module
    classes: Sequence[str]

    @torch.no_grad()
    def labels(self, pictures: Sequence[Bytes]) -> list[str]:
        """The class of each picture: (H, W, C) uint8."""
        chosen = [self.network(batch).argmax(dim=1) for batch in torch.split(_to_tensor(pictures), 256)]
        return [self.classes[int(number)] for number in torch.cat(chosen)]


def train_judge(
    pictures: Sequence[Bytes], labels: Sequence[str], judged: Sequence[Bytes], wanted: Collection[str], seed: int
) -> Judge:
    """Train a convolutional network on pictures with labels: 20 s for 6,000 MNIST digits on one core.

    judged: real pictures that it is to judge; wanted: their labels. Raises ValueError, before it trains, for pictures
    of several sizes or too small ones, and for a wanted label without a picture to train on.
    """
    classes = sorted(set(labels))
    _check_judgeable([*pictures, *judged], classes, wanted)
    inputs_NCHW = _to_tensor(pictures)
    numbers = {label: number for number, label in enumerate(classes)}
    targets_N = torch.tensor([numbers[label] for label in labels])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = _network(inputs_NCHW.shape, len(classes))
        optimizer = torch.optim.Adam(network.parameters(), LR)
        per_epoch = -(-len(targets_N) // BATCH)
        epochs = max(EPOCHS, -(-MIN_UPDATES // per_epoch))
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.02, epochs * per_epoch)
        for _ in range(epochs):
            for chosen_B in torch.split(torch.randperm(len(targets_N)), BATCH):
                optimizer.zero_grad()
                loss = F.cross_entropy(network(inputs_NCHW[chosen_B]), targets_N[chosen_B])
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()
    return Judge(network.eval(), classes)


def _check_judgeable(pictures: Sequence[Bytes], classes: Collection[str], labels: Collection[str]) -> None:
    """Raise ValueError for pictures of several sizes or too small to be judged, and for a label that is no class."""
    if missing := [label for label in sorted(labels) if label not in classes]:
        raise ValueError(f"no training picture has the class {', '.join(missing)}, as validation pictures do")
    sizes = sorted({picture.shape[1::-1] for picture in pictures})
    shown = ", ".join(f"{width} x {height}" for width, height in sizes[:3])
    if len(sizes) > 1:
        raise ValueError(f"pictures of several sizes cannot be judged: {shown}; give a folder without class folders")
    if min(sizes[0]) < MIN_SIDE:
        raise ValueError(f"pictures of {shown} are too small to be judged: give a folder without class folders")


def _network(shape: torch.Size, classes: int) -> nn.Sequential:
    _, channels, height, width = shape
    features = 64 * (height // 4) * (width // 4)
    return nn.Sequential(
        nn.Conv2d(channels, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(features, classes),
    )


def _to_tensor(pictures: Sequence[Bytes]) -> Tensor:
    """(H, W, C) uint8 each -> (N, C, H, W) float32, -1 to 1."""
    pixels_NHWC = torch.from_numpy(np.stack(pictures))
    return pixels_NHWC.permute(0, 3, 1, 2).float() / 127.5 - 1.0
