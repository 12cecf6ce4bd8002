"""The contract of ByteModel and Decoder, for every architecture and every combination of its options."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import cycle, product
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from megabyte_mm.generation.engine import num_truncated
from megabyte_mm.models import (
    BlockConfig,
    ByteModel,
    MegabyteConfig,
    ModelConfig,
    PerceiverARConfig,
    StackConfig,
    StepOptions,
    TransformerConfig,
    build,
)
from megabyte_mm.models.megabyte import PartConfig
from tests.models.layouts import EACH, ONE

WINDOW = 18
LARGE, SMALL = StackConfig(dim=16, layers=2, heads=2), StackConfig(dim=8, layers=2, heads=2)
BASE = MegabyteConfig(patch_size=4, max_len=WINDOW, global_stack=LARGE, local_stack=SMALL, conditions=3, init_std=0.5)
IN_PARTS = replace(
    BASE,
    patch_size=2,
    parts=(PartConfig(2, 6), PartConfig(4, 12), PartConfig(1, 6)),
    orders=((0, 1), (1, 2), (2, 0, 2)),  # rows of 18 symbols each
)
TRANSFORMER = TransformerConfig(max_len=WINDOW, stack=LARGE, conditions=3, init_std=0.5)
PERCEIVER = PerceiverARConfig(max_len=WINDOW, stack=LARGE, conditions=3, init_std=0.5)
PAPER = BlockConfig()
ROTARY = BlockConfig(positions="rotary")
MODERN = BlockConfig(norm="rms", activation="swiglu", positions="rotary", qk_norm=True, bias=False)
OTHERS = (
    BlockConfig(norm="rms"),
    BlockConfig(activation="gelu"),
    BlockConfig(activation="relu2", bias=False),
    BlockConfig(qk_norm=True),
)


def described(changes: dict[str, Any]) -> str:
    block = changes.get("block", PAPER)
    names = [f"{k}={v}" for k, v in changes.items() if k not in ("block", "neighbourhood")]
    names += [f"neighbourhood={len(changes[k].layouts)}" for k in changes if k == "neighbourhood"]
    names += [
        str(getattr(block, f)) for f in ("norm", "activation", "positions") if getattr(block, f) != getattr(PAPER, f)
    ]
    return "-".join([*names, *(["qk"] if block.qk_norm else []), *([] if block.bias else ["unbiased"])]) or "paper"


def grid() -> dict[str, ModelConfig]:
    """Every combination of MEGABYTE's options, over which blocks take turns; the baselines with each kind of block."""
    blocks = cycle((PAPER, ROTARY, MODERN))
    options = product((False, True), (0, 1, 3, 4), ("learned", "byte"))
    changes: list[dict[str, Any]] = [
        {"conv_encoder": conv, "cross_patch": cross, "local_start": start, "block": next(blocks)}
        for conv, cross, start in options
    ]
    extended = {"conv_encoder": True, "cross_patch": 2, "local_start": "byte", "embedding_scale": 5.0}
    changes += [{**extended, "block": block} for block in OTHERS]
    changes += [
        {"global_stack": None, "block": PAPER},
        {"global_stack": None, "cross_patch": 2, "local_start": "byte", "block": MODERN},
        {"global_stack": None, "cross_patch": 2, "block": PAPER},
        {"local_stack": None, "block": MODERN},
        {"local_stack": None, "conv_encoder": True, "block": PAPER},
        {"patch_size": 1},
        {"patch_size": 1, "cross_patch": 1, "local_start": "byte"},
        {"neighbourhood": ONE, "local_start": "byte", "embedding_scale": 5.0},
        {"neighbourhood": EACH, "cross_patch": 2, "patch_scale": 10.0},
    ]
    models: dict[str, ModelConfig] = {f"megabyte-{described(change)}": replace(BASE, **change) for change in changes}
    in_parts: list[dict[str, Any]] = [
        {"block": PAPER},
        {"block": ROTARY, "local_start": "byte", "conv_encoder": True},
        {"block": MODERN, "neighbourhood": EACH, "patch_scale": 10.0, "embedding_scale": 5.0},
    ]
    models |= {f"megabyte-parts-{described(change)}": replace(IN_PARTS, **change) for change in in_parts}
    for block, context in ((PAPER, None), (ROTARY, 5), (MODERN, 16), (PAPER, 5)):
        name = f"transformer-context={context}-{described({'block': block})}"
        models[name] = replace(TRANSFORMER, block=block, context=context, embedding_scale=3.0 if context else 1.0)
    for block, latents, context in ((PAPER, 4, None), (ROTARY, 8, 11), (MODERN, 8, None), (PAPER, 2 * WINDOW, None)):
        name = f"perceiver_ar-latents={latents}-context={context}-{described({'block': block})}"
        models[name] = replace(PERCEIVER, block=block, latents=latents, context=context)
    models["transformer-neighbourhood=1"] = replace(TRANSFORMER, neighbourhood=ONE)
    models["transformer-context=5-neighbourhood=3"] = replace(TRANSFORMER, context=5, neighbourhood=EACH)
    models["perceiver_ar-latents=4-neighbourhood=3"] = replace(PERCEIVER, latents=4, neighbourhood=EACH)
    return models


GRID = grid()
every_model = pytest.mark.parametrize("config", GRID.values(), ids=GRID)


def make(config: ModelConfig, seed: int = 0) -> ByteModel:
    torch.manual_seed(seed)
    model = config.build().eval().double()
    for parameter in model.parameters():  # biases and norms too, so that a forgotten one shows
        if parameter.ndim == 1:
            torch.nn.init.normal_(parameter, std=0.5)
    return model


def symbols(batch: int, length: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 257, (batch, length), generator=torch.Generator().manual_seed(seed))


def reached(model: ByteModel, ids: torch.Tensor) -> list[set[int]]:
    """For each position, the positions of the symbols that its logits depend on: by gradients at the symbol tables.

    ids: (1, T), all different, so that a value gives its position wherever the model looks it up.
    """
    position = {value: t for t, value in enumerate(ids[0].tolist())}
    looked_up: list[tuple[list[int], torch.Tensor]] = []

    def remember(_module: object, args: tuple[torch.Tensor], output: torch.Tensor) -> torch.Tensor:
        leaf = output.detach().clone().requires_grad_()
        looked_up.append(([position.get(value, -1) for value in args[0].flatten().tolist()], leaf))
        return leaf

    tables = [part for part in model.modules() if isinstance(part, torch.nn.Embedding) and part.num_embeddings == 257]
    hooks = [table.register_forward_hook(remember) for table in tables]
    logits = model(ids)
    for hook in hooks:
        hook.remove()
    weights = torch.randn(257, dtype=logits.dtype, generator=torch.Generator().manual_seed(1))
    reached_by = []
    for t in range(ids.shape[1]):
        gradients = torch.autograd.grad(
            logits[0, t] @ weights, [leaf for _, leaf in looked_up], retain_graph=True, allow_unused=True
        )
        sources: set[int] = set()
        for (positions, _), gradient in zip(looked_up, gradients, strict=True):
            if gradient is not None:
                strength = gradient.flatten(0, -2).abs().sum(-1)
                sources |= {p for p, g in zip(positions, strength.tolist(), strict=True) if g > 0}
        reached_by.append(sources)
    return reached_by


@every_model
def test_no_symbol_sees_itself_or_a_later_one(config: ModelConfig) -> None:
    length = 14
    ids = torch.randperm(256, generator=torch.Generator().manual_seed(0))[None, :length]
    for t, sources in enumerate(reached(make(config), ids)):
        assert sources <= set(range(t)), f"position {t} sees {sorted(sources)}"
        assert sources >= must_see(config, t), f"position {t} sees only {sorted(sources)}"


def must_see(config: ModelConfig, t: int) -> set[int]:
    """The symbols that position t depends on in the paper's architecture."""
    if isinstance(config, PerceiverARConfig):
        stride = config.latents // 2
        # Inputs stand one position after their symbols.
        oldest = t - t % stride + stride - config.context - 1 if config.context else 0
        return set(range(max(oldest, 0), t))
    if isinstance(config, TransformerConfig):
        begin = t - t % (config.context or WINDOW)
        return set(range(max(begin - 1, 0), t))
    assert isinstance(config, MegabyteConfig)
    assert config.patch_size is not None
    begin = t - t % config.patch_size
    inside, before = set(range(begin, t)), set(range(begin))
    if config.local_stack is None:
        return before
    if config.global_stack is not None:
        return inside | before
    carried = {begin - 1} if config.local_start == "byte" and begin else set()
    if config.cross_patch and begin:
        # The last r positions of the patch before have read the symbols in front of them.
        carried |= set(range(max(begin - config.patch_size, begin - 1 - config.cross_patch), begin - 1))
    return inside | carried


@every_model
def test_cached_decoding_equals_forward_at_every_prefix(config: ModelConfig) -> None:
    model = make(config)
    ids, condition = symbols(2, WINDOW), torch.tensor([2, 1])
    with torch.no_grad():
        expected = model(ids, condition)
    decoder = model.decoder(2, condition)
    for prefix in range(WINDOW):  # each prefill must forget the one before
        end = WINDOW if prefix in (0, 6) else min(prefix + 3, WINDOW)
        logits = [decoder.prefill(ids[:, :prefix])]
        logits += [decoder.step(ids[:, t]) for t in range(prefix, end - 1)]
        torch.testing.assert_close(torch.stack(logits, dim=1), expected[:, prefix:end])


@every_model
def test_length_padding_and_batch_neighbours_change_nothing(config: ModelConfig) -> None:
    model = make(config)
    ids = symbols(3, WINDOW)
    with torch.no_grad():
        together = model(ids)
        for length in (1, 4, 6, WINDOW - 1):
            torch.testing.assert_close(model(ids[1:2, :length]), together[1:2, :length])


@every_model
def test_nll_is_the_cross_entropy_of_forward_with_its_gradients(config: ModelConfig) -> None:
    model = make(config)
    ids, condition = symbols(2, 11), torch.tensor([0, 1])
    model.nll(ids, condition).sum().backward()
    got = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    model.zero_grad()
    expected = F.cross_entropy(model(ids, condition).flatten(0, 1).float(), ids.flatten(), reduction="none")
    torch.testing.assert_close(model.nll(ids, condition).flatten(), expected)
    expected.sum().backward()
    wanted = {name: p.grad for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)  # nats are float32


@every_model
def test_recomputing_changes_neither_nats_nor_gradients(config: ModelConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("megabyte_mm.models.megabyte.chunked_loss.MIN_CHUNK_RATIO", 0)
    model, ids, condition = make(config), symbols(2, WINDOW), torch.tensor([0, 1])
    results = []
    for budget in (float("inf"), 1):  # everything kept, and as little as possible
        model.zero_grad()
        nats = model.nll(ids, condition, StepOptions(budget))
        (nats * torch.linspace(-1, 2, nats.numel()).view_as(nats)).sum().backward()
        results.append((nats.detach(), {name: p.grad for name, p in model.named_parameters()}))
        with torch.no_grad():
            torch.testing.assert_close(model.nll(ids, condition, StepOptions(budget)), nats)
    torch.testing.assert_close(results[0], results[1])


@every_model
def test_training_nll_is_the_nll_of_its_span(config: ModelConfig) -> None:
    model = make(config)
    ids, condition = symbols(2, WINDOW), torch.tensor([0, 2])
    with torch.no_grad():
        expected = model.nll(ids, condition)
        for _ in range(8):
            nats, span = model.training_nll(ids, condition)
            assert nats.shape == ids[:, span].shape
            # The first half of PerceiverAR's latents have fewer others before them than in evaluation.
            late = nats.shape[1]
            if isinstance(config, PerceiverARConfig):
                late = (span.stop - 1) % (config.latents // 2) + 1
            torch.testing.assert_close(nats[:, -late:], expected[:, span][:, -late:])


@every_model
def test_every_weight_matters(config: ModelConfig) -> None:
    model = make(config)
    model.nll(symbols(3, WINDOW), torch.arange(3)).sum().backward()
    idle = [name for name, parameter in model.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    assert idle == []


@every_model
def test_condition_changes_the_output_and_0_is_the_default(config: ModelConfig) -> None:
    model = make(config)
    ids = symbols(1, 9)
    with torch.no_grad():
        default, zero, one = model(ids), model(ids, torch.tensor([0])), model(ids, torch.tensor([1]))
    torch.testing.assert_close(default, zero)
    assert not torch.allclose(zero, one)


@every_model
def test_spec_builds_the_same_architecture(config: ModelConfig) -> None:
    model = make(config)
    twin = build(json.loads(json.dumps(model.spec()))).double().eval()
    twin.load_state_dict(model.state_dict())
    assert twin.config == model.config
    with torch.no_grad():
        torch.testing.assert_close(twin(symbols(1, 9)), model(symbols(1, 9)))


@every_model
def test_explicit_and_fused_attention_agree(config: ModelConfig) -> None:
    model = make(config)
    ids = symbols(2, WINDOW)
    with torch.no_grad():
        fused = model(ids)  # without gradients, the fused kernel is taken
    torch.testing.assert_close(model(ids).detach(), fused)


@every_model
def test_a_model_trains_after_inference_mode(config: ModelConfig) -> None:
    model = make(config)
    ids = symbols(2, WINDOW)
    with torch.inference_mode():
        model.nll(ids)
    model.nll(ids).sum().backward()


@every_model
def test_a_full_decoder_restarts_from_part_of_its_context(config: ModelConfig) -> None:
    decoder = make(config).decoder(1)
    assert 0 < num_truncated(WINDOW, decoder) < WINDOW


@every_model
def test_a_decoder_begins_with_a_prefix_and_ends_with_its_window(config: ModelConfig) -> None:
    decoder = make(config).decoder(1, capacity=3)
    with pytest.raises(RuntimeError, match="prefill comes before its first step"):
        decoder.step(symbols(1, 1)[0])
    with pytest.raises(ValueError, match="3 symbols leave no room for another in a window of 3"):
        decoder.prefill(symbols(1, 3))
    decoder.prefill(symbols(1, 1))
    decoder.step(symbols(1, 1)[0])
    assert decoder.lengths == [2]
    with pytest.raises(ValueError, match="3 symbols leave no room"):
        decoder.step(symbols(1, 1)[0])


@every_model
def test_dropout_acts_in_training_only(config: ModelConfig) -> None:
    model = make(replace(config, dropout=0.5))  # type: ignore[type-var] # all are dataclasses
    ids = symbols(1, 12)
    with torch.no_grad():
        torch.testing.assert_close(model(ids), model(ids))
        model.train()
        assert not torch.allclose(model(ids), model(ids))


@every_model
def test_max_positions_is_the_longest_sequence(config: ModelConfig) -> None:
    model = make(config)
    ids = symbols(1, 2 * WINDOW + 3)
    if model.max_positions is not None:
        with pytest.raises(ValueError, match=f"a sequence of 39 symbols; this model takes 1 to {model.max_positions}"):
            model(ids)
        with pytest.raises(ValueError, match="takes 1 to"):
            model.decoder(1, capacity=39)
        return
    with torch.no_grad():
        expected = model(ids)
    decoder = model.decoder(1, capacity=39)
    got = [decoder.prefill(ids[:, :5]), *(decoder.step(ids[:, t]) for t in range(5, 38))]
    torch.testing.assert_close(torch.stack(got, dim=1), expected[:, 5:])


@every_model
def test_ids_that_are_no_symbols_are_refused(config: ModelConfig) -> None:
    model = make(config)
    decoder = model.decoder(1)
    for wrong, found in ((-100, "-100 to 256"), (257, "0 to 257")):
        ids = torch.tensor([[0, 256, 7, 8, wrong]])  # the last one is never looked up
        for read in (model, model.nll, decoder.prefill):
            with pytest.raises(ValueError, match=f"^ids are {found}; symbols are 0 to 256"):
                read(ids)


def test_gradients_of_each_row_can_be_vectorized() -> None:
    model = make(BASE)
    ids = symbols(3, 9)
    weights: dict[str, torch.Tensor] = dict(model.named_parameters())

    def cost(weights: dict[str, torch.Tensor], ids_T: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = torch.func.functional_call(model, weights, (ids_T[None],))
        return F.cross_entropy(logits[0], ids_T)

    rows = torch.func.vmap(torch.func.grad(cost), in_dims=(None, 0))(weights, ids)["local_symbols.weight"]
    alone = torch.func.grad(cost)(weights, ids[1])["local_symbols.weight"]
    torch.testing.assert_close(rows[1], alone)
