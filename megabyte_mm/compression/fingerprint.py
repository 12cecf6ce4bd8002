"""What must be the same on both sides: the model, and the numbers that a machine gets of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch

from megabyte_mm.alphabet import BYTES
from megabyte_mm.compression.coding import probabilities, repeatable, start_empty
from megabyte_mm.models.base import ByteModel, evaluating
from megabyte_mm.models.config import RENAMED_FIELDS
from megabyte_mm.models.decoding.execution import Execution

STEPS = 96
"""Symbols that are read to compare two machines: past several patches, and done in a moment."""


def model_fingerprint(model: ByteModel, about: Mapping[str, Any]) -> str:
    """16 hexadecimal digits of a model's architecture and weights, and of what else is said about it (plain values)."""
    spec = model.spec()
    # By their former names, which containers of older versions were made with.
    former = {present: old for old, present in RENAMED_FIELDS.items()}
    spec["config"] = {former.get(name, name): value for name, value in spec["config"].items()}
    told = hashlib.sha256(json.dumps([spec, about], sort_keys=True).encode())
    for name, weight in sorted(model.state_dict().items()):
        told.update(name.encode())
        told.update(weight.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return told.hexdigest()[:16]


def numbers_fingerprint(model: ByteModel, execution: Execution) -> str:
    """8 hexadecimal digits of the probabilities that this machine computes for a fixed sequence, to the last bit.

    Versions of torch, kinds of processors and compilers may change them, and need not.
    """
    told = hashlib.sha256()
    device = next(model.parameters()).device
    symbols = torch.randint(BYTES, (STEPS,), generator=torch.Generator().manual_seed(0)).to(device)
    decoder = model.decoder(1, capacity=model.max_len, execution=execution)
    with evaluating(model), repeatable(execution):
        logits_BV = start_empty(decoder, rows=1)
        for symbol_1 in symbols[: model.max_len - 1, None]:
            told.update(probabilities(logits_BV).data)
            logits_BV = decoder.step(symbol_1)
    told.update(probabilities(logits_BV).data)
    return told.hexdigest()[:8]
