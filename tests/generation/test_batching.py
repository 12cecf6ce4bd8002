"""Many requests at once give what each would give alone."""

import copy

import numpy as np
import pytest
import torch

from megabyte_mm.alphabet import to_bytes
from megabyte_mm.generation import GenerationInterrupted, GenerationRequest, SamplingParams, generate, generate_batch
from megabyte_mm.models import Execution, Megabyte, MegabyteConfig, StackConfig
from tests.generation.ends import favour_end


@pytest.fixture(scope="module")
def model() -> Megabyte:
    stack = StackConfig(dim=8, layers=1, heads=1)
    config = MegabyteConfig(patch_size=2, max_len=24, global_stack=stack, local_stack=stack, conditions=2, init_std=0.5)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        # In float64, so that no sample depends on how a batch's shape rounds.
        return Megabyte(config).double().eval()


def prefix(length: int) -> np.ndarray:
    data = np.random.default_rng(length).integers(0, 256, length, dtype=np.uint8)
    data.flags.writeable = False  # as streams read from a file are
    return data


REQUESTS = [
    GenerationRequest(prefix(3), 9, count=3),
    GenerationRequest(prefix(0), 9, count=2, condition=1),
    GenerationRequest(prefix(3), 9, count=2, condition=1),
    GenerationRequest(prefix(3), 4),
    GenerationRequest(prefix(40), 9, count=2),
]


def as_lists(results: list[list[np.ndarray]]) -> list[list[list[int]]]:
    return [[row.tolist() for row in rows] for rows in results]


@pytest.mark.parametrize("batch_size", [1, 2, 3, 4])
def test_the_batch_size_changes_nothing(model: Megabyte, batch_size: int) -> None:
    expected = as_lists(generate_batch(model, REQUESTS, SamplingParams(), seed=3, batch_size=64))
    assert as_lists(generate_batch(model, REQUESTS, SamplingParams(), seed=3, batch_size=batch_size)) == expected


WIDE = StackConfig(dim=64, layers=2, heads=2)


@pytest.fixture(scope="module")
def single() -> Megabyte:
    """In float32, where sums in another order would differ, and over a window that long rows leave."""
    config = MegabyteConfig(8, 64, WIDE, WIDE, conv_encoder=True, cross_patch=2, conditions=2, init_std=0.2)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Megabyte(config).eval()


@pytest.mark.parametrize(
    ("sampling", "execution"),
    [
        (SamplingParams(), Execution()),
        (SamplingParams(0.0, allow_end=False), Execution("eager")),
        (SamplingParams(0.7, top_k=20, top_p=0.9), Execution(precision="int8")),
    ],
)
def test_a_row_has_the_same_bytes_alone_and_in_any_batch(
    single: Megabyte, sampling: SamplingParams, execution: Execution
) -> None:
    requests = [
        GenerationRequest(prefix(length), generated, count, condition)
        for length, generated, count, condition in (
            (3, 80, 1, 0),
            (0, 17, 2, 1),
            (21, 60, 1, 1),
            (90, 40, 2, 0),
            (8, 5, 1, 1),
        )
    ]
    together = as_lists(generate_batch(single, requests, sampling, seed=3, execution=execution))
    for batch_size in (1, 3):
        separate = generate_batch(single, requests, sampling, seed=3, batch_size=batch_size, execution=execution)
        assert as_lists(separate) == together
    for request, rows in zip(requests, together, strict=True):
        for row in rows:
            assert row[: len(request.prefix)] == request.prefix.tolist()
            if not sampling.allow_end:
                assert len(row) == len(request.prefix) + request.length


def test_a_row_of_length_0_may_stand_beside_others(model: Megabyte) -> None:
    requests = [GenerationRequest(prefix(3), 0), GenerationRequest(prefix(5), 40), GenerationRequest(prefix(0), 0)]
    [[none], [generated], [empty]] = generate_batch(model, requests, SamplingParams(allow_end=False))
    assert none.tolist() == prefix(3).tolist()
    assert len(generated) == 45
    assert empty.tolist() == []
    assert as_lists(generate_batch(model, requests[:1], SamplingParams())) == [[none.tolist()]]


def test_rows_end_and_restart_their_context_in_a_window_of_one_patch(single: Megabyte) -> None:
    requests = [GenerationRequest(prefix(1), 2), GenerationRequest(prefix(1), 20), GenerationRequest(prefix(7), 30)]
    together = as_lists(generate_batch(single, requests, SamplingParams(allow_end=False), window=8))
    alone = as_lists(generate_batch(single, requests, SamplingParams(allow_end=False), window=8, batch_size=1))
    assert together == alone


def test_a_prefix_is_continued_alike_whatever_else_is_asked_for(model: Megabyte) -> None:
    together = as_lists(generate_batch(model, REQUESTS, SamplingParams(), seed=3))
    assert as_lists(generate_batch(model, REQUESTS[::-1], SamplingParams(), seed=3)) == together[::-1]
    for request, rows in zip(REQUESTS, together, strict=True):
        assert as_lists(generate_batch(model, [request], SamplingParams(), seed=3)) == [rows]


def test_on_first_row_is_called_with_each_new_byte(model: Megabyte) -> None:
    pieces: list[np.ndarray] = []
    results = generate_batch(model, REQUESTS, SamplingParams(allow_end=False), batch_size=3, on_first_row=pieces.append)
    assert np.concatenate(pieces).tolist() == results[0][0][3:].tolist()
    assert max(map(len, pieces)) == 1


@pytest.mark.parametrize("batch_size", [2, 64])
def test_ctrl_c_keeps_the_bytes_so_far(model: Megabyte, batch_size: int) -> None:
    whole = as_lists(generate_batch(model, REQUESTS, SamplingParams(allow_end=False), batch_size=batch_size))
    counts: list[int] = []

    def interrupt(count: int) -> None:
        counts.append(count)
        if len(counts) == 6:
            raise KeyboardInterrupt

    with pytest.raises(GenerationInterrupted) as caught:
        generate_batch(model, REQUESTS, SamplingParams(allow_end=False), batch_size=batch_size, on_bytes=interrupt)
    kept = as_lists(caught.value.results)
    generated = sum(len(row) - len(r.prefix) for r, rows in zip(REQUESTS, kept, strict=True) for row in rows)
    assert generated == sum(counts)
    for rows, expected in zip(kept, whole, strict=True):
        assert all(row == longer[: len(row)] for row, longer in zip(rows, expected, strict=True))


def test_results_keep_the_order_prefix_and_length_of_their_requests(model: Megabyte) -> None:
    results = generate_batch(model, REQUESTS, SamplingParams(allow_end=False))
    assert [len(rows) for rows in results] == [3, 2, 2, 1, 2]
    for request, rows in zip(REQUESTS, results, strict=True):
        for row in rows:
            assert row.dtype == np.uint8
            assert len(row) == len(request.prefix) + request.length
            assert row[: len(request.prefix)].tolist() == request.prefix.tolist()
        assert len({row.tobytes() for row in rows}) == len(rows)


def test_a_single_request_equals_generate(model: Megabyte) -> None:
    [rows] = generate_batch(model, [REQUESTS[0]], SamplingParams(0.8), seed=5)
    ids = generate(model, torch.from_numpy(prefix(3).astype(np.int64)).expand(3, -1), 9, temperature=0.8, seed=5)
    assert [row.tolist() for row in rows] == [to_bytes(row).tolist() for row in ids]


def test_the_condition_belongs_to_its_request(model: Megabyte) -> None:
    pair = [GenerationRequest(prefix(3), 9, condition=0), GenerationRequest(prefix(3), 9, condition=1)]
    greedy = SamplingParams(temperature=0.0, allow_end=False)
    [[none]], [[one]] = generate_batch(model, pair[:1], greedy), generate_batch(model, pair[1:], greedy)
    assert none.tolist() != one.tolist()
    assert as_lists(generate_batch(model, pair, greedy)) == [[none.tolist()], [one.tolist()]]


def test_an_ended_row_holds_the_bytes_before_its_end(model: Megabyte) -> None:
    ending = copy.deepcopy(model)
    favour_end(ending)
    [rows] = generate_batch(ending, [GenerationRequest(prefix(3), 60, count=8)], SamplingParams())
    lengths = {len(row) for row in rows}
    assert min(lengths) >= 3
    assert max(lengths) < 63
    assert len(lengths) > 1


def test_only_bytes_before_the_end_are_counted(model: Megabyte) -> None:
    ending = copy.deepcopy(model)
    favour_end(ending)
    counts: list[int] = []
    [rows] = generate_batch(
        ending, [GenerationRequest(prefix(3), 60, count=8)], SamplingParams(), on_bytes=counts.append
    )
    assert sum(counts) == sum(len(row) - 3 for row in rows)


def test_progress_counts_every_generated_byte(model: Megabyte) -> None:
    counts: list[int] = []
    generate_batch(model, REQUESTS, SamplingParams(allow_end=False), batch_size=2, on_bytes=counts.append)
    assert sum(counts) == sum(request.length * request.count for request in REQUESTS)
    assert max(counts) == 2


def test_no_requests_give_no_results(model: Megabyte) -> None:
    assert generate_batch(model, [], SamplingParams()) == []
