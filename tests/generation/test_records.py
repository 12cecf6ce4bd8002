"""Records whose parts have no fixed size end where their format says."""

import numpy as np
import torch

from data_adapters import ByteStream, ImageAdapter, TextAdapter
from megabyte_mm.checkpoint import Bundle, Modality
from megabyte_mm.generation import SamplingParams, complete_records, record_request
from megabyte_mm.models import MegabyteConfig, PartConfig, StackConfig


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
