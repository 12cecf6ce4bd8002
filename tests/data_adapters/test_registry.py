import re
import sys

import pytest

from data_adapters import (
    ADAPTERS,
    AudioAdapter,
    FileAdapter,
    ImageAdapter,
    MediaError,
    TextAdapter,
    adapter_for,
    build,
    load_class,
    register,
    spec,
)


@pytest.fixture(autouse=True)
def restore_registry():
    before = dict(ADAPTERS)
    yield
    ADAPTERS.clear()
    ADAPTERS.update(before)


@pytest.mark.parametrize(
    ("file", "adapter"),
    [
        *((f"a{suffix}", ImageAdapter) for suffix in (".png", ".JPG", ".jpeg", ".webp", ".tif", ".ppm", ".gif")),
        *((f"a{suffix}", AudioAdapter) for suffix in (".wav", ".Flac", ".mp3", ".ogg", ".aif", ".opus")),
        *((f"a.b{suffix}", TextAdapter) for suffix in (".txt", ".md", ".py", ".json", ".csv", ".html")),
    ],
)
def test_files_find_their_adapter_by_suffix(file, adapter):
    assert type(adapter_for(file)) is adapter


@pytest.mark.parametrize("file", ["a.xyz", "Makefile"])
def test_an_unknown_suffix_is_refused_in_one_line_that_lists_the_known(file):
    with pytest.raises(MediaError, match=r"unknown suffix .*\.flac .*\.png .*\.txt") as caught:
        adapter_for(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "adapter",
    [
        TextAdapter(),
        FileAdapter(".jpg"),
        ImageAdapter("L", (9, 6), "exact", "patch", 3),
        AudioAdapter(8000, 2, "mulaw", "flac"),
    ],
)
def test_a_spec_builds_the_adapter_again(adapter):
    assert spec(build(**spec(adapter))) == spec(adapter)
    assert type(build(**spec(adapter))) is type(adapter)


def test_an_unknown_name_is_refused_with_the_known_names_and_advice():
    with pytest.raises(ValueError, match=r"'smell'; known: text, image, audio, file\. .*register.* import path"):
        build("smell", {})


@pytest.mark.parametrize("settings", [{"colour": "blue"}, {"mode": "CMYK"}])
def test_settings_that_do_not_fit_are_refused(settings):
    with pytest.raises(ValueError, match=r"colour|mode must be one of L, RGB"):
        build("image", settings)


def test_a_user_adapter_is_registered_by_a_decorator():
    @register
    class Scores(TextAdapter):
        name = "scores"
        suffixes = (".abc",)

    assert isinstance(adapter_for("reel.abc"), Scores)
    assert isinstance(build("scores", {}), Scores)


def test_running_a_definition_again_replaces_the_class():
    def define():
        class Scores(TextAdapter):
            name = "scores"
            suffixes = (".abc",)

        return Scores

    register(define())
    second = register(define())
    assert type(adapter_for("reel.abc")) is second


@pytest.mark.parametrize(
    ("taken", "new_name", "new_suffix"), [("name 'text'", "text", ".abc"), ("suffix '.md'", "own", ".md")]
)
def test_names_and_suffixes_that_are_taken_are_refused(taken, new_name, new_suffix):
    class Own(TextAdapter):
        name = new_name
        suffixes = (new_suffix,)

    with pytest.raises(
        ValueError, match=f"the (adapter )?{re.escape(taken)} .*is taken by data_adapters.text.TextAdapter"
    ):
        register(Own)
    assert Own not in ADAPTERS.values()


def test_a_class_is_loaded_by_its_import_path():
    assert load_class("data_adapters.TextAdapter") is TextAdapter
    assert load_class("data_adapters.image.ImageAdapter") is ImageAdapter


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("TextAdapter", "is not an import path"),
        ("my-adapters.Own", "is not an import path"),
        ("no_such_module.Own", "No module named 'no_such_module'"),
        ("data_adapters.NoSuchClass", "has no attribute 'NoSuchClass'"),
        ("data_adapters.adapter_for", "is not a subclass"),
        ("pathlib.Path", "is not a subclass"),
        (
            "data_adapters.Adapter",
            "does not define default_format, output_suffix, read, settings, write, name, suffixes",
        ),
    ],
)
def test_a_path_that_is_not_an_adapter_class_is_refused(path, reason):
    with pytest.raises(ValueError, match=re.escape(reason)):
        load_class(path)


def test_an_error_inside_a_user_module_is_raised_unchanged(tmp_path, monkeypatch):
    (tmp_path / "faulty_adapters.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ZeroDivisionError):
        load_class("faulty_adapters.Own")
    assert "faulty_adapters" not in sys.modules
