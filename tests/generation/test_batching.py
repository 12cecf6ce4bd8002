"""Many requests at once give what each would give alone."""

import copy

import numpy as np
import pytest
import torch

from megabyte_mm.alphabet import to_bytes
from megabyte_mm.generation import Request, Sampling, continue_all, generate
from megabyte_mm.models import Megabyte, MegabyteConfig, StackConfig
from tests.generation.ends import favour_end


@pytest.fixture(scope="module")
def model() -> Megabyte:
    stack = StackConfig(dim=8, layers=1, heads=1)
    config = MegabyteConfig(patch_size=2, max_len=24, global_stack=stack, local_stack=stack, conditions=2, init_std=0.5)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        # In float64, so that no draw hangs on how a batch's shape rounds.
        return Megabyte(config).double().eval()


def prefix(length: int) -> np.ndarray:
    data = np.random.default_rng(length).integers(0, 256, length, dtype=np.uint8)
    data.flags.writeable = False  # as streams read from a file are
    return data


REQUESTS = [
    Request(prefix(3), 9, count=3),
    Request(prefix(0), 9, count=2, condition=1),
    Request(prefix(3), 9, count=2, condition=1),
    Request(prefix(3), 4),
    Request(prefix(40), 9, count=2),
]


def told(results: list[list[np.ndarray]]) -> list[list[list[int]]]:
    return [[row.tolist() for row in rows] for rows in results]


@pytest.mark.parametrize("batch_size", [1, 2, 3, 4])
def test_the_batch_size_changes_nothing(model: Megabyte, batch_size: int) -> None:
    expected = told(continue_all(model, REQUESTS, Sampling(), seed=3, batch_size=64))
    assert told(continue_all(model, REQUESTS, Sampling(), seed=3, batch_size=batch_size)) == expected


def test_results_keep_the_order_prefix_and_length_of_their_requests(model: Megabyte) -> None:
    results = continue_all(model, REQUESTS, Sampling(allow_end=False))
    assert [len(rows) for rows in results] == [3, 2, 2, 1, 2]
    for request, rows in zip(REQUESTS, results, strict=True):
        for row in rows:
            assert row.dtype == np.uint8
            assert len(row) == len(request.prefix) + request.length
            assert row[: len(request.prefix)].tolist() == request.prefix.tolist()
        assert len({row.tobytes() for row in rows}) == len(rows)


def test_the_first_request_draws_what_generate_draws(model: Megabyte) -> None:
    [rows] = continue_all(model, [REQUESTS[0]], Sampling(0.8), seed=5)
    ids = generate(model, torch.from_numpy(prefix(3).astype(np.int64)).expand(3, -1), 9, temperature=0.8, seed=5)
    assert [row.tolist() for row in rows] == [to_bytes(row).tolist() for row in ids]


def test_the_condition_belongs_to_its_request(model: Megabyte) -> None:
    pair = [Request(prefix(3), 9, condition=0), Request(prefix(3), 9, condition=1)]
    greedy = Sampling(temperature=0.0, allow_end=False)
    [[none]], [[one]] = continue_all(model, pair[:1], greedy), continue_all(model, pair[1:], greedy)
    assert none.tolist() != one.tolist()
    assert told(continue_all(model, pair, greedy)) == [[none.tolist()], [one.tolist()]]


def test_an_ended_row_is_as_long_as_what_came_before_its_end(model: Megabyte) -> None:
    ending = copy.deepcopy(model)
    favour_end(ending)
    [rows] = continue_all(ending, [Request(prefix(3), 60, count=8)], Sampling())
    lengths = {len(row) for row in rows}
    assert min(lengths) >= 3
    assert max(lengths) < 63
    assert len(lengths) > 1


def test_what_fills_an_ended_row_is_not_counted(model: Megabyte) -> None:
    ending = copy.deepcopy(model)
    favour_end(ending)
    counts: list[int] = []
    [rows] = continue_all(ending, [Request(prefix(3), 60, count=8)], Sampling(), on_bytes=counts.append)
    assert sum(counts) == sum(len(row) - 3 for row in rows)


def test_progress_counts_every_byte_that_was_drawn(model: Megabyte) -> None:
    counts: list[int] = []
    continue_all(model, REQUESTS, Sampling(allow_end=False), batch_size=2, on_bytes=counts.append)
    assert sum(counts) == sum(request.length * request.count for request in REQUESTS)
    assert max(counts) == 2


def test_no_requests_give_no_results(model: Megabyte) -> None:
    assert continue_all(model, [], Sampling()) == []
