"""Records whose parts have no fixed size end where their format says."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from data_adapters import ByteStream, ImageAdapter, TextAdapter
from megabyte_mm.checkpoint import Bundle, Modality
from megabyte_mm.cli.generate_records import first_parts
from megabyte_mm.errors import FieldError
from megabyte_mm.generation import SamplingParams, complete_records, convert, record_request
from megabyte_mm.models import MegabyteConfig, PartConfig, StackConfig


def captions_and_masks() -> Bundle:
    """An untrained model of captions, pictures and their masks."""
    torch.manual_seed(0)
    picture = ImageAdapter(mode="L", size=(4, 4), patch=2)
    config = MegabyteConfig(
        parts=(PartConfig(4, 8), PartConfig(4, 16), PartConfig(4, 16)),
        orders=((0, 1), (0, 1), (1, 0), (1, 2)),
        patch_size=4,
        max_len=32,
        conditions=4,
        global_stack=StackConfig(8, 1, 2),
        local_stack=StackConfig(8, 1, 2),
    )
    modalities = {
        "text": Modality(TextAdapter(), False, 8),
        "image": Modality(picture, True, 16, {"suffix": ".image.png"}),
        "mask": Modality(picture, True, 16, {"suffix": ".mask.png"}),
    }
    return Bundle(config.build().eval(), modalities, ("none", "text+image", "image+text", "image+mask"), 32)


def test_files_are_the_parts_that_their_suffixes_name(tmp_path: Path) -> None:
    bundle, picture = captions_and_masks(), Image.new("L", (4, 4))
    for name in ("7.image.png", "7.mask.png", "8.png"):
        picture.save(tmp_path / name)
    (tmp_path / "7.txt").write_text("seven")
    files = {name: str(tmp_path / name) for name in ("7.image.png", "7.mask.png", "8.png", "7.txt")}
    [first] = first_parts(bundle, [files["7.image.png"], files["7.mask.png"]], [])
    assert list(first.parts) == ["image", "mask"]
    assert list(first_parts(bundle, [files["8.png"]], [], "mask")[0].parts) == ["image"]
    # In the order of the condition, whatever the order of the files.
    [first] = first_parts(bundle, [files["7.image.png"], files["7.txt"]], [], "text+image")
    assert list(first.parts) == ["text", "image"]


def test_an_unknown_last_part_is_an_error_about_the_argument_to() -> None:
    with pytest.raises(FieldError, match="no mask behind text") as error:
        convert(captions_and_masks(), {"text": "a"}, to="mask")
    assert error.value.field == "to"


def test_a_text_that_is_longer_than_a_file_name_may_be_is_a_text() -> None:
    with pytest.raises(ValueError, match="the text has 999 bytes, and this model reads 8 of it"):
        convert(captions_and_masks(), {"text": "a" * 999}, to="image")


def test_a_picture_of_any_size_is_continued_to_its_own_end() -> None:
    torch.manual_seed(0)
    text, picture = TextAdapter(), ImageAdapter(mode="RGB", size=None, scan="raster")
    config = MegabyteConfig(
        parts=(PartConfig(4, 8), PartConfig(6, 192)),
        orders=((0, 1), (0, 1)),
        patch_size=4,
        max_len=200,
        conditions=2,
        global_stack=StackConfig(24, 1, 2),
        local_stack=StackConfig(8, 1, 2),
    )
    modalities = {"text": Modality(text, False, 8), "image": Modality(picture, False, 192)}
    bundle = Bundle(config.build().eval(), modalities, ("none", "text+image"), 200)
    caption = text.stream_of("a")
    requests = []
    for side in (4, 8):
        format = {"modality": "image", "mode": "RGB", "width": side, "height": side, "scan": "raster"}
        given = ByteStream(np.zeros(side * side * 3, np.uint8), format)
        requests.append(record_request(bundle, ("text", "image"), [caption, given], keep=0.5))
    completed = complete_records(bundle, requests, SamplingParams())
    assert [len(records[0].parts["image"].data) for records in completed] == [48, 192]
    for [record] in completed:
        picture.pixels(record.parts["image"])


@pytest.mark.parametrize("keep", [7.0, -0.1, float("nan")])
def test_a_share_that_is_none_is_refused_of_complete_parts_too(keep: float) -> None:
    with pytest.raises(FieldError, match="it must be between 0 and 1") as error:
        record_request(captions_and_masks(), ("text", "image"), [TextAdapter().stream_of("a")], keep)
    assert error.value.field == "keep"
