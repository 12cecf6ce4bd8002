"""Generation step by step, compared with `forward`, up to the end of the window and beyond."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from megabyte_mm import generate
from megabyte_mm.alphabet import END
from megabyte_mm.generation import SamplingParams, num_truncated, row_seeds, stream_symbols
from megabyte_mm.generation.engine import generate_rows
from megabyte_mm.generation.patches import NO_SYMBOL
from megabyte_mm.generation.sampling import distribution, inverse_cdf
from megabyte_mm.models import (
    Backend,
    BlockConfig,
    ByteModel,
    Decoder,
    Execution,
    Megabyte,
    MegabyteConfig,
    ModelConfig,
    PerceiverARConfig,
    StackConfig,
    TransformerConfig,
)
from megabyte_mm.models.megabyte.decoder import MegabyteDecoder
from tests.generation.ends import favour_end

WINDOW, PATCH = 22, 4


@pytest.fixture(scope="module")
def model() -> Megabyte:
    config = MegabyteConfig(
        patch_size=PATCH,
        max_len=WINDOW,
        global_stack=StackConfig(dim=16, layers=1, heads=2),
        local_stack=StackConfig(dim=8, layers=1, heads=2),
        conditions=3,
        init_std=0.5,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        # In float64, so that no sample depends on how caches round.
        return Megabyte(config).double().eval()


@pytest.fixture(autouse=True, params=["symbols", "patches"])
def at_a_time(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Generation symbol by symbol, and by whole patches as on a GPU."""
    if request.param == "patches":
        begin = MegabyteDecoder.__init__

        def begin_with_patches(self: MegabyteDecoder, *args: Any) -> None:
            begin(self, *args)
            self.reads_patches = True

        monkeypatch.setattr(MegabyteDecoder, "__init__", begin_with_patches)


def prefixes(rows: int, length: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (rows, length), generator=torch.Generator().manual_seed(seed))


def next_logits(model: ByteModel, seen: Tensor, condition: Tensor | None) -> Tensor:
    """Logits after all of `seen`, by `forward` alone: it says nothing of symbol t unless there is one."""
    with torch.no_grad():
        return model(torch.cat([seen, seen.new_zeros(len(seen), 1)], dim=1), condition)[:, -1]


def naive(
    model: ByteModel,
    prefix: Tensor,
    length: int,
    choose: Callable[[Tensor], Tensor],
    condition: Tensor | None = None,
    window: int = WINDOW,
    patch: int = PATCH,
) -> Tensor:
    """`generate` without caches: a window that is full begins again at the first patch border of its second half."""
    ids, start = prefix, 0
    for _ in range(length):
        if ids.shape[1] - start >= window:
            start += next(cut for cut in range(0, window * 9, patch) if ids.shape[1] - start - cut <= window // 2)
        symbol = choose(next_logits(model, ids[:, start:], condition))
        ended = (ids == END).any(dim=1)
        ids = torch.cat([ids, symbol.masked_fill(ended, END)[:, None]], dim=1)
    return ids


def chooser(sampling: SamplingParams, seed: int, rows: int) -> Callable[[Tensor], Tensor]:
    generators = [torch.Generator().manual_seed(one) for one in row_seeds(seed, rows)]

    def choose(logits: Tensor) -> Tensor:
        uniform = torch.cat([torch.rand(1, generator=g, dtype=torch.float64) for g in generators])
        return inverse_cdf(distribution(logits, sampling), uniform)

    return choose


@pytest.mark.parametrize("start", [0, 1, PATCH - 1, PATCH, PATCH + 1, 13, WINDOW - 1])
def test_greedy_is_the_argmax_of_forward_at_every_step(model: Megabyte, start: int) -> None:
    prefix = prefixes(2, start)
    condition = torch.tensor([2, 1])
    expected = naive(model, prefix, WINDOW - start, lambda logits: logits[:, :END].argmax(1), condition)
    got = generate(model, prefix, WINDOW - start, temperature=0.0, allow_end=False, condition=condition)
    assert got.tolist() == expected.tolist()


@pytest.mark.parametrize("start", [0, 5, WINDOW - 1, WINDOW, WINDOW + 1, 2 * WINDOW, 57])
def test_generation_beyond_the_window_equals_generation_without_caches(model: Megabyte, start: int) -> None:
    prefix, sampling = prefixes(2, start), SamplingParams(0.9, top_k=40)
    expected = naive(model, prefix, 40, chooser(sampling, 3, 2))
    assert generate(model, prefix, 40, temperature=0.9, top_k=40, seed=3).tolist() == expected.tolist()


STACK = StackConfig(dim=16, layers=2, heads=2)
ROTARY = BlockConfig(positions="rotary")


@pytest.mark.parametrize(
    ("config", "patch", "window"),
    [
        (TransformerConfig(WINDOW, STACK), 1, WINDOW),
        (TransformerConfig(WINDOW, STACK, context=6), 6, WINDOW),
        (PerceiverARConfig(WINDOW, STACK, latents=8), 4, WINDOW),
        (MegabyteConfig(PATCH, WINDOW, STACK, STACK, cross_patch=2, conv_encoder=True), PATCH, WINDOW),
        (MegabyteConfig(PATCH, WINDOW, STACK, STACK, block=ROTARY), PATCH, 2 * WINDOW + 1),
        (TransformerConfig(WINDOW, STACK, block=ROTARY), 1, 2 * WINDOW),
        (PerceiverARConfig(WINDOW, STACK, latents=8, block=ROTARY), 4, WINDOW - 9),
    ],
)
def test_every_architecture_generates_beyond_its_window(config: ModelConfig, patch: int, window: int) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = replace(config, init_std=0.5).build().double().eval()  # type: ignore[type-var] # all are dataclasses
    prefix = prefixes(2, 7)
    expected = naive(model, prefix, 50, chooser(SamplingParams(1.0), 1, 2), window=window, patch=patch)
    assert generate(model, prefix, 50, seed=1, window=window).tolist() == expected.tolist()


def test_learned_positions_end_with_the_window_of_training(model: Megabyte) -> None:
    with pytest.raises(ValueError, match="a sequence of 40 symbols; this model takes 1 to 22"):
        generate(model, prefixes(1, 0), 4, window=40)


def test_a_window_holds_at_least_a_patch(model: Megabyte) -> None:
    with pytest.raises(ValueError, match="window is 3; it must hold at least a patch, 4 symbols"):
        generate(model, prefixes(1, 0), 4, window=3)
    expected = naive(model, prefixes(2, 1), 20, chooser(SamplingParams(), 0, 2), window=PATCH)
    assert generate(model, prefixes(2, 1), 20, window=PATCH).tolist() == expected.tolist()


def test_only_the_last_half_window_of_a_long_prefix_matters(model: Megabyte) -> None:
    long = prefixes(1, 60)
    hidden = num_truncated(60, model.decoder(1))
    assert hidden % PATCH == 0
    assert WINDOW // 2 - PATCH < 60 - hidden <= WINDOW // 2
    other = long.clone()
    other[:, :hidden] = 7
    expected = generate(model, long, 12)[:, 60:]
    assert generate(model, other, 12)[:, 60:].tolist() == expected.tolist()
    other[:, hidden] += 1
    assert generate(model, other, 12)[:, 60:].tolist() != expected.tolist()


@pytest.mark.parametrize(("capacity", "patch"), [(1, 1), (2, 1), (4, 8), (8, 8), (10, 8), (22, 4), (4096, 12)])
def test_truncation_drops_whole_patches_and_leaves_room(capacity: int, patch: int) -> None:
    class Fake(Decoder):
        def prefill_rows(self, prefixes: Sequence[Tensor], condition_B: Tensor | None = None) -> Tensor:
            raise NotImplementedError

        def step(self, ids_B: Tensor, new_contexts: Mapping[int, Tensor] | None = None) -> Tensor:
            raise NotImplementedError

    decoder = Fake()
    decoder.capacity, decoder.alignment = capacity, patch
    for length in (0, 1, capacity - 1, capacity, capacity + 1, 3 * capacity + 5):
        left_out = num_truncated(length, decoder)
        assert 0 <= length - left_out < capacity
        assert left_out % patch == 0 or left_out == length
        assert (left_out == 0) == (length < capacity)


def test_a_seed_determines_the_symbols(model: Megabyte) -> None:
    prefix = prefixes(3, 5)
    first = generate(model, prefix, 10, seed=1)
    assert generate(model, prefix, 10, seed=1).tolist() == first.tolist()
    assert generate(model, prefix, 10, seed=2).tolist() != first.tolist()
    assert first[:, :5].tolist() == prefix.tolist()


def test_dropout_is_off_and_each_module_returns_to_its_mode(model: Megabyte) -> None:
    dropping = Megabyte(replace(model.config, dropout=0.5)).double()
    dropping.load_state_dict(model.state_dict())
    dropping.train()
    part = next(dropping.children()).eval()
    expected = generate(model, prefixes(2, 5), 12, seed=1)
    assert generate(dropping, prefixes(2, 5), 12, seed=1).tolist() == expected.tolist()
    assert (dropping.training, part.training) == (True, False)
    with pytest.raises(ValueError, match="temperature"):
        generate(dropping, prefixes(2, 5), 12, temperature=-1.0)
    torch.nn.init.constant_(dropping.local_symbols.weight, float("nan"))
    with pytest.raises(ValueError, match="not finite"):
        generate(dropping, prefixes(2, 5), 12)
    assert dropping.training


def test_generation_neither_reads_nor_changes_the_global_random_state(model: Megabyte) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = generate(model, prefixes(1, 0), 8)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    assert generate(model, prefixes(1, 0), 8).tolist() == first.tolist()


def test_rows_of_one_prefix_differ(model: Megabyte) -> None:
    rows = generate(model, prefixes(1, 4).expand(6, -1), 12)
    assert len({tuple(row) for row in rows.tolist()}) == 6


def test_a_row_does_not_depend_on_its_neighbours(model: Megabyte) -> None:
    prefix, condition = prefixes(4, 6), torch.tensor([0, 1, 2, 1])
    together = generate(model, prefix, 30, seed=4, condition=condition)
    for row in range(4):
        one = slice(row, row + 1)
        columns = list(
            stream_symbols(model, prefix[one], 30, SamplingParams(), row_seeds(4, 1, first=row), condition[one])
        )
        alone = torch.cat([prefix[row], torch.cat(columns)])
        assert alone.tolist() == together[row, : len(alone)].tolist()


def test_the_condition_matters(model: Megabyte) -> None:
    none = generate(model, prefixes(1, 0), 12)
    assert generate(model, prefixes(1, 0), 12, condition=torch.tensor([0])).tolist() == none.tolist()
    assert generate(model, prefixes(1, 0), 12, condition=torch.tensor([2])).tolist() != none.tolist()


@pytest.mark.parametrize("seed", [-5, 2**31, 2**62, 10**30])
def test_any_whole_number_is_a_seed(model: Megabyte, seed: int) -> None:
    assert generate(model, prefixes(1, 0), 3, seed=seed).shape == (1, 3)
    assert len(set(row_seeds(seed, 5))) == 5


def eager_to_end(model: Megabyte) -> Megabyte:
    """A copy that samples END about every third time."""
    eager = copy.deepcopy(model)
    favour_end(eager)
    return eager


def test_end_fills_the_rest_of_its_row(model: Megabyte) -> None:
    eager = eager_to_end(model)
    ids = generate(eager, prefixes(8, 3), 40)
    assert ids.shape == (8, 43)
    ended = (ids == END).cumsum(1) > 0
    assert ended[:, -1].all()
    assert (ids[ended] == END).all()
    assert len(set(ended.sum(1).tolist())) > 1, "rows end at different positions"


def test_a_stream_stops_when_all_rows_have_ended(model: Megabyte) -> None:
    eager = eager_to_end(model)
    columns = torch.stack(list(stream_symbols(eager, prefixes(3, 3), 500, SamplingParams(), row_seeds(0, 3))), dim=1)
    assert columns.shape[1] < 100
    assert (columns[:, -1] == END).all()
    assert not (columns[:, -1 - PATCH] == END).all()


def test_end_is_never_sampled_where_it_is_not_allowed(model: Megabyte) -> None:
    eager = eager_to_end(model)
    assert int(generate(eager, prefixes(3, 0), 50, allow_end=False).max()) < END


def test_a_length_of_0_returns_the_prefix(model: Megabyte) -> None:
    prefix = prefixes(2, 7)
    assert generate(model, prefix, 0).tolist() == prefix.tolist()
    with pytest.raises(ValueError, match="length is -3"):
        generate(model, prefix, -3)


@pytest.mark.parametrize(
    ("prefix", "reason"),
    [
        (
            torch.zeros(5, dtype=torch.long),
            r"prefix is torch.int64 of shape \(5,\); it must be torch.int64 of \(B, t\)",
        ),
        (torch.zeros(1, 5), "prefix is torch.float32"),
        (torch.tensor([[3, END]]), "prefix holds numbers outside 0 to 255"),
        (torch.tensor([[3, -1]]), "prefix holds numbers outside 0 to 255"),
    ],
)
def test_an_invalid_prefix_is_refused(model: Megabyte, prefix: Tensor, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        generate(model, prefix, 3)


def test_no_gradient_is_kept(model: Megabyte) -> None:
    for ids in stream_symbols(model, prefixes(1, 2), 3, SamplingParams(), [0]):
        assert torch.is_grad_enabled(), "outside the generator, gradients are as they were"
        assert not ids.requires_grad


def test_a_diverged_model_is_refused(model: Megabyte) -> None:
    broken = copy.deepcopy(model)
    torch.nn.init.constant_(broken.local_symbols.weight, float("nan"))
    with pytest.raises(ValueError, match="not finite: its training has diverged"):
        generate(broken, prefixes(1, 2), 3)


def test_stream_is_called_with_every_returned_symbol(model: Megabyte) -> None:
    streamed: list[Tensor] = []
    ids = generate(model, prefixes(3, 6), 30, allow_end=False, stream=streamed.append)
    assert torch.stack(streamed, dim=1).tolist() == ids[:, 6:].tolist()


def test_symbols_are_yielded_one_step_at_a_time(model: Megabyte) -> None:
    sampling = SamplingParams(allow_end=False)
    first = [next(stream_symbols(model, prefixes(2, 5), length, sampling, [1, 2])) for length in (1, 10**9)]
    assert first[0].tolist() == first[1].tolist()


@pytest.mark.parametrize("backend", ["auto", "eager"])
@pytest.mark.parametrize("options", [{}, {"temperature": 0.8, "top_k": 40, "top_p": 0.9, "allow_end": False}])
def test_symbols_are_sampled_with_the_probabilities_of_forward(options: dict[str, Any], backend: Backend) -> None:
    """A chi-square test of 4,096 samples."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        stack = StackConfig(dim=16, layers=1, heads=2)
        model = Megabyte(MegabyteConfig(PATCH, WINDOW, stack, stack, init_std=0.3)).eval()
    prefix, rows, sampling = prefixes(1, 7)[0], 4096, SamplingParams(**options)
    decoder = model.decoder(rows, None, None, Execution(backend))
    columns = generate_rows(decoder, [prefix] * rows, [1] * rows, sampling, row_seeds(11, rows))
    counts = torch.cat([ids_tB[ids_tB != NO_SYMBOL] for ids_tB in columns]).bincount(minlength=257)
    expected = distribution(next_logits(model, prefix[None], None).double(), sampling)[0] * rows
    assert int(counts.sum()) == rows
    assert int(counts[expected == 0].sum()) == 0
    rare = expected < 5
    observed = torch.cat([counts[~rare].double(), counts[rare].sum()[None].double()])
    expected = torch.cat([expected[~rare], expected[rare].sum()[None]])
    statistic = float(((observed - expected) ** 2 / expected)[expected > 0].sum())
    freedom = int((expected > 0).sum()) - 1
    assert freedom >= 5
    # The chance of a larger one is below one in a million: the normal approximation of chi-square's tail at 4.9 sigma.
    assert statistic < freedom * (1 - 2 / (9 * freedom) + 4.9 * (2 / (9 * freedom)) ** 0.5) ** 3
