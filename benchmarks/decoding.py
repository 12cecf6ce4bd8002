"""Generation: the cached decoder against a whole `forward` for every byte, and MEGABYTE-pytorch's own `generate`."""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import redirect_stderr
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.peers.megabyte_pytorch import MISSING, PEER, build_network, peer_version
from benchmarks.report import Table
from benchmarks.timing import side_by_side
from benchmarks.workloads import Workload
from megabyte_mm.alphabet import END
from megabyte_mm.generation import generate
from megabyte_mm.models import Decoder, Megabyte

CACHED = "cached"
RECOMPUTED = "recomputed"
WHOLE = "cached, whole window"


class Recomputing(Megabyte):
    """The same model with a decoder that remembers symbols alone and reads all of them again for each new one."""

    def decoder(  # type: ignore[override]
        self, batch: int, condition_B: Tensor | None = None, capacity: int | None = None
    ) -> Decoder:
        return RecomputingDecoder(self, condition_B)


class RecomputingDecoder(Decoder):
    """Contract 6 by the shortest way."""

    def __init__(self, model: Megabyte, condition_B: Tensor | None) -> None:
        self.capacity, self.alignment = model.max_len, model.patch_size
        self._model, self._condition_B = model, condition_B
        self._ids_BT: Tensor

    def prefill(self, ids_BT: Tensor) -> Tensor:
        self._ids_BT = ids_BT
        # What stands at the last place does not matter: its distribution is asked for.
        logits_BTV: Tensor = self._model(F.pad(ids_BT, (0, 1), value=END), self._condition_B)
        return logits_BTV[:, -1]

    def step(self, ids_B: Tensor) -> Tensor:
        return self.prefill(torch.cat([self._ids_BT, ids_B[:, None]], dim=1))


def time_decoding(workloads: list[Workload], batches: list[int], device: torch.device, seconds: float) -> list[Table]:
    """One row for each config, batch size and way of drawing the last patch of a window; and whole windows, cached."""
    columns = ("config", "batch", "way", "bytes drawn", "bytes/s", "spread", "time / cached")
    table = Table("Generation", columns)
    for workload in workloads:
        ways = _ways(workload, device)
        for batch in batches:
            prefix = workload.ids(batch, workload.window - workload.patch_size, device)
            runs = {name: lambda way=way, prefix=prefix: way(prefix) for name, way in ways.items()}
            times = side_by_side(runs, seconds / len(workloads) / len(batches), device)
            for name in runs:
                length = workload.window if name == WHOLE else workload.patch_size
                rate = batch * length / times.median(name)
                relative = None if name == WHOLE else times.ratio(name, to=CACHED)
                table.rows.append((workload.name, batch, name, length, rate, times.spread(name), relative))
    if not peer_version():
        table.notes.append(MISSING)
    return [table]


def _ways(workload: Workload, device: torch.device) -> dict[str, Callable[[Tensor], Tensor]]:
    """Functions from a prefix that lacks one patch to the full window; `WHOLE` takes of it only the number of rows."""
    cached = Megabyte(workload.config).to(device).eval()
    recomputing = Recomputing(workload.config).to(device).eval()
    recomputing.load_state_dict(cached.state_dict())
    ways: dict[str, Callable[[Tensor], Tensor]] = {
        CACHED: lambda prefix: generate(cached, prefix, workload.patch_size, allow_end=False),
        RECOMPUTED: lambda prefix: generate(recomputing, prefix, workload.patch_size, allow_end=False),
        WHOLE: lambda prefix: generate(cached, prefix[:, :0], workload.window, allow_end=False),
    }
    if peer_version():
        peer = build_network(workload.config, device).eval()
        ways[PEER] = lambda prefix: peer_generate(peer, prefix)
    return ways


@torch.no_grad()
def peer_generate(peer: Any, prefix_BT: Tensor) -> Tensor:
    """The prefix continued to the end of the window by the peer's own `generate`, without its progress bar."""
    with redirect_stderr(io.StringIO()):
        ids_BKP: Tensor = peer.generate(prefix_BT)
    return ids_BKP.flatten(1)
