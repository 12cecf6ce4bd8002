import os

import pytest

from data_adapters.file import FileAdapter
from data_adapters.text import TextAdapter
from megabyte_mm.data.files import find_files, walk
from megabyte_mm.data.splits import classes_of, conditions_of, split_rows
from megabyte_mm.errors import FieldError

NAMES = [f"{i:04d}.txt" for i in range(400)]


def test_a_folder_is_searched_in_order_without_hidden_files(tree):
    root = tree({"b/2.txt": 1, "a.txt": 1, ".git/x.txt": 1, "b/.x.txt": 1, "b/1.TXT": 1})
    files = find_files(str(root))
    assert files.names == ("a.txt", "b/1.TXT", "b/2.txt")
    assert files.adapter.name == "text"


def test_a_link_back_to_a_folder_above_ends_and_a_linked_folder_counts(tree):
    root = tree({"a/1.txt": 1, "b/2.txt": 1})
    (root / "a" / "up").symlink_to(root)
    (root / "c").symlink_to(root / "b")
    assert find_files(str(root)).names == ("a/1.txt", "b/2.txt", "c/2.txt")


def test_an_adapter_takes_its_suffixes_from_a_folder_and_all_if_it_has_none(tree):
    root = tree({"a.txt": 1, "b.png": 1})
    assert find_files(str(root), TextAdapter()).names == ("a.txt",)
    assert find_files(str(root), FileAdapter()).names == ("a.txt", "b.png")


def test_a_folder_in_the_home_folder_is_a_folder_like_any(tree, monkeypatch):
    monkeypatch.setenv("HOME", str(tree({"photos/a.txt": 1, "photos/b.png": 1})))
    assert find_files("~/photos", TextAdapter()).names == ("a.txt",)


def test_a_file_and_a_glob_are_taken_as_written(tree):
    root = tree({"x/a.one": 1, "x/b.one": 1, "y/c.one": 1, "y/.d.one": 1})
    assert find_files(str(root / "x/a.one"), TextAdapter()).names == ("a.one",)
    files = find_files(str(root / "*" / "*.one"), TextAdapter())
    assert (files.root, files.names) == (root, ("x/a.one", "x/b.one", "y/c.one"))
    assert find_files(str(root / "**" / "c*"), TextAdapter()).names == ("y/c.one",)


def test_a_relative_glob_starts_at_the_working_folder(tree, monkeypatch):
    monkeypatch.chdir(tree({"a.txt": 1, "b.txt": 1}))
    assert find_files("*.txt").names == ("a.txt", "b.txt")


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        ("", ValueError, "path is empty"),
        ("missing", FileNotFoundError, "missing: no such file or folder"),
        ("*.wav", FileNotFoundError, "matches no file"),
        ("empty", ValueError, "empty: no adapter knows its files"),
    ],
)
def test_an_unusable_path_is_named(tree, monkeypatch, path, error, message):
    monkeypatch.chdir(tree({"empty/.hidden": 1}))
    with pytest.raises(error, match=message):
        find_files(path)


def test_a_folder_without_the_adapters_files_names_the_suffixes(tree):
    with pytest.raises(ValueError, match=r"data.*no file of the text adapter \(\.txt, "):
        find_files(str(tree({"a.png": 1})), TextAdapter())


def test_mixed_modalities_are_counted(tree):
    with pytest.raises(ValueError, match=r"2 text, 1 image\): set `adapter`"):
        find_files(str(tree({"a.txt": 1, "b.txt": 1, "c.png": 1})))


def test_two_spellings_of_one_name_are_one_class():
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    assert classes_of([f"{composed}/1", f"{decomposed}/2"]) == [composed, composed]


def test_folders_with_brackets_in_their_names_are_no_patterns(tree):
    root = tree({"pictures [2020]/a/1.txt": 1, "pictures [2020]/b/2.txt": 1, "pictures 2/3.txt": 1})
    for pattern, names in (("*/*.txt", ("a/1.txt", "b/2.txt")), ("a/*.txt", ("1.txt",)), ("**/2.txt", ("b/2.txt",))):
        assert find_files(f"{root}/pictures [2020]/{pattern}").names == names
    with pytest.raises(FieldError, match=r"\[2020\]/c.txt: no such file or folder"):
        find_files(f"{root}/pictures [2020]/c.txt")


def test_files_beside_split_folders_are_counted_but_not_used(tree):
    files = find_files(str(tree({"train/a.txt": 1, "val/b.txt": 1, "notes.txt": 1, "old/c.txt": 1})))
    assert (files.names, files.unused) == (("train/a.txt", "val/b.txt"), 2)


def test_split_folders_and_split_files_are_the_splits():
    assert split_rows(["train/a", "val/b"], 0.5) == {"train": [0], "val": [1], "test": [1]}
    assert split_rows(["test.txt", "train.txt", "val.txt"], 0.5) == {"train": [1], "val": [2], "test": [0]}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["train/a", "validation/b"], {"train": [0], "val": [1], "test": [1]}),
        (["Train/a", "Valid/b", "Test/c"], {"train": [0], "val": [1], "test": [2]}),
        (["training/a", "dev/b", "testing/c"], {"train": [0], "val": [1], "test": [2]}),
        (["train.txt", "valid.txt", "test.txt"], {"train": [0], "val": [1], "test": [2]}),
        (["wiki.train.txt", "wiki.valid.txt", "wiki.test.txt"], {"train": [0], "val": [1], "test": [2]}),
        (
            ["train-00000-of-00002.txt", "train-00001-of-00002.txt", "validation-00000-of-00001.txt"],
            {"train": [0, 1], "val": [2], "test": [2]},
        ),
        (["train2017/a", "val2017/b", "test2017/c"], {"train": [0], "val": [1], "test": [2]}),
        (["training_set/a", "eval/b", "test_set/c"], {"train": [0], "val": [1], "test": [2]}),
        (["train.txt", "test.txt"], {"train": [0], "val": [], "test": [1]}),
        (["1_train.png", "1_val.png", "other.png"], {"train": [0], "val": [1], "test": [1]}),
    ],
)
def test_splits_have_the_names_that_people_give_them(names, expected):
    assert split_rows(names, 0.01) == expected


def test_words_for_splits_in_names_of_other_files_split_nothing():
    for names in (["train_a.png", "val_b.png"], ["a_train.png", "b_train.png"], ["train.val.txt", "train.txt", "a"]):
        rows = split_rows(names, 0.01)
        assert sorted(rows["train"] + rows["val"]) == list(range(len(names)))


def test_splits_below_one_folder_are_those_of_its_files(tree):
    digits = {"digits/Train/0/a.txt": 1, "digits/valid/1/b.txt": 1}
    files = find_files(str(tree({**digits, "README.txt": 1})))
    assert (files.names, files.unused) == (("Train/0/a.txt", "valid/1/b.txt"), 1)
    assert files.path("Train/0/a.txt").read_bytes() == (files.root / "digits/Train/0/a.txt").read_bytes()
    assert not files.unread
    # A source tree with such folders is no set of splits.
    files = find_files(str(tree({**digits, "digits/setup/a.txt": 1})))
    assert len(files.names) == 4
    assert "digits/setup/a.txt" in files.names


def test_split_files_below_one_folder_are_the_splits(tree):
    files = find_files(str(tree({"corpus/train.txt": 1, "corpus/valid.txt": 1})))
    assert files.names == ("train.txt", "valid.txt")


def test_splits_below_several_folders_are_refused(tree):
    names = {f"{parent}/{split}/0.txt": 1 for parent in ("digits", "letters") for split in ("Train", "valid")}
    with pytest.raises(FieldError, match=r"digits/Train and digits/valid look like splits, .* give .*/digits, or move"):
        find_files(str(tree(names)))


TRAINING = [f"train/{name}" for name in NAMES]


def test_beside_train_and_test_folders_val_is_held_out_of_train():
    rows = split_rows([*TRAINING, "test/a.txt", "test/b.txt"], 0.1)
    alone = split_rows(TRAINING, 0.1)
    assert rows == {"train": alone["train"], "val": alone["val"], "test": [400, 401]}
    assert 20 <= len(rows["val"]) <= 60


def test_a_lone_file_of_train_is_not_held_out_here():
    assert split_rows(["train/a", "test/b"], 0.1) == {"train": [0], "val": [], "test": [1]}
    assert split_rows(["a"], 0.1) == {"train": [0], "val": [], "test": []}


def test_without_val_only_folders_called_train_and_test_are_splits():
    for names in (["train.py", "test.py", "b.py"], ["train/a.py", "test.py", "b.py"], ["train.py", "test/a.py", "b"]):
        rows = split_rows(names, 0.1)
        assert sorted(rows["train"] + rows["val"]) == [0, 1, 2]
        assert rows["test"] == rows["val"]
        assert classes_of(names) == [name.split("/")[0] if "/" in name else None for name in names]


def test_files_beside_train_and_test_folders_are_counted_but_not_used(tree):
    files = find_files(str(tree({"train/a.txt": 1, "test/b.txt": 1, "test.txt": 1, "train.txt": 1, "old/c.txt": 1})))
    assert (files.names, files.unused) == (("test/b.txt", "train/a.txt"), 3)


def test_a_hashed_split_holds_out_the_share_and_new_files_move_no_old_one():
    rows = split_rows(NAMES, 0.1)
    assert sorted(rows["train"] + rows["val"]) == list(range(400))
    assert 20 <= len(rows["val"]) <= 60
    fewer = split_rows(NAMES[::2], 0.1)
    assert {NAMES[::2][i] for i in fewer["val"]} == {NAMES[i] for i in rows["val"]} & set(NAMES[::2])


@pytest.mark.parametrize("share", [1e-9, 0.05, 1 - 1e-9])
def test_neither_side_of_a_split_is_empty(share):
    for count in (2, 3, 5):
        rows = split_rows(NAMES[:count], share)
        assert rows["train"]
        assert rows["val"]


def test_a_group_is_on_one_side_of_the_split():
    names = [f"{digit}_{speaker}_{i}.wav" for digit in range(3) for speaker in ("ann", "bob", "cy") for i in range(4)]
    rows = split_rows(names, 0.3, group="_([a-z]+)_")
    speakers = {split: {names[row].split("_")[1] for row in rows[split]} for split in ("train", "val")}
    assert not speakers["train"] & speakers["val"]
    assert sum(map(len, speakers.values())) == 3
    assert sorted(rows["train"] + rows["val"]) == list(range(len(names)))
    more = [*names, "9_ann_0.wav"]
    assert (rows["val"] == split_rows(more, 0.3, group="_([a-z]+)_")["val"]) is ("ann" not in speakers["val"])


@pytest.mark.parametrize(
    ("names", "group", "message"),
    [
        (["a_1", "b_2"], "(", "is no regular expression: missing"),
        (["a_1", "b_2"], "_", "group '_' has no part in parentheses"),
        (["a_1", "b"], "(.)_", "group '\\(.\\)_' finds nothing in b"),
        (["a_1", "a_2"], "(.)_", "group: all files are of one group, a, and cannot be split"),
        (["train/a_1", "val/a_2"], "(.)_", "group: a has files in train and in val: choose one split"),
    ],
)
def test_groups_that_cannot_be_kept_together_are_refused(names, group, message):
    with pytest.raises(FieldError, match=message):
        split_rows(names, 0.1, group)


def test_names_that_are_not_utf8_are_split_too():
    assert len(split_rows([os.fsdecode(b"\xff"), "b"], 0.5)["val"]) == 1


def test_class_folders_lie_below_the_split():
    names = ["train/cat/1", "train/bird/deep/2", "train/3", "val/cat/4"]
    assert classes_of(names) == ["cat", "bird", None, "cat"]
    assert conditions_of(classes_of(names), [0, 1, 2]) == ("none", "bird", "cat")
    assert classes_of(["cat/1", "cat/deep/2", "3"]) == ["cat", "cat", None]
    assert classes_of(["train/cat/1", "test/cat/2", "test/3"]) == ["cat", "cat", None]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["train/cat/1", "val/dog/2"], "no training file in the class dog"),
        (["train/1", "val/2"], "no training file lies in a class folder"),
        (["train/none/1", "val/none/2"], 'called "none"'),
    ],
)
def test_classes_that_cannot_be_learned_are_refused(names, message):
    with pytest.raises(ValueError, match=message):
        conditions_of(classes_of(names), [0])


def test_links_that_multiply_ways_are_refused(tmp_path):
    for depth in range(20):
        (tmp_path / f"{depth}").mkdir()
        for name in ("a", "b"):
            (tmp_path / f"{depth}" / name).symlink_to(tmp_path / f"{depth + 1}")
    (tmp_path / "20").mkdir()
    (tmp_path / "20" / "x.txt").write_text("x")
    with pytest.raises(ValueError, match=r"more than 100 link paths lead to .*; remove some links"):
        list(walk(tmp_path / "0"))
