"""What only PerceiverAR does: it learns from its latents at one place of the window."""

from __future__ import annotations

import pytest
import torch

from megabyte_mm.alphabet import END
from megabyte_mm.metrics import mean_nats
from megabyte_mm.models import PerceiverAR, PerceiverARConfig, StackConfig

CONFIG = PerceiverARConfig(max_len=64, stack=StackConfig(dim=16, layers=1, heads=2), latents=8, init_std=0.1)


def test_a_step_learns_from_the_latents_of_a_place_that_evaluation_comes_by() -> None:
    model = PerceiverAR(CONFIG)
    places = {(span.first, span.end) for span in model.spans(64)[1:]}
    torch.manual_seed(0)
    sampled = [model.training_nll(torch.zeros(1, 64, dtype=torch.int64))[1] for _ in range(200)]
    assert {(span.start, span.stop) for span in sampled} == places
    assert all(end - first == CONFIG.latents for first, end in places)


def test_no_step_is_spent_where_every_row_has_ended() -> None:
    model = PerceiverAR(CONFIG)
    ids = torch.full((2, 64), END)
    ids[0, :10], ids[1, :3] = 65, 66
    for _ in range(50):
        nats, span = model.training_nll(ids)
        assert mean_nats(nats, ids, span) > 0


def test_the_context_holds_the_latents() -> None:
    with pytest.raises(ValueError, match="latents is 400; a window of 24 symbols never fills half of them"):
        PerceiverARConfig(24, latents=400).build()
    with pytest.raises(ValueError, match="context is 4; it must hold the 8 latents"):
        PerceiverARConfig(latents=8, context=4)
    with pytest.raises(ValueError, match="latents is 3; it must be an even number"):
        PerceiverARConfig(latents=3)
