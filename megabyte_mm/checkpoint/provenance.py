"""The provenance of a model: figures of its training run that may be published with it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import PurePath, PurePosixPath
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

Nested = Mapping[str, Any]
TRAINING = "training"
"""Entry of an exported model's config that holds its provenance."""

_NO_VALUES: Nested = MappingProxyType({})
_MAX_NAME = 200
"""Characters of a name."""


@dataclass(frozen=True)
class Provenance:
    """Figures of a run; None, or empty, if unknown.

    steps: updates. bytes: read in training, with repetitions. data_name: by the function of that name. data: files and
    bytes of each split, by source; a single source is named "". val_bpb: bits per byte of the latest validation, by
    source, "" for all together. best_val_bpb: the lowest so far. method: of validation.
    val_share: of the files held out where no folder holds those to validate; None for records of several parts, which
    are split by their common names.
    """

    steps: int | None = None
    bytes: int | None = None
    data_name: str = ""
    data: Mapping[str, Mapping[str, Mapping[str, int]]] = field(default_factory=dict)
    val_bpb: Mapping[str, float] = field(default_factory=dict)
    best_val_bpb: float | None = None
    method: str = ""
    val_share: float | None = None

    def values(self) -> dict[str, Any]:
        """Plain values of all known figures; `from_values` reads them."""
        return {name: value for name, value in asdict(self).items() if value not in (None, "", {})}


def data_name(path: str) -> str:
    """The last part of the data's path, without its folder, and of a URL without credentials and parameters."""
    if "://" not in path:
        return PurePath(path).name
    url = urlsplit(path)
    return PurePosixPath(url.path).name or url.hostname or ""


def from_values(values: Any) -> Provenance:
    """The provenance in these values; values that no run writes are dropped, since anybody may have written them."""
    entries = _nested(values)
    return Provenance(
        steps=_count(entries.get("steps")),
        bytes=_count(entries.get("bytes")),
        data_name=_name(entries.get("data_name")),
        data={_name(source): _splits(splits) for source, splits in _nested(entries.get("data")).items()},
        val_bpb={_name(source): bits for source, bits in _nested(entries.get("val_bpb")).items() if _is_figure(bits)},
        best_val_bpb=entries["best_val_bpb"] if _is_figure(entries.get("best_val_bpb")) else None,
        method=_name(entries.get("method")),
        val_share=_share(entries.get("val_share")),
    )


def from_run(checkpoint: Nested) -> Provenance:
    """The provenance in a training run's checkpoint; empty for a checkpoint of another program."""
    callbacks = _nested(checkpoint.get("callbacks"))
    figures = {
        "steps": checkpoint.get("global_step"),
        "bytes": _nested(callbacks.get("Throughput")).get("bytes"),
        "best_val_bpb": _nested(callbacks.get("BestCheckpoint")).get("val/bpb"),
    }
    return from_values(figures | dict(_nested(callbacks.get("RunReport"))))


def _splits(values: Any) -> dict[str, dict[str, int]]:
    return {
        _name(split): {_name(unit): count for unit, count in _nested(counts).items() if _count(count) is not None}
        for split, counts in _nested(values).items()
    }


def _nested(value: Any) -> Nested:
    return value if isinstance(value, Mapping) else _NO_VALUES


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63 else None


def _is_figure(value: Any) -> bool:
    return (
        isinstance(value, float | int) and not isinstance(value, bool) and 0 <= value < 2**20 and math.isfinite(value)
    )


def _share(value: Any) -> float | None:
    return value if isinstance(value, float) and 0 < value < 1 else None


def _name(value: Any) -> str:
    return value[:_MAX_NAME] if isinstance(value, str) else ""
