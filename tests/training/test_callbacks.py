"""What the first line of a run says of its data."""

from data_adapters import TextAdapter
from megabyte_mm.data import ByteData, Source
from megabyte_mm.training.callbacks import describe_data


def write(folder, **texts):
    for name, text in texts.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".txt").write_text(text)
    return str(folder)


def test_the_files_of_each_split_and_the_classes_are_named(tmp_path):
    path = write(tmp_path / "texts", train__cat__a="1234", train__dog__b="56" * 600, Validation__cat__c="7890")
    data = ByteData(path, classes=True, window=8, cache_dir=str(tmp_path / "cache"))
    data.setup()
    assert describe_data(data) == "2 files (1.2 kB) to train on and 1 file (4 bytes) to validate; 2 classes: cat, dog"


def test_each_source_of_a_mix_has_its_sizes(tmp_path):
    paths = {name: write(tmp_path / name, train__a="12", val__b=name) for name in ("one", "three")}
    sources = {name: Source(path, TextAdapter()) for name, path in paths.items()}
    data = ByteData(sources=sources, window=8, cache_dir=str(tmp_path / "cache"))
    data.setup()
    assert describe_data(data) == ", ".join(
        f"{name} 1 file (2 bytes) to train on and 1 file ({len(name)} bytes) to validate" for name in sources
    )
