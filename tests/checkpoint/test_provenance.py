"""The provenance that a model keeps of its training."""

import math

import pytest

from megabyte_mm.checkpoint.provenance import Provenance, data_name, from_values


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/home/ann/secret/books", "books"),
        ("books/", "books"),
        ("", ""),
        ("s3://bucket/images", "images"),
        ("s3://bucket", "bucket"),
        ("https://ann:word@host.org/books?signature=abc#part", "books"),
        ("https://ann:word@host.org", "host.org"),
    ],
)
def test_paths_and_credentials_of_data_are_left_out(path, message):
    assert data_name(path) == message


def test_what_a_stranger_wrote_is_believed_only_where_it_can_be():
    known = Provenance(3, 400, "books", {"": {"train": {"files": 2, "bytes": 9}}}, {"": 1.5}, 1.25, "plain", 0.25)
    assert from_values(known.values()) == known
    wrong = {
        "steps": -1,
        "bytes": True,
        "data_name": ["x"],
        "val_bpb": {"": math.nan, "b": "1"},
        "data": {"": 3},
        "val_share": 1,
    }
    assert from_values(wrong) == Provenance(data={"": {}})
    assert from_values("nothing") == Provenance()
    assert len(from_values({"method": "x" * 10**6}).method) == 200
