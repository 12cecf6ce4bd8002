"""A classifier on top of a model: a linear layer on the features of files, trained together with the model.

As bGPT (Wu et al. 2024) does, which averages its patches' states; here a file keeps its sections apart, as in
`embedding`. The layer begins at zero, and sees some of the features at a time: with all of them it is soon right on all
files that it learns from, and the model learns nothing.

Legend: F files, R rows, T symbols of a row, K patches, S sections, D width of a feature vector, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from data_adapters import Bytes, ByteStream
from megabyte_mm.alphabet import fill_window
from megabyte_mm.checkpoint import Bundle
from megabyte_mm.features.embedding import SECTIONS, Floats, embed_streams, layer_of
from megabyte_mm.features.probe import Ints, standards
from megabyte_mm.models import ByteModel, global_states

MOST_MEASURED = 10_000
"""Files whose features are standardized to a mean of 0 and a deviation of 1, to bound them in memory."""
MIN_STEPS = 8
"""Of an epoch over a small collection: with fewer, the layer would hardly leave zero."""


@dataclass(frozen=True)
class HeadSettings:
    """epochs: over the files. lr: of the model and the layer. dropout: share of the features that a step leaves out.

    batch_size: rows in a step; fewer where an epoch would have less than MIN_STEPS.
    """

    epochs: int = 10
    lr: float = 1e-3
    dropout: float = 0.7
    batch_size: int = 32
    seed: int = 0


class Classifier:
    """A model with a linear layer that gives the classes of files."""

    def __init__(self, model: ByteModel, window: int, layer: nn.Linear, mean_D: Tensor, scale_D: Tensor) -> None:
        self.model, self.window, self.layer = model, window, layer
        self._mean_D, self._scale_D = mean_D, scale_D

    def log_probabilities(self, streams: Sequence[Bytes], batch_size: int = 64) -> Floats:
        """Of each class for each stream: (F, C) float32; those of a stream of several windows are their mean."""
        self.model.eval()
        sums = np.zeros((len(streams), self.layer.out_features), np.float32)
        counts = np.zeros((len(streams), 1), np.float32)
        with torch.no_grad():
            for numbers, ids_RT, counts_R in self._batches(streams, _rows(streams, self.window), batch_size):
                log_RC = self.logits(ids_RT, counts_R).log_softmax(-1).float().cpu().numpy()
                np.add.at(sums, numbers, log_RC)
                np.add.at(counts, numbers, 1)
        mean: Floats = sums / counts
        return mean

    def logits(self, ids_RT: Tensor, counts_R: Sequence[int]) -> Tensor:
        """(R, T) ids, of so many patches each -> (R, C)."""
        out_RC: Tensor = self.layer(self._features(ids_RT, counts_R))
        return out_RC

    def _features(self, ids_RT: Tensor, counts_R: Sequence[int]) -> Tensor:
        states_RKD = layer_of(global_states(self.model, ids_RT))
        mixed_RD = (_sections(counts_R, states_RKD.shape[1]).to(states_RKD) @ states_RKD).flatten(1)
        return (mixed_RD - self._mean_D) * self._scale_D

    def fit(
        self, streams: Sequence[Bytes], labels_F: Ints, settings: HeadSettings, on_bytes: Callable[[int], object]
    ) -> None:
        """Train the layer and the model on the streams' classes. on_bytes: called with each number of bytes read."""
        rows = list(_rows(streams, self.window))
        order, masks = np.random.default_rng(settings.seed), torch.Generator().manual_seed(settings.seed)
        weights = [*self.model.requires_grad_().parameters(), *self.layer.parameters()]
        optimizer = torch.optim.AdamW(weights, settings.lr, weight_decay=0.01)
        batch_size = max(1, min(settings.batch_size, len(rows) // MIN_STEPS))
        steps = settings.epochs * math.ceil(len(rows) / batch_size)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: min((step + 1) / max(steps // 20, 1), 1 - step / steps)
        )
        self.model.train()
        for _ in range(settings.epochs):
            shuffled = [rows[number] for number in order.permutation(len(rows)).tolist()]
            for numbers, ids_RT, counts_R in self._batches(streams, iter(shuffled), batch_size):
                wanted_R = torch.from_numpy(labels_F[numbers]).to(ids_RT.device)
                features_RD = self._features(ids_RT, counts_R)
                kept_RD = torch.rand(features_RD.shape, generator=masks) >= settings.dropout
                masked_RD = features_RD * kept_RD.to(features_RD) / (1 - settings.dropout)
                loss = F.cross_entropy(self.layer(masked_RD), wanted_R)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_(weights, 1.0)
                optimizer.step()
                schedule.step()
                on_bytes(sum(len(streams[number]) for number in numbers))
        self.model.eval()

    def _batches(
        self, streams: Sequence[Bytes], rows: Iterator[tuple[int, int]], batch_size: int
    ) -> Iterator[tuple[list[int], Tensor, list[int]]]:
        """The numbers of the streams of some rows, their ids (R, T), and the number of their patches."""
        size, device = self.model.patch_size, next(self.model.parameters()).device
        while batch := [row for row, _ in zip(rows, range(batch_size), strict=False)]:
            pieces = [streams[number][start : start + self.window] for number, start in batch]
            counts = [max(-(-len(piece) // size), 1) for piece in pieces]
            ids = np.stack([fill_window(piece, max(counts) * size) for piece in pieces])
            yield [number for number, _ in batch], torch.from_numpy(ids).to(device), counts


def train_classifier(
    bundle: Bundle,
    streams: Sequence[Bytes],
    labels_F: Ints,
    settings: HeadSettings = HeadSettings(),
    on_bytes: Callable[[int], object] = lambda count: None,
) -> Classifier:
    """A classifier of streams (F of them, of the classes 0 to C - 1); the bundle's model is trained with it.

    Raises ValueError for a model that reads no patches.
    """
    chosen = np.random.default_rng(settings.seed).permutation(len(streams))[:MOST_MEASURED].tolist()
    beginnings = [streams[number][: bundle.window] for number in chosen]
    vectors_FD = np.stack(list(embed_streams(bundle, [ByteStream(data, {}) for data in beginnings])))
    device = next(bundle.model.parameters()).device
    mean_D, scale_D = (torch.from_numpy(each).to(device) for each in standards(vectors_FD))
    layer = nn.Linear(len(mean_D), int(labels_F.max()) + 1, device=device)
    for weight in layer.parameters():
        nn.init.zeros_(weight)
    classifier = Classifier(bundle.model, bundle.window, layer, mean_D, scale_D)
    classifier.fit(streams, labels_F, settings, on_bytes)
    return classifier


def _rows(streams: Sequence[Bytes], window: int) -> Iterator[tuple[int, int]]:
    """The number of a stream and the start of a window in it, for all windows."""
    for number, data in enumerate(streams):
        yield from ((number, start) for start in range(0, max(len(data), 1), window))


def _sections(counts_R: Sequence[int], patches: int) -> Tensor:
    """The share of each patch in each section of a row, as of `embedding.pool`: (R, S, K)."""
    shares_RSK = np.zeros((len(counts_R), SECTIONS, patches), np.float32)
    for row, count in enumerate(counts_R):
        borders = np.linspace(0, min(count, patches), SECTIONS + 1)
        for section, (start, stop) in enumerate(pairwise(borders)):
            span = slice(int(start), math.ceil(stop))
            shares_RSK[row, section, span] = 1 / (span.stop - span.start)
    return torch.from_numpy(shares_RSK)
