"""Joined records: complete ones only, in splits that part nothing, as rows with a room for each part."""

import math

import pytest
import torch

from data_adapters import ImageAdapter
from megabyte_mm.alphabet import END
from megabyte_mm.data import ByteData, Source
from megabyte_mm.data.orders import part_orders
from megabyte_mm.errors import FieldError
from tests.data.test_part_files import touch

PICTURE = Source(adapter=ImageAdapter(size=(2, 2), patch=2))


def opened(folder, cache, **settings) -> ByteData:
    settings = {"parts": ["text", "image"], "sources": {"text": Source(patch_size=4), "image": PICTURE}} | settings
    data = ByteData(str(folder), batch_size=2, cache_dir=str(cache), **settings)
    data.setup()
    return data


BOTH = [["text", "image"], ["image", "text"]]


@pytest.fixture
def folder(tmp_path):
    names = [f"{split}/{i}" for split, count in (("train", 4), ("val", 3)) for i in range(count)]
    touch(tmp_path / "pairs", *(f"{name}{suffix}" for name in names for suffix in (".png", ".txt")))
    for number, name in enumerate(names):
        (tmp_path / f"pairs/{name}.txt").write_text("w" * (1 + 3 * (number % 4)) if number else "")
    (tmp_path / "pairs/train/3.png").unlink()
    return tmp_path / "pairs"


def test_rows_hold_each_part_in_its_room(folder, tmp_path):
    with pytest.warns(UserWarning, match="skipped 2 files of .*train/0.txt: is empty; train/3: has no image"):
        data = opened(folder, tmp_path / "cache")
    assert data.geometry.rooms_of(1) == [12, 12]
    [batch, _] = data.val_dataloader()
    for row, name in enumerate(("val/0", "val/1")):
        text, ids = (folder / f"{name}.txt").read_bytes(), batch.ids[row]
        assert ids[: len(text)].tolist() == list(text)
        assert ids[len(text) : 12].tolist() == [END] * (12 - len(text))
        assert ids[12:].tolist() == [len("0.png")] * 12 or len(set(ids[12:].tolist())) == 1
        # The end of the text counts once, its fill not at all; a picture has no end.
        assert batch.scored[row].tolist() == [True] * (len(text) + 1) + [False] * (11 - len(text)) + [True] * 12
    assert batch.condition.tolist() == [1, 1]


@pytest.mark.parametrize(
    ("weights", "expected"),
    [(None, None), ([0.5, 1], [0.5, 1, 1, 0.5, 1, 1]), ([[0, 1], [0.25, 0.1]], [0, 1, 1, 0.25, 0.1, 0.1])],
)
def test_parts_weigh_alike_in_each_order_or_by_the_order(folder, tmp_path, weights, expected):
    with pytest.warns(UserWarning, match="skipped"):
        data = opened(folder, tmp_path / "cache", parts=BOTH, drop_part=0.25, part_weights=weights)
    names = ["text+image/text", "text+image/image", "image", "image+text/image", "image+text/text", "text"]
    assert data.weights_of_parts() == (expected and dict(zip(names, expected, strict=True)))


def test_a_listed_order_has_its_own_weights_also_where_another_may_lose_its_first_part():
    parts = [["text", "image", "mask"], ["image", "mask"]]
    orders = part_orders(parts, 0.25, [[0.0, 1.0, 1.0], [0.0, 1.0]], {})
    assert [(order.name, order.weight, order.part_weights) for order in orders] == [
        ("text+image+mask", 0.75, (0, 1, 1)),
        ("image+mask", 1.0, (0, 1)),
        ("mask", 0.25, (1,)),
    ]


def test_orders_read_the_same_records(folder, tmp_path):
    with pytest.warns(UserWarning, match="skipped"):
        data = opened(folder, tmp_path / "cache", parts=BOTH, drop_part=0.25)
    assert data.geometry.conditions == ("none", "text+image", "image", "image+text", "text")
    assert [order.weight for order in data.settings.orders] == [0.75, 0.25, 0.75, 0.25]
    rows: dict[int, list[torch.Tensor]] = {}
    for batch in data.val_dataloader():
        for ids, condition in zip(batch.ids, batch.condition.tolist(), strict=True):
            rows.setdefault(condition, []).append(ids)
    assert {condition: len(each) for condition, each in rows.items()} == {1: 3, 2: 3, 3: 3, 4: 3}
    for one, two in zip(rows[1], rows[3], strict=True):
        assert torch.equal(one[:12], two[12:])
        assert torch.equal(one[12:], two[:12])


def test_no_split_parts_what_belongs_together(tmp_path):
    names = [f"{i}" for i in range(12)]
    touch(tmp_path / "pairs", *(f"{name}{suffix}" for name in names for suffix in (".png", ".txt")))
    data = opened(tmp_path / "pairs", tmp_path / "cache", val_share=0.3, drop_part=0.5)
    [joined] = data.opened.validation_records.values()
    held_out = {joined.key(record) for record in range(len(joined))}
    assert 0 < len(held_out) < 12
    image = data.records("val")[data.geometry.conditions.index("image") - 1]
    assert {image.name(record).removesuffix(".png") for record in range(len(image))} == held_out


def test_several_of_two_parts_under_one_key_are_refused(tmp_path):
    names = touch(tmp_path / "pairs", "a.png", "z.png", "b.png", "c.png")
    rows = ["input_file_name,output_file_name,text", "a.png,z.png,cap z", "a.png,b.png,cap b", "c.png,c.png,cap c"]
    (names / "metadata.csv").write_text("\n".join(rows))
    sources = {"input": PICTURE, "output": PICTURE, "text": Source(patch_size=4)}
    with pytest.raises(FieldError, match="a has several of output and of text, and nothing says which belong together"):
        opened(names, tmp_path / "cache", parts=["input", "output", "text"], sources=sources)


def test_incomplete_records_do_not_move_the_splits(tmp_path):
    folder = touch(tmp_path / "pairs", *(f"train/{name}{end}" for name in "abc" for end in (".png", ".txt")))
    touch(folder, "val/d.png", "val/d.txt", "val/e.png")
    with pytest.warns(UserWarning, match="val/e: has no text"):
        data = opened(folder, tmp_path / "cache", drop_part=0.5)
    [joined] = data.opened.validation_records.values()
    assert [joined.key(record) for record in range(len(joined))] == ["val/d"]
    image = data.records("train")[[source.name for source in data.sources].index("image")]
    assert sorted(image.name(record) for record in range(len(image))) == ["train/a.png", "train/b.png", "train/c.png"]
    (folder / "val/d.txt").unlink()
    with pytest.raises(FieldError, match="data.path: no record of val has all of image, text"):
        opened(folder, tmp_path / "cache", drop_part=0.5)


def test_parts_too_long_for_their_window_are_left_out(folder, tmp_path):
    sources = {"text": Source(patch_size=4, window=4), "image": PICTURE}
    with pytest.warns(UserWarning, match=r"its 7 bytes do not fit into data.sources.text.window 4"):
        data = opened(folder, tmp_path / "cache", sources=sources)
    assert len(data.train_dataloader().dataset) + len(data.val_dataloader().dataset) == 3


def test_a_loader_of_records_resumes_exactly(folder, tmp_path):
    with pytest.warns(UserWarning, match="skipped"):
        whole, again = (opened(folder, tmp_path / "cache", drop_part=0.5) for _ in range(2))
    loader = whole.train_dataloader()
    batches = [batch for _ in range(3) for batch in loader]
    resumed = again.train_dataloader()
    first = next(iter(resumed))
    state = resumed.state_dict()
    fresh = again.train_dataloader()
    fresh.load_state_dict(state)
    rest = [batch for _ in range(3) for batch in fresh]
    for one, two in zip(batches, [first, *rest], strict=False):
        assert all(torch.equal(x, y) for x, y in zip(one, two, strict=True))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"parts": ["text"]}, "data.parts: name two parts or more"),
        ({"parts": ["text", "text"]}, "must be a list of different names"),
        ({"parts": ["text", ["image"]]}, "must be a list of different names"),
        ({"parts": [["text", "image"], ["text", "image"]]}, "has an order twice"),
        ({"parts": ["text", "picture"]}, "data.sources.picture.adapter is missing, and no adapter is called 'picture'"),
        ({"drop_part": 1.0}, "data.drop_part 1.0 must be at least 0 and below 1"),
        ({"part_weights": [1.0]}, "data.part_weights \\[1.0\\] must be 2 numbers"),
        ({"part_weights": [1.0, 0.0]}, "the last above 0"),
        ({"part_weights": [[0, 1], 1.0]}, "must be 2 numbers"),
        ({"parts": BOTH, "part_weights": [[0, 1]]}, "the last above 0, or such a list for each of data.parts"),
        ({"parts": BOTH, "part_weights": [[0, 1], [1, 0]]}, "the last above 0, or such a list"),
        ({"part_weights": [math.nan, 1.0]}, "numbers of 0 or more"),
        ({"part_weights": [1.0, math.inf]}, "numbers of 0 or more"),
        ({"parts": None, "drop_part": 0.5}, "there are no data.parts"),
        ({"sources": {"sound": Source()}}, "data.sources.sound is not one of data.parts"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(folder, tmp_path, settings, message):
    with pytest.raises(FieldError, match=message):
        opened(folder, tmp_path / "cache", **({"sources": None} | settings))


def test_records_of_nothing_complete_are_refused(tmp_path):
    touch(tmp_path / "pairs", "a.png", "b.txt", "c.png", "d.txt")
    sources = {"text": Source(patch_size=4, suffix=".txt"), "image": PICTURE}
    with pytest.raises(FieldError, match="no record has all of image, text: a has no text; b has no image"):
        opened(tmp_path / "pairs", tmp_path / "cache", sources=sources)
