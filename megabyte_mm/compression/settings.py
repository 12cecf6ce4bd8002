"""Settings that compression and decompression must share: model, execution, and computed numbers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from data_adapters import registry
from megabyte_mm.alphabet import BYTES
from megabyte_mm.checkpoint import Bundle
from megabyte_mm.compression.coding import probabilities, repeatable, start_empty
from megabyte_mm.compression.container import CodingSettings
from megabyte_mm.compression.recipes import library_versions
from megabyte_mm.models import Execution
from megabyte_mm.models.base import ByteModel, evaluating
from megabyte_mm.models.config import LATER_FIELDS, RENAMED_FIELDS

STEPS = 96
"""Symbols that two machines are compared by: past several patches, and computed in a moment."""
DEVICES = ("cpu", "cuda", "mps", "xpu")


def coding_settings(bundle: Bundle, execution: Execution) -> CodingSettings:
    """The settings by which this machine codes with a model. Raises ValueError for steps that it cannot run."""
    adapters = {name: registry.spec(modality.adapter) for name, modality in bundle.modalities.items()}
    execution = replace(_resolved(bundle.model, execution), exact=True)
    return CodingSettings(
        model=model_fingerprint(bundle.model, {"window": bundle.window, "adapters": adapters}),
        numbers=numbers_fingerprint(bundle.model, execution),
        device=next(bundle.model.parameters()).device.type,
        backend=execution.backend,
        precision=execution.precision,
        torch=torch.__version__.partition("+")[0],
        writers=library_versions(),
    )


def execution_of(settings: CodingSettings) -> Execution:
    """The way that steps were computed. Raises ValueError for an unknown one."""
    return Execution(settings.backend, settings.precision, exact=True)  # type: ignore[arg-type] # checked there


def check_settings(settings: CodingSettings, bundle: Bundle) -> None:
    """Raise ValueError if this model or this machine cannot restore the bytes."""
    device = next(bundle.model.parameters()).device.type
    if settings.device not in DEVICES:
        raise ValueError("damaged: compressed on a device of an unknown kind")
    if settings.device != device:
        raise ValueError(
            f"compressed on {settings.device}, and this is {device}, whose numbers differ in their last bits: "
            f"add --device {settings.device}"
        )
    try:
        here = coding_settings(bundle, execution_of(settings))
    except ValueError as error:
        raise ValueError(f"its steps cannot run here: {error}") from error
    if settings.model != here.model:
        raise ValueError(f"compressed with another model ({settings.model}) than this checkpoint's ({here.model})")
    if settings.numbers != here.numbers:
        raise ValueError(
            "this machine computes other probabilities in their last bits than the one that compressed it "
            f"(there torch {settings.torch}, here {here.torch}): decompress it on a machine of that kind"
        )


def model_fingerprint(model: ByteModel, metadata: Mapping[str, Any]) -> str:
    """16 hexadecimal digits of a model's architecture and weights, and of metadata as plain values."""
    spec = model.spec()
    # By their former names, which containers of older versions were made with.
    former = {present: old for old, present in RENAMED_FIELDS.items()}
    config = {former.get(name, name): value for name, value in spec["config"].items()}
    spec["config"] = without_later_fields(config)
    digest = hashlib.sha256(json.dumps([spec, metadata], sort_keys=True).encode())
    for name, weight in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(weight.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def without_later_fields(value: Any) -> Any:
    """A plain value of a config, as it was before the fields of LATER_FIELDS whose values are those of before."""
    if isinstance(value, Mapping):
        kept = {name: item for name, item in value.items() if name not in LATER_FIELDS or item != LATER_FIELDS[name]}
        return {name: without_later_fields(item) for name, item in kept.items()}
    return [without_later_fields(item) for item in value] if isinstance(value, list | tuple) else value


def numbers_fingerprint(model: ByteModel, execution: Execution) -> str:
    """8 hexadecimal digits of the probabilities that this machine computes for a fixed sequence, to the last bit.

    Versions of torch, kinds of processors and compilers may change them, and need not.
    """
    digest = hashlib.sha256()
    device = next(model.parameters()).device
    symbols = torch.randint(BYTES, (STEPS,), generator=torch.Generator().manual_seed(0)).to(device)
    decoder = model.decoder(1, capacity=model.max_len, execution=execution)
    with evaluating(model), repeatable(execution):
        logits_BV = start_empty(decoder, rows=1)
        for symbol_1 in symbols[: model.max_len - 1, None]:
            digest.update(probabilities(logits_BV).data)
            logits_BV = decoder.step(symbol_1)
    digest.update(probabilities(logits_BV).data)
    return digest.hexdigest()[:8]


def _resolved(model: ByteModel, execution: Execution) -> Execution:
    """The backend that `auto` chooses here: two machines may choose differently, and compute other numbers."""
    if execution.backend != "auto":
        return execution
    native = replace(execution, backend="native")
    try:
        model.decoder(1, execution=native)
    except ValueError:  # no compiler, no CPU, or no such steps of this architecture
        return replace(execution, backend="eager")
    return native
