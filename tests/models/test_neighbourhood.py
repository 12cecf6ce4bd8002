"""Neighbourhood features: which symbols they are looked up by, and that these lie before the position."""

from __future__ import annotations

from dataclasses import asdict, replace
from itertools import product

import numpy as np
import pytest
import torch

from data_adapters import AudioAdapter, ImageAdapter, Neighbourhood
from data_adapters.audio.encoding import encode
from data_adapters.audio.neighbourhood import POLYNOMIALS
from megabyte_mm.data.geometry import Geometry
from megabyte_mm.errors import FieldError
from megabyte_mm.models import MegabyteConfig, StackConfig, TransformerConfig
from megabyte_mm.models.config import from_plain
from megabyte_mm.models.neighbourhood import (
    UNKNOWN,
    Layout,
    NeighbourhoodConfig,
    NeighbourhoodEmbedder,
    Predictor,
    former_layouts,
)
from tests.models.layouts import EACH, LAST_BYTES, PIXELS, SAMPLES

HEIGHT, WIDTH = 8, 12
FIRST = torch.zeros(1, dtype=torch.long)


def embedder(layout: Layout, **options: float) -> NeighbourhoodEmbedder:
    torch.manual_seed(0)
    return NeighbourhoodEmbedder(NeighbourhoodConfig(layouts=(layout,), **options), width=4)  # type: ignore[arg-type]


def layout_of(neighbourhood: Neighbourhood) -> Layout:
    return from_plain(Layout, asdict(neighbourhood))


def columns(layout: Layout, data: np.ndarray) -> np.ndarray:
    """(T, J + F): the neighbours and guesses of each byte of a stream."""
    ids = torch.from_numpy(data.astype(np.int64))[None]
    found = embedder(layout)
    values, _ = found.indices(ids, torch.arange(len(data))[None], FIRST)
    return values[0].numpy() - np.arange(values.shape[-1]) * (UNKNOWN + 1)


@pytest.mark.parametrize(("scan", "patch", "mode"), [("patch", 4, "RGB"), ("patch", 2, "L"), ("raster", 4, "RGB")])
def test_neighbours_of_pixels_are_where_the_scan_puts_them(scan: str, patch: int, mode: str) -> None:
    adapter = ImageAdapter(mode=mode, size=(WIDTH, HEIGHT), scan=scan, patch=patch)  # type: ignore[arg-type]
    layout, channels = layout_of(adapter.neighbourhood), adapter.unit
    grid = np.arange(HEIGHT * WIDTH * channels).reshape(HEIGHT, WIDTH, channels)
    order = adapter.scan_pixels(grid)  # type: ignore[arg-type] # numbers of any type
    position = np.empty_like(grid)
    position.reshape(-1)[order] = np.arange(grid.size)
    data = np.random.default_rng(0).integers(0, 256, grid.size)
    found = columns(layout, data)
    for (y, x, c), t in np.ndenumerate(position):
        for j, (rows, points, step) in enumerate(layout.neighbours):
            to_y, to_x, to_c = y + rows, x + points, c + step
            to_c = to_c % channels if rows or points else to_c
            inside = 0 <= to_y < HEIGHT and 0 <= to_x < WIDTH and 0 <= to_c < channels
            source = position[to_y, to_x, to_c] if inside else t
            assert found[t, j] == (data[source] if source < t else UNKNOWN)


def many(neighbours: int, predictors: int, width: int = 0) -> Layout:
    return Layout(width=width, neighbours=((0, -1, 0),) * neighbours, predictors=(Predictor((1,)),) * predictors)


@pytest.mark.parametrize(
    ("layouts", "message"),
    [
        ((many(200, 0), many(1, 200)), "layouts have 200 neighbours and 200 predictors in all, more than 256"),
        ((many(16, 0, 2**22 - 1),) * 2, "layouts have .* offsets in all"),
        ((), "layouts are empty"),
    ],
)
def test_layouts_that_are_too_large_together_are_refused(layouts: tuple[Layout, ...], message: str) -> None:
    with pytest.raises(FieldError, match=message):
        NeighbourhoodConfig(layouts=layouts)


def test_there_is_one_layout_or_one_for_each_condition() -> None:
    two = NeighbourhoodConfig(layouts=(LAST_BYTES, SAMPLES))
    stack = StackConfig(8, 1, 1)
    for conditions in (1, 3):
        message = f"neighbourhood.layouts are 2, and there are {conditions}"
        with pytest.raises(FieldError, match=message):
            MegabyteConfig(4, 16, stack, stack, neighbourhood=two, conditions=conditions).build()
        with pytest.raises(FieldError, match=message):
            TransformerConfig(max_len=16, stack=stack, neighbourhood=two, conditions=conditions).build()


@pytest.mark.parametrize("transform", ["none", "subtract_green"])
def test_pixels_of_a_plane_are_guessed_by_its_gradient(transform: str) -> None:
    y, x, c = np.meshgrid(np.arange(HEIGHT), np.arange(WIDTH), np.arange(3), indexing="ij")
    adapter = ImageAdapter(size=(WIDTH, HEIGHT), transform=transform)  # type: ignore[arg-type]
    data = adapter.pixel_bytes((3 * x + 5 * y + 20 * c + 60).astype(np.uint8))
    layout = layout_of(adapter.neighbourhood)
    guesses = columns(layout, data)[:, len(layout.neighbours)]
    known = guesses != UNKNOWN
    assert known.mean() > 0.75
    assert (guesses[known] == data[known]).all()


@pytest.mark.parametrize(("encoding", "channels"), [*product(("pcm16", "pcm16be"), (1, 2))])
def test_samples_on_a_line_are_guessed_whole(encoding: str, channels: int) -> None:
    samples = np.stack([np.arange(-900, 900, 37), np.arange(1200, -1200, -49)[:49]], axis=1)[:, :channels]
    data = encode(samples.astype(np.int16), encoding)  # type: ignore[arg-type]
    layout = layout_of(AudioAdapter(8000, channels, encoding).neighbourhood)  # type: ignore[arg-type]
    guesses = columns(layout, data)[:, len(layout.neighbours) :]
    for predictor, guess in zip(layout.predictors, guesses.T, strict=True):
        assert predictor.byte is not None
        begin = 8 * channels + predictor.byte  # behind the samples that the longest looks back to
        if predictor.weights[1] and predictor.divisor in (1, 256):  # a line needs two samples
            assert (guess[begin::2] == data[begin::2]).all()


@pytest.mark.parametrize("number", range(len(POLYNOMIALS)))
@pytest.mark.parametrize(("encoding", "channels"), [*product(("pcm16", "pcm16be"), (1, 2))])
def test_samples_of_a_polynomial_are_guessed_whole(encoding: str, channels: int, number: int) -> None:
    """Of any signs: loud samples on both sides of zero, and behind each four the one that the polynomial makes."""
    weights, divisor = POLYNOMIALS[number]
    samples = np.random.default_rng(0).integers(-(2**15), 2**15, (5 * 200, channels))
    samples[4::5] = sum(weight * samples[3 - k :: 5] for k, weight in enumerate(weights)) // divisor
    data = encode(samples.astype(np.int16), encoding)  # type: ignore[arg-type]
    layout = layout_of(AudioAdapter(8000, channels, encoding).neighbourhood)  # type: ignore[arg-type]
    guesses = columns(layout, data)[:, len(layout.neighbours) + 2 * number :][:, :2]
    made = (np.arange(len(data)) // (2 * channels)) % 5 == 4
    for byte in (0, 1):
        chosen = made & (np.arange(len(data)) % 2 == byte)
        assert (guesses[chosen, byte] == data[chosen]).all()


def test_guesses_and_hashes_are_those_of_the_rule() -> None:
    data = np.random.default_rng(1).integers(0, 257, 48)
    for layout in (PIXELS, SAMPLES):
        found, neighbours = columns(layout, data), len(layout.neighbours)
        for t, row in enumerate(found):
            for f, rule in enumerate(layout.predictors):
                used = [(weight, row[j]) for j, weight in enumerate(rule.weights) if weight]
                if any(value > 255 for _, value in used) or rule.byte not in (None, t % layout.unit):
                    assert row[neighbours + f] == UNKNOWN
                    continue
                read = [(value + 128) % 256 - 128 if j in rule.signed else value for j, value in enumerate(row)]
                total = sum(int(weight) * int(value) for weight, value in zip(rule.weights, read, strict=False))
                if rule.wrap:
                    total = (total + rule.wrap // 2) % rule.wrap - rule.wrap // 2
                guess = (total + rule.bias) // rule.divisor
                assert row[neighbours + f] == (guess % 256 if rule.modulo else min(max(guess, 0), 255))


def test_a_group_is_looked_up_by_its_members_without_their_low_bits() -> None:
    found = embedder(LAST_BYTES, rows=2**20)
    ids = torch.tensor([[8, 40, 200, 0], [9, 40, 200, 0], [11, 43, 203, 0], [8, 40, 203, 0], [8, 44, 200, 0]])
    _, rows = found.indices(ids, torch.full((5, 1), 3), FIRST)
    pairs, triples = rows[:, 0].unbind(-1)
    assert pairs.tolist()[0] == pairs.tolist()[1]  # the third symbol back is no member
    assert len(set(pairs.tolist())) == 4
    assert len(set(triples.tolist()[:4])) == 1
    assert triples.tolist()[4] != triples.tolist()[0]


@pytest.mark.parametrize("layout", [LAST_BYTES, PIXELS, SAMPLES])
def test_features_depend_on_symbols_before_the_position_only(layout: Layout) -> None:
    found = embedder(layout)
    ids = torch.randint(0, 257, (1, 40))
    full = found(ids, FIRST, 0, 40)
    for t in (0, 1, 7, 23, 39):
        changed = ids.clone()
        changed[:, t:] = (changed[:, t:] + 1) % 257
        assert torch.equal(found(changed, FIRST, 0, 40)[:, : t + 1], full[:, : t + 1])
        assert torch.equal(found(ids[:, :t], FIRST, t, t + 1)[:, 0], full[:, t])


def test_each_row_has_the_layout_of_its_condition() -> None:
    each, ids = NeighbourhoodEmbedder(EACH, width=4).eval(), torch.randint(0, 256, (3, 24))
    alone = [each(ids[i : i + 1], torch.tensor([i]), 0, 24) for i in range(3)]
    torch.testing.assert_close(each(ids, torch.arange(3), 0, 24), torch.cat(alone))
    values, _ = each.indices(ids, torch.arange(24)[None], torch.arange(3))
    for i, layout in enumerate((LAST_BYTES, PIXELS, SAMPLES)):
        own, _ = embedder(layout).indices(ids[i : i + 1], torch.arange(24)[None], FIRST)
        found = (values[i] % (UNKNOWN + 1))[:, : len(layout.neighbours)]
        assert torch.equal(found, (own[0] % (UNKNOWN + 1))[:, : len(layout.neighbours)])


def test_former_layouts_take_the_place_of_those_with_signed_neighbours() -> None:
    former = former_layouts((SAMPLES,))
    replaced, ids = embedder(SAMPLES), torch.randint(0, 256, (1, 40))
    position = torch.arange(40)[None]
    before, _ = replaced.indices(ids, position, FIRST)
    replaced.use_layouts(former)
    after, _ = replaced.indices(ids, position, FIRST)
    assert torch.equal(after, embedder(former[0]).indices(ids, position, FIRST)[0])
    assert not torch.equal(after, before)
    assert replaced.config.layouts == former


def test_dropout_leaves_out_groups_at_some_positions_of_training() -> None:
    found = embedder(LAST_BYTES, dropout=0.5)
    ids = torch.randint(0, 256, (1, 400))
    trained, evaluated = found(ids, FIRST, 0, 400), found.eval()(ids, FIRST, 0, 400)
    same = (trained == evaluated).all(-1)
    assert 0.4 < same.float().mean() < 0.6
    assert found.groups is not None
    torch.nn.init.zeros_(found.groups.weight)
    torch.testing.assert_close(trained[~same], found(ids, FIRST, 0, 400)[~same])


@pytest.mark.parametrize(("max_group", "groups"), [(None, 2), (3, 2), (2, 1), (1, 0)])
def test_larger_groups_are_left_out(max_group: int | None, groups: int) -> None:
    config = NeighbourhoodConfig(rows=16, max_group=max_group, layouts=(LAST_BYTES,))
    found = NeighbourhoodEmbedder(config, width=4)
    assert found.num_groups == groups
    assert sum(table.numel() for table in found.parameters()) == (3 * (UNKNOWN + 1) + groups * 16) * 4
    assert found.config.layouts == (LAST_BYTES,)  # of the data, as a resumed run finds them again
    with pytest.raises(FieldError, match="max_group is 0; it must be at least 1"):
        NeighbourhoodConfig(max_group=0)


def test_layouts_come_from_the_data() -> None:
    net = TransformerConfig(stack=StackConfig(8, 1, 1), neighbourhood=NeighbourhoodConfig())
    with pytest.raises(ValueError, match="needs layouts, which come from the data"):
        replace(net, max_len=8).build()
    adapters = {"picture": ImageAdapter(size=(8, 8)), "sound": AudioAdapter(8000, 1), "other": None}
    resolved = Geometry.of(adapters, 192, [3, 2, 1]).resolve(net)
    assert resolved.neighbourhood is not None
    assert resolved.neighbourhood.layouts is not None
    assert [layout.unit for layout in resolved.neighbourhood.layouts] == [1, 3, 2, 1]
    with pytest.raises(FieldError, match="neighbourhood.layouts are not those of the data: leave them out"):
        Geometry.of({"": ImageAdapter(size=(8, 8))}).resolve(replace(resolved, max_len=None, conditions=None))


def test_features_need_a_local_model() -> None:
    with pytest.raises(FieldError, match="there is no local_stack to use it"):
        MegabyteConfig(local_stack=None, neighbourhood=NeighbourhoodConfig())


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("layout", {"unit": 2**40}),
        ("unit", {"unit": 0}),
        ("width", {"width": -4}),
        ("tile", {"tile": 0}),
        ("width", {"width": 10, "tile": 4}),
        ("layout", {"neighbours": [[0, -1, 0]] * 300}),
        ("layout", {"width": 2**20, "neighbours": [[0, -1, 0]] * 100}),
        ("neighbours[1]", {"neighbours": [[0, -1, 0], [0, -(2**63), 0]]}),
        ("predictors[0].weights", {"predictors": [{"weights": [1]}]}),
        ("predictors[0].divisor", {"neighbours": [[0, -1, 0]], "predictors": [{"weights": [1], "divisor": 0}]}),
        ("predictors[0].wrap", {"neighbours": [[0, -1, 0]], "predictors": [{"weights": [1], "wrap": -1}]}),
        ("predictors[0].weights[0]", {"neighbours": [[0, -1, 0]], "predictors": [{"weights": [2**40]}]}),
        ("predictors[0].bias", {"neighbours": [[0, -1, 0]], "predictors": [{"weights": [1], "bias": -(2**64)}]}),
        ("predictors[0].byte", {"neighbours": [[0, -1, 0]], "predictors": [{"weights": [1], "byte": -1}]}),
        ("predictors[0].byte", {"neighbours": [[0, -1, 0]], "predictors": [{"weights": [1], "byte": 1}]}),
        ("predictors[0].signed", {"neighbours": [[0, -1, 0]], "predictors": [{"weights": [1], "signed": [1]}]}),
        ("predictors[0].signed", {"neighbours": [[0, -1, 0]], "predictors": [{"weights": [1], "signed": [-1]}]}),
        ("predictors[0].signed", {"neighbours": [[0, -1, 0]], "predictors": [{"weights": [1], "signed": [0, 0]}]}),
        ("groups[0].members", {"groups": [{"members": [0]}]}),
        ("groups[0].members", {"groups": [{"members": []}]}),
        ("groups[0].shift", {"neighbours": [[0, -1, 0]], "groups": [{"members": [0], "shift": 70}]}),
        ("neighbours[0]", {"neighbours": [[0, -1]]}),
        ("neighbours[0][1]", {"neighbours": [[0, "x", 0]]}),
        ("neighbours", {"neighbours": 3}),
    ],
)
def test_a_wrong_layout_is_refused_by_its_field(field: str, values: dict[str, object]) -> None:
    with pytest.raises(FieldError) as caught:
        from_plain(NeighbourhoodConfig, {"layouts": [values]})
    assert caught.value.field.endswith(field)
