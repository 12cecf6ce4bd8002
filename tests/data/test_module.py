import pickle
import re
import warnings
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from lightning.pytorch import LightningModule, Trainer

from data_adapters.audio import AudioAdapter
from data_adapters.base import ByteStream, MediaError
from data_adapters.file import FileAdapter
from data_adapters.text import TextAdapter
from megabyte_mm.alphabet import END, scored
from megabyte_mm.data.dataset import WindowDataset, Windows
from megabyte_mm.data.geometry import Geometry
from megabyte_mm.data.module import ByteData
from megabyte_mm.data.sources import Source


class Whole(FileAdapter):
    """Files that must fit into a window; those that begin with "!" cannot be read."""

    name = "whole"
    single_window = True

    def read(self, path):
        stream = super().read(path)
        if bytes(stream.data[:1]) == b"!":
            raise MediaError(path, "begins with !")
        return stream


class OnlyRaw(FileAdapter):
    """Raw files of cameras."""

    name = "raw"
    suffixes = (".cr2",)


class Four(FileAdapter):
    """Streams of four bytes, always."""

    name = "four"
    length = 4
    unit = 2
    patch_size = 2

    def read(self, path):
        return ByteStream(super().read(path).data[:4], {"modality": "file", "suffix": ""})


def opened(path, adapter=None, **settings) -> ByteData:
    data = ByteData(str(path), adapter, **settings)
    data.setup()
    return data


def test_split_folders_give_their_records_and_plain_properties(tree):
    root = tree({"train/a.txt": b"abcdefghij", "val/b.txt": b"klm", "test/c.txt": b"xyz"})
    data = opened(root, window=4, batch_size=2)
    assert (data.adapter.name, data.geometry, data.skipped) == ("text", Geometry(window=4), [])
    assert (data.train.name(0), data.val.name(0), data.test.name(0)) == ("train/a.txt", "val/b.txt", "test/c.txt")
    assert next(iter(data.val_dataloader())).ids.tolist() == [[*b"klm", END]]
    assert next(iter(data.test_dataloader())).ids.tolist() == [[*b"xyz", END]]
    assert next(iter(data.train_dataloader())).ids.shape == (2, 4)
    assert data.spec() == {
        "adapter": {"name": "text", "settings": {}},
        "window": 4,
        "conditions": ["none"],
        "fixed_length": False,
    }


def test_bytes_and_scored_symbols_of_validation_add_up(tree):
    data = opened(tree({f"{i}.txt": 5 * i + 1 for i in range(30)}), window=8, val_share=0.3)
    ids = torch.cat([batch.ids for batch in data.val_dataloader()])
    lengths = data.val.lengths
    assert int((ids != END).sum()) == lengths.sum()
    assert int(scored(ids).sum()) == lengths.sum() + (lengths % 8 != 0).sum()


@pytest.mark.parametrize("test_name", ["one.txt", "folder/one.txt"])
def test_a_single_file_is_split_by_position_between_characters(tree, test_name):
    text = "äöü€" * 300
    root = tree({test_name: text.encode()})
    data = opened(root, window=16, val_share=0.1)
    train, val = bytes(data.train.read(0)), bytes(data.val.read(0))
    assert train.decode() + val.decode() == text
    assert len(val) == pytest.approx(len(text.encode()) / 10, abs=4)
    assert bytes(data.val.stream(0).data) == val
    assert bytes(data.val.read(0, 2, 10**9)) == val[2:]
    assert bytes(data.train.read(0, len(train) - 2, len(train) + 5)) == train[-2:]


def test_one_training_file_beside_test_files_is_split_by_position(tree):
    root = tree({"train/cat/a.txt": b"abcdefghij", "test/cat/b.txt": b"xyz"})
    data = opened(root, window=4, val_share=0.3, classes=True)
    assert (bytes(data.train.read(0)), bytes(data.val.read(0)), bytes(data.test.read(0))) == (
        b"abcdefg",
        b"hij",
        b"xyz",
    )
    assert [split.conditions.tolist() for split in (data.train, data.val, data.test)] == [[1], [1], [1]]


def test_test_files_never_train_where_val_is_missing(tree):
    files = {f"{split}/{name}/{i}.txt": 3 for split in ("train", "test") for name in ("cat", "bird") for i in range(9)}
    data = opened(tree(files), classes=True, window=4, val_share=0.2)
    assert data.geometry.conditions == ("none", "bird", "cat")
    splits = [{split.name(i).split("/")[0] for i in range(len(split))} for split in (data.train, data.val, data.test)]
    assert splits == [{"train"}, {"train"}, {"test"}]
    assert len(data.test) == 18


def test_a_single_file_that_cannot_be_split_is_refused(tree):
    root = tree({"a.bin": 10})
    with pytest.raises(ValueError, match=r"a\.bin is the only file to train on, and one whole cannot both train and"):
        opened(root, Whole(), window=20)
    with pytest.raises(ValueError, match="its 1 bytes are too few"):
        opened(tree({"a.bin": 1}), FileAdapter())


def test_classes_become_conditions(tree):
    files = {f"{split}/{name}/{i}.txt": 3 for split in ("train", "val") for name in ("cat", "bird") for i in range(2)}
    data = opened(tree(files), classes=True, window=4, batch_size=8)
    assert data.geometry.conditions == ("none", "bird", "cat")
    assert next(iter(data.val_dataloader())).condition.tolist() == [1, 1, 2, 2]
    assert sorted(next(iter(data.train_dataloader())).condition.tolist()) == [1, 1, 2, 2]
    assert opened(data.path, window=4).geometry.conditions == ("none",)


def test_fixed_streams_set_the_window_and_hold_no_end(tree):
    data = opened(tree({f"{i}.bin": 4 for i in range(6)}), Four(), batch_size=2, val_share=0.3)
    assert data.geometry == Geometry(window=4, unit=2, patch_size=2, fixed_length=True)
    for loader in (data.train_dataloader(), data.val_dataloader()):
        assert all((batch.ids != END).all() for batch in loader)


def test_what_cannot_be_used_is_left_out_listed_and_reported_once(tree, tmp_path):
    root = tree({"a.bin": b"good", "b.bin": b"!", "c.bin": b"much too long", "d.bin": b"", "e.bin": b"fine"})
    data = ByteData(str(root), Whole(), window=8, batch_size=1)
    with pytest.warns(UserWarning, match=r"skipped 3 files of .*: b.bin: begins with !; c.bin: its 13 bytes"):
        data.setup()
    data.setup()
    assert [entry["path"] for entry in data.skipped] == ["b.bin", "c.bin", "d.bin"]
    assert data.skipped[1]["reason"].endswith("set data.window to 13 or more")
    assert len(data.train) + len(data.val) == 2
    assert len(opened_quietly(root, Whole(), window=13).train) == 2


def test_files_that_no_source_reads_are_counted_by_suffix(tree):
    root = tree(
        {"a.txt": b"ab", "b.txt": b"cd", "c.heic": b"1", "d.HEIC": b"2", "e.cr2": b"3", "f.cr2": b"4", "LICENCE": b"5"}
    )
    [source] = opened(root, TextAdapter(), window=4).sources
    assert source.conversions() == [f"not read of {root}: 1 of no suffix, 2 .cr2, 2 .heic"]
    mix = {"text": Source(adapter=TextAdapter()), "raw": Source(adapter=OnlyRaw())}
    text, raw = opened(root, window=4, sources=mix).sources
    assert text.unread == raw.unread == {"": 1, ".heic": 2}


def test_what_was_clipped_is_reported_by_file_and_count(tree, monkeypatch):
    class Loud(FileAdapter):
        name = "loud"

        def read(self, path):
            notes = ("turned", f"{path.name[0]} of 9 samples clipped")
            return ByteStream(super().read(path).data, {"modality": "file", "suffix": ""}, notes)

    messages: list[str] = []
    monkeypatch.setattr("megabyte_mm.data.module.rank_zero_info", messages.append)
    root = tree({f"{i}.bin": 5 for i in range(1, 6)})
    opened(root, Loud(), window=4)
    shown = "; ".join(f"{i}.bin: {i} of 9 samples clipped" for i in (1, 2, 3))
    assert messages == [
        f"5 files of {root}: turned",
        f"5 files of {root}: ... of ... samples clipped",
        f"5 files of {root} lost range: {shown}; ...",
    ]


def opened_quietly(path, adapter, **settings):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return opened(path, adapter, **settings)


def test_nothing_usable_names_the_first_reasons(tree):
    with pytest.raises(ValueError, match=r"none of the 2 files can be used: a\.bin: its 9 bytes do not fit"):
        opened(tree({"a.bin": 9, "b.bin": 9}), Whole(), window=8)


def test_a_split_without_a_usable_file_is_not_split_otherwise(tree):
    train = {"train/a.bin": b"a", "train/b.bin": b"b"}
    with pytest.raises(ValueError, match=r"none of the files of val can be used: val/c\.bin: begins with !"):
        opened(tree({**train, "val/c.bin": b"!"}), Whole(), window=8)
    with pytest.raises(ValueError, match=r"none of the files of val can be used: val/c\.bin: begins with !"):
        opened(tree({**train, "val/c.bin": b"!", "test/d.bin": b"d"}), Whole(), window=8)


def test_test_files_that_are_all_unusable_are_not_replaced_by_others(tree):
    with pytest.raises(ValueError, match=r"none of the files of test can be used: test/c\.bin: begins with !"):
        opened(tree({"train/a.bin": b"a", "train/b.bin": b"b", "test/c.bin": b"!"}), Whole(), window=8)


def test_an_adapter_under_the_name_of_another_is_refused(tree):
    class Inverted(TextAdapter):
        pass

    root = tree({"a.txt": 9, "b.txt": 9})
    with pytest.raises(
        ValueError, match=r"Inverted has the name 'text' of data_adapters\.text\.TextAdapter.*`name` of its own"
    ):
        opened(root, Inverted())
    Inverted.name = "inverted"
    assert opened(root, Inverted()).spec()["adapter"]["name"] == "inverted"


def sounds(folder, **channels) -> str:
    """A sound of 500 frames for each name, with that many channels."""
    folder.mkdir(exist_ok=True)
    for name, count in channels.items():
        wave = np.random.default_rng(0).integers(-9000, 9000, (500, count)).astype(np.int16)
        soundfile.write(folder / f"{name}.wav", wave, 8000)
    return str(folder)


def test_windows_of_sound_hold_whole_frames_whatever_the_channels(tmp_path):
    path = sounds(tmp_path / "a", mono=1, stereo=2, three=3)
    data = opened(path, AudioAdapter())
    assert (data.geometry.unit, data.geometry.window) == (12, 2040)
    with pytest.raises(ValueError, match=r"data\.window 64 must be a positive multiple of 12 bytes.*such as 60"):
        opened(path, AudioAdapter(), window=64)
    assert opened(path, AudioAdapter(channels=1), window=64).geometry.unit == 2


def test_jittered_windows_of_stereo_start_between_frames(tmp_path):
    data = opened(sounds(tmp_path / "a", a=2, b=2), AudioAdapter(), window=64)
    dataset = data.train_dataloader().dataset
    assert isinstance(dataset, WindowDataset)
    assert isinstance(dataset.sources[0], Windows)
    grid = dataset.sources[0].grid
    starts = np.concatenate([grid.jitter(np.arange(len(grid)), 0, epoch)[1] for epoch in range(3)])
    assert set(starts % 8) == {0, 4}
    mono = opened(sounds(tmp_path / "b", a=1, b=1), AudioAdapter(), window=64)
    assert (data.geometry.unit, mono.geometry.unit) == (4, 2)


def test_a_single_stereo_sound_is_cut_between_frames(tmp_path):
    for share in (0.1, 0.1003, 0.1006):
        data = opened(sounds(tmp_path, a=2), AudioAdapter(), window=64, val_share=share)
        assert data.train.lengths[0] % 4 == data.val.lengths[0] % 4 == data.val.starts[0] % 4 == 0


def test_a_sound_of_no_length_has_no_say_in_the_unit(tmp_path):
    path = sounds(tmp_path / "a", a=1, b=1)
    soundfile.write(tmp_path / "a" / "empty.wav", np.zeros((0, 7), np.int16), 8000)
    assert opened_quietly(path, AudioAdapter(), window=64).geometry.unit == 2


@pytest.mark.parametrize(
    "setting",
    ["batch_size=0", "val_batch_size=0", "max_val_windows=0", "val_share=0", "val_share=1", "num_workers=-1"],
)
def test_a_wrong_setting_is_named(setting):
    name, _, value = setting.partition("=")
    settings: dict[str, Any] = {name: int(value)}
    with pytest.raises(ValueError, match=rf"data\.{name} {value} must"):
        ByteData("x", **settings)


def test_before_setup_it_says_so_and_an_unset_path_is_named():
    with pytest.raises(RuntimeError, match="call setup"):
        _ = ByteData("x").train
    with pytest.raises(ValueError, match=r"data\.path is empty"):
        ByteData().setup()


def test_the_fingerprint_changes_with_what_the_windows_hold(tree):
    root = tree({f"{c}/{i}.txt": 30 for c in "ab" for i in range(10)})
    prints = {
        opened(root, **change).fingerprint for change in ({}, {"window": 8}, {"classes": True}, {"val_share": 0.5})
    }
    assert len(prints) == 4
    assert opened(root, batch_size=3, seed=4).fingerprint in prints
    (root / "a/0.txt").write_bytes(b"changed")
    assert opened(root).fingerprint not in prints


def test_sliding_windows_are_for_validation_alone(tree):
    data = opened(tree({f"{i}.txt": 40 for i in range(10)}), window=16, max_val_windows=3, val_share=0.5)
    before = data.fingerprint, len(data.train_dataloader()), data.train_dataloader().state_dict()
    plain = sum(len(batch.ids) for batch in data.test_dataloader())
    data.use_sliding_windows(True)
    assert (data.fingerprint, len(data.train_dataloader()), data.train_dataloader().state_dict()) == before
    assert sum(len(batch.ids) for batch in data.test_dataloader()) > plain
    assert sum(len(batch.ids) for batch in data.val_dataloader()) == 3
    data.use_sliding_windows(False)
    assert sum(len(batch.ids) for batch in data.test_dataloader()) == plain


def test_it_pickles_after_setup(tree):
    data = opened(tree({f"{i}.txt": 30 for i in range(10)}))
    copy = pickle.loads(pickle.dumps(data))
    assert copy.fingerprint == data.fingerprint


class Recorder(LightningModule):
    """Keeps the ids of every training batch."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[list[list[int]]] = []

    def training_step(self, batch, index):
        self.seen.append(batch.ids.tolist())
        return self.weight * 1.0

    def validation_step(self, batch, index):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def trainer(root, **settings) -> Trainer:
    quiet = {
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
    }
    return Trainer(accelerator="cpu", devices=1, default_root_dir=str(root), **{**quiet, **settings})


def test_under_a_trainer_the_skipped_files_are_listed_in_its_folder(tree, tmp_path):
    root = tree({"a.bin": b"good", "b.bin": b"!", "c.bin": b"fine"})
    data = ByteData(str(root), Whole(), window=8, batch_size=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer(tmp_path, max_epochs=1).fit(Recorder(), data)
    assert (tmp_path / "skipped_files.txt").read_text() == "b.bin\tbegins with !\n"


def test_validation_files_that_are_training_files_too_are_reported(tree, caplog):
    long = bytes(range(256)) * 8
    root = tree({
        "train/a.bin": long, "train/b.bin": b"same", "train/c.bin": b"same", "train/d.bin": b"sum", "train/e.bin": b"",
        "val/f.bin": long[:-1] + b"!", "val/g.bin": b"same", "val/h.bin": b"some", "val/i.bin": long, "val/j.bin": b"",
    })  # fmt: skip
    data = ByteData(str(root), Whole(), window=2048, batch_size=1)
    with pytest.warns(UserWarning, match="skipped 2 files"):
        data.setup("fit")
    expected = "2 of 4 validation files of .* a training file, such as val/g.bin and train/b.bin: take them out of one"
    assert re.search(expected, caplog.text)


def test_overfitting_repeats_the_same_batches(tree, tmp_path):
    data = ByteData(str(tree({"a.txt": 1000})), TextAdapter(), window=16, batch_size=4)
    module = Recorder()
    trainer(tmp_path, max_epochs=3, overfit_batches=2).fit(module, data)
    assert len(module.seen) == 6
    assert module.seen[:2] == module.seen[2:4] == module.seen[4:]
    assert np.array(module.seen).shape == (6, 4, 16)
