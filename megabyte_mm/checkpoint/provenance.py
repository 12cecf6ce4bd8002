"""Where a model comes from: what is known of its training run, and may be told with it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import PurePath, PurePosixPath
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

Nested = Mapping[str, Any]
NOTHING: Nested = MappingProxyType({})
LONGEST = 200
"""Characters of a name that is told."""


@dataclass(frozen=True)
class Provenance:
    """What a checkpoint knows of its run; None, or empty, where it does not know.

    steps: updates. bytes: read in training, each time they were read. data_name: as the function of that name tells it.
    data: files and bytes of each split, by source; the only source is named "". val_bpb: bits per byte of the latest
    validation, by source, "" for all together. best_val_bpb: the lowest of the run so far. method: how validation read
    the model.
    """

    steps: int | None = None
    bytes: int | None = None
    data_name: str = ""
    data: Mapping[str, Mapping[str, Mapping[str, int]]] = field(default_factory=dict)
    val_bpb: Mapping[str, float] = field(default_factory=dict)
    best_val_bpb: float | None = None
    method: str = ""

    def values(self) -> dict[str, Any]:
        """Plain values, without what is not known; `from_values` reads them."""
        return {name: value for name, value in asdict(self).items() if value not in (None, "", {})}


def data_name(path: str) -> str:
    """The last part of the data's path: of where it lies, and of what a URL says to be let in, nothing is told."""
    if "://" not in path:
        return PurePath(path).name
    url = urlsplit(path)
    return PurePosixPath(url.path).name or url.hostname or ""


def from_values(values: Any) -> Provenance:
    """What of these values can be believed; they may be any, since a stranger may have written them."""
    found = _nested(values)
    return Provenance(
        steps=_count(found.get("steps")),
        bytes=_count(found.get("bytes")),
        data_name=_name(found.get("data_name")),
        data={_name(source): _splits(splits) for source, splits in _nested(found.get("data")).items()},
        val_bpb={_name(source): bits for source, bits in _nested(found.get("val_bpb")).items() if _is_figure(bits)},
        best_val_bpb=found["best_val_bpb"] if _is_figure(found.get("best_val_bpb")) else None,
        method=_name(found.get("method")),
    )


def from_run(checkpoint: Nested) -> Provenance:
    """What a training run's checkpoint says of itself beside its weights; a foreign or bare one says nothing."""
    callbacks = _nested(checkpoint.get("callbacks"))
    known = {
        "steps": checkpoint.get("global_step"),
        "bytes": _nested(callbacks.get("Throughput")).get("bytes"),
        "best_val_bpb": _nested(callbacks.get("BestCheckpoint")).get("val/bpb"),
    }
    return from_values(known | dict(_nested(callbacks.get("RunReport"))))


def _splits(found: Any) -> dict[str, dict[str, int]]:
    return {
        _name(split): {_name(what): count for what, count in _nested(counts).items() if _count(count) is not None}
        for split, counts in _nested(found).items()
    }


def _nested(value: Any) -> Nested:
    return value if isinstance(value, Mapping) else NOTHING


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63 else None


def _is_figure(value: Any) -> bool:
    return (
        isinstance(value, float | int) and not isinstance(value, bool) and 0 <= value < 2**20 and math.isfinite(value)
    )


def _name(value: Any) -> str:
    return value[:LONGEST] if isinstance(value, str) else ""
