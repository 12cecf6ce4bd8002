"""Configs as files hold them: what was left out takes its default, and a mistake is reported by its field."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import pytest

from megabyte_mm.models import (
    BlockConfig,
    MegabyteConfig,
    ModelConfig,
    PerceiverARConfig,
    StackConfig,
    TransformerConfig,
)
from tests.models.layouts import EACH

KINDS = (MegabyteConfig, TransformerConfig, PerceiverARConfig)
MODERN = BlockConfig(norm="rms", activation="swiglu", positions="rotary", qk_norm=True, bias=False)
SMALL = StackConfig(dim=64, layers=2, heads=2, feedforward=3)


@pytest.mark.parametrize(
    "config",
    [
        *(kind() for kind in KINDS),
        MegabyteConfig(8, 64, SMALL, None, conv_encoder=True, block=MODERN, conditions=3, dropout=0.5),
        TransformerConfig(64, SMALL, context=7, embedding_scale=5.0, block=MODERN, init_std=0.1),
        PerceiverARConfig(64, SMALL, latents=8, context=16, block=MODERN),
        TransformerConfig(64, SMALL, neighbourhood=EACH),
    ],
)
def test_a_config_comes_back_from_what_it_was_made_plain_to(config: ModelConfig) -> None:
    plain = asdict(config)  # type: ignore[call-overload] # all are dataclasses
    assert type(config).from_dict(plain) == config


@pytest.mark.parametrize("kind", KINDS)
def test_what_an_older_file_does_not_hold_takes_its_default(kind: type[ModelConfig]) -> None:
    found = kind.from_dict({"block": {"norm": "rms"}, "dropout": 0})  # a whole number is a number
    assert found == replace(kind(), block=BlockConfig(norm="rms"))  # type: ignore[type-var]


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (MegabyteConfig, {"local_stack": {"dim": 64}}, r"^local_stack\.layers is missing$"),
        (
            MegabyteConfig,
            {"global_stack": {**asdict(SMALL), "dim": 0}},
            r"^global_stack\.dim is 0; it must be at least 1",
        ),
        (MegabyteConfig, {"block": None}, "^block is None; it must hold norm, activation, positions, qk_norm, bias$"),
        (MegabyteConfig, {"latents": 8}, "^latents is not a field of MegabyteConfig; it has patch_size, max_len, "),
        (TransformerConfig, {"stack": None}, "^stack is None; it must hold dim, layers, heads, feedforward$"),
        (TransformerConfig, {"stack": {**asdict(SMALL), "width": 1}}, r"^stack\.width is not a field of StackConfig"),
        (
            TransformerConfig,
            {"embedding_scale": "1e1"},
            "^embedding_scale is '1e1'; it must be a number; YAML wants 1.0e-3",
        ),
        (PerceiverARConfig, {"latents": None}, "^latents is None; it must be a whole number$"),
        (PerceiverARConfig, {"context": 8.0}, r"^context is 8\.0; it must be a whole number$"),
        (PerceiverARConfig, {"block": {"qk_norm": "no"}}, r"^block\.qk_norm is 'no'; it must be true or false$"),
        (PerceiverARConfig, 5, "^PerceiverARConfig is 5; it must hold max_len, stack, "),
    ],
)
def test_a_mistake_is_reported_by_its_field(kind: type[ModelConfig], values: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind.from_dict(values)
