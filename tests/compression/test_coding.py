"""Windows coded by a model come back, whatever the model, the batch and the steps."""

import json
import math
from dataclasses import asdict

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from megabyte_mm.compression.coding import Window, decode, encode, probabilities
from megabyte_mm.compression.settings import model_fingerprint, numbers_fingerprint, without_later_fields
from megabyte_mm.models import Execution, MegabyteConfig, PartConfig, PerceiverARConfig, StackConfig, TransformerConfig
from megabyte_mm.models.decoding.steps import native_reason
from megabyte_mm.models.neighbourhood import NeighbourhoodConfig, former_layouts
from tests.models.layouts import SAMPLES

WINDOW = 24
STACK = StackConfig(dim=16, layers=1, heads=2)


def megabyte(seed=0, **options):
    torch.manual_seed(seed)
    return (
        MegabyteConfig(
            patch_size=4,
            max_len=WINDOW,
            global_stack=STACK,
            local_stack=StackConfig(8, 1, 1),
            conditions=3,
            init_std=0.5,
            **options,
        )
        .build()
        .eval()
    )


def transformer():
    torch.manual_seed(0)
    return TransformerConfig(max_len=WINDOW, stack=STACK, conditions=3, init_std=0.5).build().eval()


def perceiver_ar():
    torch.manual_seed(0)
    config = PerceiverARConfig(max_len=WINDOW, stack=STACK, latents=8, conditions=3, init_std=0.5)
    return config.build().eval()


MODELS = {
    "megabyte": megabyte(),
    "cross-patch": megabyte(cross_patch=2, conv_encoder=True),
    "parts": megabyte(
        parts=(PartConfig(4, 12), PartConfig(8, WINDOW), PartConfig(2, 12)), orders=((1,), (0, 2), (2, 0))
    ),
    "transformer": transformer(),
    "perceiver_ar": perceiver_ar(),
}
EXECUTIONS = [
    Execution(backend, precision)
    for backend in ("eager", "native")
    for precision in (None, "bfloat16", "int8")
    if backend == "eager" or native_reason(torch.zeros(1)) is None
]


def some(lengths, seed=0, byte=None):
    draw = np.random.default_rng(seed)
    data = [draw.integers(0, 256, n, dtype=np.uint8) if byte is None else np.full(n, byte, np.uint8) for n in lengths]
    return [(Window(n, int(draw.integers(3))), its) for n, its in zip(lengths, data, strict=True)]


def decoded(model, windows, coded, batch, execution):
    return decode(model, [(w, c.data) for (w, _), c in zip(windows, coded, strict=True)], batch, execution)


@settings(max_examples=12)
@given(
    st.sampled_from(list(MODELS)),
    st.lists(st.integers(0, WINDOW), min_size=0, max_size=7),
    st.sampled_from(EXECUTIONS),
    st.tuples(st.integers(1, 8), st.integers(1, 8)),
    st.integers(0, 9),
)
def test_windows_come_back_from_other_batches_than_they_were_coded_in(name, lengths, execution, batches, seed):
    if name == "perceiver_ar":
        execution = Execution("eager")  # it has no other steps
    windows = some(lengths, seed)
    coded = encode(MODELS[name], windows, batches[0], execution)
    back = decoded(MODELS[name], windows, coded, batches[1], execution)
    assert [its.tolist() for its in back] == [its.tolist() for _, its in windows]


def test_a_window_is_coded_alike_alone_and_among_others():
    windows = some([WINDOW, 3, WINDOW, 17, 1])
    together = encode(MODELS["megabyte"], windows, 5)
    assert [encode(MODELS["megabyte"], [window])[0].data for window in windows] == [its.data for its in together]


@pytest.mark.parametrize("execution", [e for e in EXECUTIONS if e.precision is None], ids=lambda e: e.backend)
def test_batches_and_threads_change_no_bit(execution):
    torch.manual_seed(0)
    wide, narrow = StackConfig(dim=256, layers=1, heads=4), StackConfig(dim=128, layers=1, heads=4)
    config = MegabyteConfig(patch_size=16, max_len=16, global_stack=wide, local_stack=narrow, conditions=3)
    model, windows, results = config.build().eval(), some([16] * 20), []
    before = torch.get_num_threads()
    try:
        for threads, batch in ((1, 20), (2, 20), (2, 1), (3, 7)):
            torch.set_num_threads(threads)
            results.append([*encode(model, windows, batch, execution), numbers_fingerprint(model, execution)])
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert all(result == results[0] for result in results)


@torch.no_grad()
def test_a_window_takes_the_nats_of_its_bytes_and_half_a_byte():
    model = MODELS["megabyte"]
    windows = some([WINDOW] * 50)
    coded = encode(model, windows, 16)
    ids = torch.from_numpy(np.stack([data for _, data in windows]).astype(np.int64))
    conditions = torch.tensor([window.condition for window, _ in windows])
    # END is never coded: its share goes to the bytes.
    logits = model(ids, conditions)[..., :256]
    nats = torch.nn.functional.cross_entropy(logits.transpose(1, 2), ids, reduction="none").sum(1)
    assert [its.nats for its in coded] == pytest.approx(nats.tolist(), rel=1e-5)
    over = sum(len(its.data) for its in coded) / len(coded) - nats.mean().item() / math.log(2) / 8
    assert -0.2 < over < 1


def test_a_filler_byte_is_read_by_the_model_and_costs_nothing():
    model, n = MODELS["megabyte"], 18
    data = np.tile(np.array([7, 8, 9], np.uint8), n // 3)
    data[:6] = [1, 2, 3, 4, 5, 6]
    data[6:] = np.tile(data[3:6], 4)
    filled, windows = [(Window(n, 0, np.arange(n) >= 6, 3), data)], [(Window(n), data)]
    coded = encode(model, filled)
    assert len(coded[0].data) < len(encode(model, windows)[0].data)
    assert coded[0].nats == pytest.approx(encode(model, [(Window(6), data[:6])])[0].nats)
    assert decoded(model, filled, coded, 1, Execution())[0].tolist() == data.tolist()


def test_a_diverged_model_still_gives_back_what_it_coded():
    model = megabyte()
    with torch.no_grad():
        next(model.parameters()).fill_(math.nan)
    windows = some([WINDOW, 5])
    coded = encode(model, windows, 2)
    assert len(coded[0].data) == pytest.approx(WINDOW, abs=1)
    assert decoded(model, windows, coded, 1, Execution())[0].tolist() == windows[0][1].tolist()


def test_probabilities_leave_no_room_to_end():
    given = torch.full((2, 257), -3.0)
    given[0, 256] = 50.0
    given[1, 7] = math.inf
    found = probabilities(given)
    assert found.shape == (2, 256)
    assert np.allclose(found, 1 / 256)


def test_confident_models_code_bytes_that_they_think_impossible():
    model = megabyte()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(30)
    windows = some([WINDOW] * 3) + some([WINDOW], byte=0)
    coded = encode(model, windows, 4)
    back = decoded(model, windows, coded, 3, Execution())
    assert [its.tolist() for its in back] == [its.tolist() for _, its in windows]


def test_a_fingerprint_is_not_changed_by_fields_that_came_later_in_layouts():
    config = asdict(NeighbourhoodConfig(layouts=(SAMPLES, *former_layouts([SAMPLES]))))
    signed, former = without_later_fields({"neighbourhood": config})["neighbourhood"]["layouts"]
    assert [predictor.get("signed") for predictor in signed["predictors"]] == [None, None, [0, 2]]
    assert not any("signed" in predictor for predictor in former["predictors"])
    assert json.dumps(former["neighbours"]) == json.dumps(SAMPLES.neighbours)


def test_fingerprints_differ_between_models_and_numbers():
    one, other = megabyte(0), megabyte(1)
    about = {"window": WINDOW}
    assert model_fingerprint(one, about) == model_fingerprint(megabyte(0), about)
    with torch.no_grad():
        nudged = megabyte(0)
        last = list(nudged.parameters())[-1]
        last.view(-1)[-1] = torch.nextafter(last.view(-1)[-1], torch.tensor(9.0))
    prints = [model_fingerprint(m, about) for m in (one, other, nudged, MODELS["cross-patch"])]
    assert len({*prints, model_fingerprint(one, {"window": 8})}) == 5
    eager = [numbers_fingerprint(one, Execution("eager", precision)) for precision in (None, "bfloat16", "int8")]
    assert len({*eager, numbers_fingerprint(other, Execution("eager"))}) == 4
