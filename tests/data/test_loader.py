import multiprocessing
import os
import signal
import weakref

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from data_adapters.file import FileAdapter
from megabyte_mm.alphabet import END, fill_window, scored
from megabyte_mm.data.dataset import WindowDataset, Windows
from megabyte_mm.data.files import find_files
from megabyte_mm.data.loader import ResumableLoader, WindowSampler, _end_workers
from megabyte_mm.data.order import SequentialOrder, SourceOrder, TrainingOrder, WindowRequest
from megabyte_mm.data.records import split_records
from megabyte_mm.data.storage.encoded_cache import load_or_encode

LENGTHS = [5, 8, 16, 33, 1, 40, 24, 7, 12, 64]


@pytest.fixture
def records(tree):
    root = tree({f"train/{i}.bin": length for i, length in enumerate(LENGTHS)} | {"val/x.bin": 20})
    adapter = FileAdapter()
    return split_records(load_or_encode(find_files(str(root), adapter)), adapter, 8).train


def loader(records, *, training=True, batch_size=3, workers=0, seed=0, fingerprint="f", rank=0, world_size=1):
    windows = Windows(records, 8, 1, jitter=seed if training else None)
    order = shuffled(len(windows), seed) if training else SequentialOrder([len(windows)])
    sampler = WindowSampler(order, batch_size, training, rank, world_size)
    fixed = {"data.seed": seed, "data fingerprint": fingerprint}
    return ResumableLoader(WindowDataset([windows]), sampler, fixed, num_workers=workers)


def shuffled(items, seed=0):
    return TrainingOrder([SourceOrder(np.array([items]), seed)], [1.0], 1, seed)


def every(windows, epoch=0):
    items = np.arange(len(windows))
    return WindowDataset([windows])[WindowRequest(np.zeros_like(items), np.full_like(items, epoch), items)]


def ids(batches):
    return [batch.ids.tolist() for batch in batches]


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="Windows has no signals for groups of processes")
def test_loading_processes_outlive_signals_to_the_group_and_end_with_the_loader(records):
    loading = loader(records, workers=1)
    batches = iter(loading)
    first = next(batches)
    [process] = multiprocessing.active_children()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        assert process.pid is not None
        os.kill(process.pid, number)
    assert ids([first, *batches]) == ids(loader(records))
    _end_workers(weakref.ref(loading))
    assert not multiprocessing.active_children()


def test_validation_scores_every_byte_once_and_ends_only_short_windows(records):
    batches = list(loader(records, training=False))
    rows = torch.cat([batch.ids for batch in batches])
    assert batches[0].ids.dtype == batches[0].condition.dtype == torch.int64
    assert rows.shape == (sum(-(-n // 8) for n in LENGTHS), 8)
    row = 0
    for record, length in enumerate(LENGTHS):
        count = -(-length // 8)
        symbols = rows[row : row + count].flatten().tolist()
        assert symbols[:length] == records.read(record).tolist()
        assert symbols[length:] == [END] * (count * 8 - length)
        row += count


def test_sliding_windows_hold_every_byte_once_beyond_what_was_seen(records):
    windows = Windows(records, 8, 1, sliding=True)
    batch = every(windows)
    symbols = batch.ids[batch.scored]
    assert symbols[symbols != END].tolist() == [byte for i in range(len(LENGTHS)) for byte in records.read(i).tolist()]
    assert len(symbols) == sum(LENGTHS) + sum(length % 8 != 0 for length in LENGTHS)
    assert len(windows) > len(Windows(records, 8, 1))
    assert set(batch.scored.int().argmax(dim=1).tolist()) == {0, 4}


def test_bytes_and_the_first_end_are_scored_in_training_and_edge_to_edge(records):
    for training in (True, False):
        for batch in loader(records, training=training):
            assert torch.equal(batch.scored, scored(batch.ids))


def test_a_row_is_what_fill_window_makes(records):
    windows = Windows(records, 8, 1, jitter=3)
    where = windows.grid.jitter(np.arange(len(windows)), 3, 5)
    rows = [fill_window(records.read(int(r), int(s), int(s) + 8), 8) for r, s in zip(*where, strict=True)]
    assert every(windows, epoch=5).ids.tolist() == np.stack(rows).tolist()


def test_a_limit_spreads_windows_evenly(records):
    everything, few = Windows(records, 8, 1), Windows(records, 8, 1, limit=5)
    assert len(few) == 5
    assert len(everything) == len(Windows(records, 8, 1, limit=10**6)) == 29
    assert every(few).ids.tolist() == every(everything).ids[[0, 5, 11, 17, 23]].tolist()


def test_epochs_differ_and_repeat_exactly(records):
    passes = loader(records)
    first, second = ids(passes), ids(passes)
    assert first != second
    again = loader(records)
    again.sampler.set_epoch(1)
    assert ids(again) == second
    assert ids(loader(records, seed=1)) != first


def test_looking_at_one_batch_does_not_use_it_up(records):
    batches = loader(records)
    peek = next(iter(batches)).ids.tolist()
    assert ids(batches)[0] == peek


@pytest.mark.parametrize("workers", [0, 2])
def test_a_pass_resumes_after_exactly_the_batches_given(records, workers):
    whole = loader(records)
    expected = ids(whole) + ids(whole) + ids(whole)
    length = len(whole)
    for stop in (1, length - 1, length, length + 2):
        first = loader(records, workers=workers)
        taken = 0
        while taken < stop:
            for batch in first:
                assert batch.ids.tolist() == expected[taken]
                taken += 1
                if taken == stop:
                    break
        state = first.state_dict()
        rest = loader(records, workers=workers)
        rest.load_state_dict(state)
        assert rest.state_dict() == state
        while taken < 3 * length:
            for batch in rest:
                assert batch.ids.tolist() == expected[taken]
                taken += 1


def test_the_state_is_plain(records):
    assert loader(records).state_dict() == {
        "epoch": 0,
        "batches": 0,
        "windows": 29,
        "data.seed": 0,
        "data.batch_size": 3,
        "devices": 1,
        "data fingerprint": "f",
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 7}, "data.seed was 0 and is 7"),
        ({"batch_size": 4}, "data.batch_size was 3 and is 4"),
        ({"world_size": 2}, "devices was 1 and is 2"),
        ({"fingerprint": "g"}, "data fingerprint was f and is g"),
    ],
)
def test_resuming_on_other_data_is_refused(records, change, message):
    state = loader(records).state_dict()
    with pytest.raises(ValueError, match=message):
        loader(records, **change).load_state_dict(state)


def test_a_run_goes_on_with_other_devices_that_share_the_same_batches(records):
    """Two devices take a batch of 2 each where one takes 4: the rest of the epoch is the same, batch by batch."""
    alone = loader(records, batch_size=4)
    batches = iter(alone)
    for _ in range(3):
        next(batches)
    ranks = [loader(records, batch_size=2, rank=rank, world_size=2) for rank in (0, 1)]
    for rank in ranks:
        rank.load_state_dict(alone.state_dict())
    shared = [sorted(row for batch in pair for row in batch.ids.tolist()) for pair in zip(*ranks, strict=True)]
    assert shared == [sorted(batch.ids.tolist()) for batch in batches]


def test_ranks_share_an_epoch_without_overlap_in_batches_of_one_size(records):
    ranks = [list(loader(records, rank=rank, world_size=2)) for rank in (0, 1)]
    assert [len(batches) for batches in ranks] == [4, 4]
    assert all(batch.ids.shape == (3, 8) for batches in ranks for batch in batches)


ITEMS, SIZES, WORLDS = st.integers(1, 60), st.integers(1, 9), st.integers(1, 5)


@given(ITEMS, SIZES, WORLDS, st.integers(0, 3))
def test_training_ranks_take_equal_disjoint_shares(items, size, world, epoch):
    ranks = []
    for rank in range(world):
        sampler = WindowSampler(shuffled(items), size, training=True, rank=rank, world_size=world)
        sampler.set_epoch(epoch)
        ranks.append([request.items.tolist() for request in sampler])
        assert len(ranks[-1]) == len(sampler)
    assert len({tuple(map(len, batches)) for batches in ranks}) == 1
    seen = [item for batches in ranks for batch in batches for item in batch]
    if items >= size * world:
        assert {len(batch) for batches in ranks for batch in batches} == {size}
        assert len(set(seen)) == len(seen) > items - size * world
    else:
        assert set(seen) == set(range(items))
        assert len(seen) < items + world


@given(ITEMS, SIZES, WORLDS)
def test_validation_ranks_see_every_item_once_in_equally_many_batches(items, size, world):
    if items < world:
        with pytest.raises(ValueError, match="validation windows for"):
            WindowSampler(SequentialOrder([items]), size, world_size=world)
        return
    samplers = [WindowSampler(SequentialOrder([items]), size, rank=rank, world_size=world) for rank in range(world)]
    ranks = [[request.items.tolist() for request in sampler] for sampler in samplers]
    assert [item for batches in ranks for batch in batches for item in batch] == list(range(items))
    largest = size if size > 1 or items % world == 0 else 2  # one item more is no reason for a batch of its own
    assert all(1 <= len(batch) <= largest for batches in ranks for batch in batches)
    assert [len(batches) for batches in ranks] == [len(sampler) for sampler in samplers]
    assert len({len(batches) for batches in ranks}) == 1
