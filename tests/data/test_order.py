import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from megabyte_mm.data.order import SequentialOrder, SourceOrder, TrainingOrder, apportion, shuffled, source_seed
from megabyte_mm.data.storage.shards import OPEN_SHARDS

MANY = np.array([5, 1, 40, 7, 12, 3, 3, 30, 2, 9, 11, 8, 1, 1, 25, 6, 4, 10, 2])
assert len(MANY) > 2 * OPEN_SHARDS
SHARD_OF = np.repeat(np.arange(len(MANY)), MANY)


def whole_pass(passes: SourceOrder, number: int) -> np.ndarray:
    return passes.at(number * passes.count + np.arange(passes.count))[1]


def test_a_few_shards_are_shuffled_as_one():
    assert whole_pass(SourceOrder(np.array([3, 4, 5]), seed=7), 2).tolist() == shuffled(12, 7, 2).tolist()
    assert whole_pass(SourceOrder(np.array([12]), seed=7), 2).tolist() == shuffled(12, 7, 2).tolist()


def test_a_pass_over_many_shards_has_every_window_once_and_another_order_each_time():
    passes = SourceOrder(MANY, seed=1)
    orders = [whole_pass(passes, number).tolist() for number in range(3)]
    assert all(sorted(order) == list(range(int(MANY.sum()))) for order in orders)
    assert orders[0] != orders[1] != orders[2]


def test_many_shards_are_read_in_groups_which_change_from_pass_to_pass():
    passes = SourceOrder(MANY, seed=1)
    groups = []
    for number in range(2):
        items = whole_pass(passes, number)
        shards = SHARD_OF[items]
        met = list(dict.fromkeys(shards.tolist()))
        firsts = [met[i : i + OPEN_SHARDS] for i in range(0, len(met), OPEN_SHARDS)]
        start = 0
        for group in firsts:
            windows = sum(MANY[shard] for shard in group)
            assert set(shards[start : start + windows].tolist()) == set(group)
            here = passes.group_of(number, int(items[start]))
            assert here == firsts.index(group)
            if group is not firsts[-1]:
                assert set(passes.group_after(number, here).tolist()) == set(firsts[here + 1])
            start += windows
        groups.append([set(group) for group in firsts])
    assert set(passes.group_after(0, len(groups[0]) - 1).tolist()) == groups[1][0]
    assert groups[0] != groups[1]
    assert len(set(np.diff(shards[:50]))) > 3  # inside a group, windows of its shards come mixed


@given(st.lists(st.integers(0, 3 * int(MANY.sum()) - 1), max_size=20))
def test_a_place_means_the_same_whatever_is_asked_with_it(places):
    everything = SourceOrder(MANY, seed=3)
    passes, items = everything.at(np.arange(3 * everything.count))
    chosen = np.array(places, dtype=np.int64)
    some = SourceOrder(MANY, seed=3).at(chosen)
    assert some[0].tolist() == passes[chosen].tolist()
    assert some[1].tolist() == items[chosen].tolist()


def mix(counts=(30, 50, 20), weights=(1.0, 1.0, 2.0), multiple=4, seed=0):
    return TrainingOrder(
        [SourceOrder(np.array([count]), source_seed(seed, str(count))) for count in counts], weights, multiple, seed
    )


def epochs(order, count):
    return [order.at(epoch, np.arange(len(order))) for epoch in range(count)]


def test_a_mix_holds_the_weights_in_every_epoch_and_shuffles_the_sources():
    order = mix()
    assert len(order) == 100
    for request in epochs(order, 3):
        assert np.bincount(request.sources).tolist() == [25, 25, 50]
    first, second, _ = epochs(order, 3)
    assert first.sources.tolist() != second.sources.tolist() != sorted(second.sources.tolist())


def test_each_source_of_a_mix_gives_all_its_windows_before_any_comes_again():
    order = mix()
    for source, count in enumerate((30, 50, 20)):
        seen = np.concatenate([np.stack([r.epochs, r.items], axis=1)[r.sources == source] for r in epochs(order, 6)])
        for start in range(0, len(seen) - count, count):
            assert sorted(seen[start : start + count, 1].tolist()) == list(range(count))
            assert set(seen[start : start + count, 0].tolist()) == {start // count}


def test_a_mix_is_a_pure_function_of_seed_and_epoch():
    one, other = mix(), mix()
    places = np.array([99, 0, 41])
    _ = one.at(5, places)
    for ours, theirs in zip(one.at(2, places), other.at(2, np.arange(100)), strict=True):
        assert ours.tolist() == theirs[places].tolist()
    assert mix(seed=1).at(2, places).items.tolist() != one.at(2, places).items.tolist()


def test_an_epoch_of_a_mix_is_whole_steps():
    assert len(mix(multiple=16)) == 96
    assert len(mix(counts=(3, 2, 1), multiple=16)) == 16


def test_a_source_that_would_never_come_is_refused():
    with pytest.raises(ValueError, match=r"weights 1\.0, 1\.0, 0\.0001 one source gets no window"):
        mix(weights=(1.0, 1.0, 1e-4))


@given(st.integers(1, 10**6), st.lists(st.floats(0.01, 100), min_size=1, max_size=6))
def test_shares_sum_up_and_are_within_one_of_exact(total, weights):
    shares = apportion(total, weights)
    assert shares.sum() == total
    assert np.abs(shares - total * np.array(weights) / sum(weights)).max() < 1


def test_validation_reads_source_by_source():
    request = SequentialOrder([2, 0, 3]).at(4, np.arange(5))
    assert request.sources.tolist() == [0, 0, 2, 2, 2]
    assert request.items.tolist() == [0, 1, 0, 1, 2]
