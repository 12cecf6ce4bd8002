"""Several kinds of data as one stream of batches."""

import math

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from data_adapters import AudioAdapter, ImageAdapter, TextAdapter
from megabyte_mm.alphabet import END
from megabyte_mm.data.files import find_files
from megabyte_mm.data.geometry import Geometry
from megabyte_mm.data.module import ByteData
from megabyte_mm.data.sources import Source
from megabyte_mm.data.storage.base import LocalStorage
from megabyte_mm.data.storage.prepare import prepare

WINDOW = 48


@pytest.fixture
def media(tmp_path):
    """Ten pictures of 48 bytes, four sounds and three texts, below one folder and split."""
    rng = np.random.default_rng(0)
    for i in range(10):
        path = tmp_path / "media" / ("val" if i < 2 else "train") / "pictures" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)).save(path)
    for i in range(4):
        path = tmp_path / "media" / ("val" if i < 1 else "train") / f"{i}.wav"
        soundfile.write(path, rng.integers(-999, 999, 100 + i, dtype=np.int16), 8000)
    for i, size in enumerate((70, 500, 300)):
        path = tmp_path / "media" / ("val" if i < 1 else "train") / f"{i}.txt"
        path.write_bytes(bytes(97 + (i + j) % 26 for j in range(size)))
    return tmp_path / "media"


def sources(**changed: Source) -> dict[str, Source]:
    return {
        "image": Source(adapter=ImageAdapter(size=(4, 4), patch=2)),
        "audio": Source(adapter=AudioAdapter(rate=8000, channels=1)),
        "text": Source(adapter=TextAdapter()),
    } | changed


def opened(path, **settings) -> ByteData:
    data = ByteData(str(path), **{"sources": sources(), "batch_size": 4, **settings})
    data.setup()
    return data


def test_a_mix_takes_its_sources_out_of_one_folder(media):
    data = opened(media)
    assert [len(records) for records in data.records("train")] == [8, 3, 2]
    assert [len(records) for records in data.records("val")] == [2, 1, 1]
    conditions = ("none", "image", "audio", "text")
    assert data.geometry == Geometry(WINDOW, 6, 12, conditions, neighbourhoods=data.geometry.neighbourhoods)
    assert [neighbourhood.unit for neighbourhood in data.geometry.neighbourhoods] == [1, 3, 2, 1]
    assert {name: its["fixed_length"] for name, its in data.spec()["sources"].items()} == {
        "image": True,
        "audio": False,
        "text": False,
    }


def test_every_window_bears_the_condition_of_its_source(media):
    data = opened(media)
    pictures = {bytes(data.records("train")[0].read(i)) for i in range(8)}
    seen = []
    for batch in data.train_dataloader():
        for row, condition in zip(batch.ids.tolist(), batch.condition.tolist(), strict=True):
            seen.append(condition)
            content = bytes(symbol for symbol in row if symbol != END)
            assert (content in pictures) == (condition == 1)
            assert (condition == 3) == all(97 <= byte < 123 for byte in content)
    assert set(seen) == {1, 2, 3}


def test_weights_are_shares_of_the_training_windows(media):
    data = opened(media, sources=sources(text=Source(adapter=TextAdapter(), weight=6.0)), batch_size=8)
    for _ in range(3):
        conditions = torch.cat([batch.condition for batch in data.train_dataloader()])
        assert len(conditions) % 8 == 0
        np.testing.assert_allclose(
            np.bincount(conditions)[1:] * 8 / len(conditions), [1, 1, 6], atol=8 / len(conditions)
        )


def test_validation_reads_every_byte_of_every_source_once(media):
    data = opened(media, val_batch_size=3)
    batches = list(data.val_dataloader())
    ids, condition = (torch.cat([batch[i] for batch in batches]) for i in (0, 1))
    for number, records in enumerate(data.records("val"), start=1):
        symbols = ids[condition == number]
        assert (symbols != END).sum() == records.lengths.sum()
    limited = opened(media, max_val_windows=2)
    few = torch.cat([batch.condition for batch in limited.val_dataloader()])
    assert few.tolist() == [1, 1, 2, 2, 3, 3]


def test_a_source_may_lie_elsewhere_or_be_prepared(media, tmp_path, cache_folder):
    (tmp_path / "books").mkdir()
    for i in range(2):
        (tmp_path / f"books/{i}.txt").write_bytes(b"elsewhere" * (i + 9))
    own = opened(media, sources=sources(text=Source(str(tmp_path / "books"), TextAdapter())))
    assert own.records("train")[2].name(0) in ("0.txt", "1.txt")
    parts = tmp_path / "prepared"
    for name, source in sources().items():
        prepare(find_files(str(media), source.adapter), LocalStorage(parts / name), cache_folder)
    ready, fresh = opened(parts), opened(media)
    assert ready.fingerprint == fresh.fingerprint
    assert [b.ids.tolist() for b in ready.train_dataloader()] == [b.ids.tolist() for b in fresh.train_dataloader()]


def test_a_mix_resumes_in_the_middle_of_an_epoch_and_refuses_other_weights(media):
    whole = opened(media).train_dataloader()
    expected = [batch.ids.tolist() for _ in range(2) for batch in whole]
    first = opened(media).train_dataloader()
    batches = iter(first)
    seen = [next(batches).ids.tolist() for _ in range(3)]
    state = first.state_dict()
    second = opened(media).train_dataloader()
    second.load_state_dict(state)
    seen += [batch.ids.tolist() for batch in second]
    seen += [batch.ids.tolist() for batch in second]
    assert seen == expected
    other = opened(media, sources=sources(text=Source(adapter=TextAdapter(), weight=1.5))).train_dataloader()
    with pytest.raises(ValueError, match="data fingerprint was"):
        other.load_state_dict(state)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sources": {}}, "data.sources is empty"),
        ({"adapter": TextAdapter()}, "data.adapter is set, and data.sources too"),
        ({"classes": True}, "data.classes is set, and data.sources too"),
        ({"group": "(.)"}, "data.group is set, and data.sources too: set the group of each source"),
        (
            {"sources": sources(text=Source(adapter=TextAdapter(), group="("))},
            r"data\.sources\.text\.group '\(' is no regular expression",
        ),
        (
            {"parts": ["text", "image"], "sources": {"text": Source(group="(x)")}},
            r"data\.sources\.text\.group is set, but records are split as a whole: set data\.group",
        ),
        ({"sources": {"none": Source()}}, "'none' cannot name a source"),
        ({"sources": {"a b": Source()}}, "'a b' cannot name a source"),
        ({"window": 24}, r"data\.window 24: streams of the image adapter have 48 bytes"),
        ({"path": ""}, r"data\.sources\.image\.path is empty, and so is data\.path"),
        ({"path": "gone"}, r"data\.sources\.image\.path gone: no such file or folder"),
        ({"sources": sources(text=Source("gone", TextAdapter()))}, r"data\.sources\.text\.path gone: no such file"),
        ({"sources": sources(text=Source(weight=0.0))}, r"data\.sources\.text\.weight 0\.0 must be a number above 0"),
        ({"sources": sources(text=Source(weight=math.nan))}, r"data\.sources\.text\.weight nan must be a number"),
    ],
)
def test_a_mix_that_cannot_be_is_refused(media, settings, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        ByteData(**{"path": str(media), "sources": sources(), **settings}).setup()


def test_a_window_larger_than_the_pictures_ends_them(media):
    batch = next(iter(opened(media, window=96).val_dataloader()))
    assert batch.condition[0] == 1
    assert (batch.ids[0, WINDOW:] == END).all()
