"""The geometry of one source or of a mix, known and unknown adapters, and what does not fit together."""

from dataclasses import replace

import pytest

from data_adapters import AudioAdapter, FileAdapter, ImageAdapter, Neighbourhood, TextAdapter
from megabyte_mm.data.geometry import Geometry
from megabyte_mm.data.sources import Source
from megabyte_mm.errors import FieldError
from megabyte_mm.models import PartConfig, StackConfig, TransformerConfig

PICTURES = ImageAdapter(size=(4, 4), patch=2)
MIX = {"image": PICTURES, "audio": AudioAdapter(rate=8000, channels=1), "text": TextAdapter()}


def bare(geometry: Geometry) -> Geometry:
    return replace(geometry, neighbourhoods=())


class Wide(FileAdapter):
    unit = 6


def test_one_source_takes_the_adapters_length_or_whole_units():
    pictures = Geometry(48, 3, 12, fixed_length=True, neighbourhoods=(PICTURES.neighbourhood,))
    assert Geometry.of({"": PICTURES}) == Geometry.of({"": PICTURES}, 48) == pictures
    assert Geometry.of({"": FileAdapter()}) == Geometry(window=2048)
    assert Geometry.of({"": Wide()}) == Geometry(window=2046, unit=6)
    assert Geometry.of({"": Wide()}, 600) == Geometry(window=600, unit=6)
    assert bare(Geometry.of({"": AudioAdapter()}, units=[12])) == bare(Geometry(window=2040, unit=12))


def test_a_mix_takes_the_longest_stream_and_a_condition_for_each_source():
    conditions = ("none", "image", "audio", "text")
    neighbourhoods = (Neighbourhood(), *(adapter.neighbourhood for adapter in MIX.values()))
    assert Geometry.of(MIX) == Geometry(48, 6, 12, conditions, neighbourhoods=neighbourhoods)
    assert Geometry.of(MIX, 96).window == 96
    assert Geometry.of({"a": TextAdapter(), "b": Wide()}).window == 2046
    large = ImageAdapter(size=(8, 8), patch=2)
    assert bare(Geometry.of({"small": PICTURES, "large": large})) == bare(
        Geometry(192, 3, 12, ("none", "small", "large"))
    )


def test_an_unknown_adapter_leaves_the_window_as_given():
    expected = Geometry(window=50, unit=3, patch_size=12, conditions=("none", "image", "text"))
    assert bare(Geometry.of({"image": PICTURES, "text": None}, 50)) == bare(expected)
    with pytest.raises(FieldError, match=r"^data\.window is missing"):
        Geometry.of({"": None})


@pytest.mark.parametrize(
    ("adapters", "window", "message"),
    [
        (
            {"": PICTURES},
            512,
            "data.window 512: files of the image adapter are streams of 48 bytes",
        ),
        ({"": Wide()}, 1000, "data.window 1000 must be a positive multiple of 6 bytes, such as 1002"),
        ({"": Wide()}, 0, "data.window 0 must be a positive multiple of 6 bytes, such as 6"),
        (MIX, 24, "data.window 24: streams of the image adapter have 48 bytes, and must fit into one window"),
        (MIX, 50, "bytes to hold whole units of every source (image 3, audio 2, text 1), such as 48"),
        ({**MIX, "grey": ImageAdapter("L", (4, 4), patch=4)}, None, "the adapters ask for image of 12 and image of 16"),
    ],
)
def test_what_does_not_fit_together_names_the_field(adapters, window, message):
    with pytest.raises(FieldError) as caught:
        Geometry.of(adapters, window)
    assert message in str(caught.value)


def own(**settings: dict[str, int]) -> dict[str, Source]:
    return {name: Source(**settings.get(name, {})) for name in MIX}  # type: ignore[arg-type]


def test_sources_with_patch_sizes_of_their_own_are_parts():
    geometry = Geometry.of(MIX, settings=own(text={"patch_size": 8, "window": 64}))
    assert geometry.parts == (PartConfig(12, 48), PartConfig(32, 2048), PartConfig(8, 64))
    assert geometry.orders == ((0,), (0,), (1,), (2,))
    assert geometry.windows == (48, 2048, 64)
    assert (geometry.window, geometry.patch_size) == (2048, 12)
    assert geometry.conditions == ("none", "image", "audio", "text")
    assert geometry.neighbourhoods == tuple(adapter.neighbourhood for adapter in MIX.values())
    stereo = Geometry.of(MIX, 1000, units=[3, 4, 1], settings=own(text={"patch_size": 8}))
    assert stereo.parts == (PartConfig(12, 48), PartConfig(64, 960), PartConfig(8, 1000))
    assert Geometry.of(MIX, settings=own()).parts is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"image": {"patch_size": 24}}, "data.sources.image.patch_size 24: the layout of the image adapter has"),
        ({"image": {"window": 96}}, "data.sources.image.window 96: these files are streams of 48 bytes each"),
        ({"audio": {"patch_size": 7}}, "data.sources.audio.patch_size 7 cuts through the 2 bytes that stay together"),
        ({"text": {"patch_size": 8, "window": 60}}, "data.sources.text.window 60 must be a positive multiple of 8"),
    ],
)
def test_a_patch_size_or_window_that_does_not_fit_its_source_is_refused(settings, message):
    with pytest.raises(FieldError, match=message):
        Geometry.of(MIX, settings=own(**settings))


def test_an_architecture_without_patches_refuses_patch_sizes():
    geometry = Geometry.of(MIX, settings=own(text={"patch_size": 8}))
    with pytest.raises(FieldError, match="transformer reads no parts"):
        geometry.resolve(TransformerConfig(stack=StackConfig(8, 1, 1)))
