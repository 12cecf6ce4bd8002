"""Archives, tables, arrays and lists that somebody damaged: read as far as they are whole, or refused in a line."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz import seeds
from fuzz.targets import TARGETS

SEEDS = {name: content for name, content in seeds.containers().items() if name != "a.parquet"}
check = TARGETS["containers"].check


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("containers")


@pytest.mark.parametrize("name", SEEDS)
def test_sound_containers_are_read(folder, name):
    check(SEEDS[name], folder)


@settings(max_examples=150)
@given(name=st.sampled_from(list(SEEDS)), at=st.integers(1, 2**13), cut=st.integers(0, 24), piece=st.binary(max_size=8))
def test_changed_containers_are_read_or_refused_in_a_line(folder, name, at, cut, piece):
    content = SEEDS[name]
    at = 1 + at % len(content)
    check(content[:at] + piece + content[at + cut :], folder)


@pytest.mark.parametrize(
    "content",
    [
        seeds.containers()["a.npy"][:12] + b"{'descr': ('" + seeds.containers()["a.npy"][30:],
        seeds.containers()["a.zip"].replace(b"PK\x05\x06", b"PK\x05\x06\xff\xff\xff\xff"),
        seeds.containers()["a.csv"].replace(b"another", "an\u2028\x0bother".encode()),
    ],
)
def test_what_fuzzing_found_stays_mended(folder, content):
    check(content, folder)
