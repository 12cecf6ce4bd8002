"""Compression on a GPU: the cost of a CPU, the same bytes again, and few waits where the symbols are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from megabyte_mm.compression.coding import SYMBOLS_PER_CALL, Window, decode, encode
from megabyte_mm.models import Execution
from tests.simulated_gpu.device import SimulatedGpu, on_gpu
from tests.simulated_gpu.test_training import BASE

EAGER = Execution("eager")
LENGTHS = (2 * SYMBOLS_PER_CALL + 3, SYMBOLS_PER_CALL, 5)


def test_encoding_waits_once_in_many_symbols_and_decoding_once_for_each() -> None:
    torch.manual_seed(0)
    model = replace(BASE, max_len=LENGTHS[0] + 1).build().eval()
    random = np.random.default_rng(0)
    windows = [(Window(length), random.integers(256, size=length, dtype=np.uint8)) for length in LENGTHS]
    wanted = encode(model, windows, execution=EAGER)
    with SimulatedGpu() as gpu:
        model = on_gpu(model)
        gpu.reset()
        coded = encode(model, windows, execution=EAGER)
        encoding = len(gpu.waits)
        gpu.reset()
        decoded = decode(
            model, [(window, one.data) for (window, _), one in zip(windows, coded, strict=True)], execution=EAGER
        )
        decoding = len(gpu.waits)
    np.testing.assert_allclose([one.nats for one in coded], [one.nats for one in wanted], rtol=1e-4)
    for (_, data), same in zip(windows, decoded, strict=True):
        np.testing.assert_array_equal(data, same)
    start = len(LENGTHS)  # the conditions, and each other empty prefix that is compared with the first
    assert encoding <= start + LENGTHS[0] // SYMBOLS_PER_CALL + len(LENGTHS)
    assert decoding <= start + LENGTHS[0]
