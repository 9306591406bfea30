"""What a folder of class folders holds, and every layout that would be misread."""

import json
import os
import unicodedata
from pathlib import Path

import pytest

from cotejo.data.collection import split_listing
from cotejo.data.directory import list_directory
from cotejo.errors import DataError
from image_folders import draw, make_classes, make_splits, save

NAMES = ("10", "9", "a,b", "deux mots", "niño", "train", "x|y <b> $5 & $6", "été", "図")


def list_names(listing, split=""):
    return [f"{listing.class_names[label]}/{path.name}" for path, label in listing.splits[split]]


def test_classes_are_the_folders_names_sorted_by_code_point(tmp_path):
    listing = list_directory(make_classes(tmp_path, NAMES, count=3))
    assert listing.class_names == NAMES == tuple(sorted(NAMES))
    assert list_names(listing) == [f"{name}/{number:03}.png" for name in NAMES for number in range(3)]


def test_the_two_spellings_of_an_accent_are_one_class(tmp_path):
    apart = unicodedata.normalize("NFD", "été")
    make_classes(tmp_path / "train", ("fall", "été"))
    make_classes(tmp_path / "test", ("fall", apart), first=100)
    listing = list_directory(tmp_path)
    assert listing.class_names == ("fall", "été")
    assert len(listing.splits["test"]) == 20
    make_classes(tmp_path / "train", (apart,))
    with pytest.raises(DataError, match="the same name in two spellings of its accents"):
        list_directory(tmp_path)


def test_the_order_is_that_of_the_names_not_of_the_file_system(tmp_path, monkeypatch):
    make_classes(tmp_path, NAMES, count=5)
    expected, scan = list_directory(tmp_path), os.scandir
    monkeypatch.setattr(os, "scandir", lambda folder: sorted(scan(folder), key=lambda entry: entry.inode() * 7919 % 31))
    assert list_directory(tmp_path) == expected


def test_what_is_no_image_is_left_alone_and_counted_by_kind(tmp_path):
    make_classes(tmp_path)
    for name in (".DS_Store", "._000.png", "Thumbs.db", "notes.TXT", "README", "deeper/a.png"):
        save(tmp_path / "cat" / name, draw(0), format="PNG")
    save(tmp_path / ".trash/0.png", draw(0))
    save(tmp_path / "cover.jpg", draw(0))
    listing = list_directory(tmp_path)
    assert len(listing.splits[""]) == 20
    assert listing.skipped == {
        ".db": 1, ".txt": 1, "hidden": 3, "images in folders within a class's folder": 1,
        "images outside of a class's folder": 1,
        "no suffix": 1,
    }  # fmt: skip


def test_every_suffix_of_an_image_counts_in_any_case_and_so_do_pictures_that_we_cannot_read(tmp_path):
    make_classes(tmp_path)
    for name in ("a.JPG", "b.jpeg", "c.BMP", "d.webp", "e.Gif", "f.tiff", "g.HEIC"):
        (tmp_path / "cat" / name).touch()
    assert len(list_directory(tmp_path).splits[""]) == 27


def test_links_to_files_are_followed_and_those_to_nothing_are_kept_for_the_gate(tmp_path):
    folder = make_classes(tmp_path / "images")
    outside = save(tmp_path / "outside.png", draw(77))
    (folder / "cat/link.png").symlink_to(outside)
    (folder / "cat/lost.png").symlink_to("nowhere")
    os.mkfifo(folder / "cat/pipe.png")
    listing = list_directory(folder)
    assert len(listing.splits[""]) == 22
    assert listing.skipped == {"neither file nor folder": 1}


def test_a_link_in_a_circle_is_kept_for_the_gate_if_it_is_named_as_a_picture_and_else_left_out(tmp_path):
    folder = make_classes(tmp_path / "images")
    for name in ("cat/round.png", "cat/notes.txt", "cat/round", "round"):
        (folder / name).symlink_to(Path(name).name)
    listing = list_directory(folder)
    assert "cat/round.png" in list_names(listing)
    assert (len(listing.splits[""]), listing.skipped) == (21, {".txt": 1, "no suffix": 2})


def test_a_linked_class_is_refused_since_dvc_would_not_see_a_change_in_it(tmp_path):
    folder = make_classes(tmp_path / "images")
    make_classes(tmp_path / "elsewhere", ("bird",))
    (folder / "bird").symlink_to(tmp_path / "elsewhere/bird")
    with pytest.raises(DataError, match=r"bird: expected a folder. Received: a link to one, into which DVC"):
        list_directory(folder)


def test_the_splits_of_a_folder_are_its_own(tmp_path):
    make_splits(tmp_path, "train", "val", "test")
    listing = list_directory(tmp_path)
    splits = split_listing(listing, tmp_path, 0.1, 0.1, seed=0)
    assert {name: len(files) for name, files in splits.items()} == {"train": 20, "val": 20, "test": 20}
    assert all(path.parts[-3] == name for name, files in splits.items() for path, _ in files)


def test_validation_comes_out_of_train_where_there_is_none(tmp_path):
    listing = list_directory(make_splits(tmp_path, "train", "test"))
    splits = split_listing(listing, tmp_path, 0.2, 0.9, seed=0)
    assert {name: len(files) for name, files in splits.items()} == {"train": 16, "val": 4, "test": 20}
    assert sorted([*splits["train"], *splits["val"]]) == list(listing.splits["train"])


def test_one_level_of_classes_is_split_in_proportion_and_by_the_seed(tmp_path):
    listing = list_directory(make_classes(tmp_path, ("cat", "dog", "eel"), count=20))
    first, again, other = (split_listing(listing, tmp_path, 0.25, 0.2, seed) for seed in (0, 0, 1))
    for name, count in (("train", 12), ("val", 4), ("test", 4)):
        assert [sum(file.label == label for file in first[name]) for label in range(3)] == [count] * 3
    assert sorted(file for files in first.values() for file in files) == sorted(listing.splits[""])
    assert first == again != other


def test_a_class_may_be_called_train(tmp_path):
    listing = list_directory(make_classes(tmp_path, ("bus", "test", "train")))
    assert listing.class_names == ("bus", "test", "train")
    assert list(listing.splits) == [""]


def test_a_folder_may_say_where_it_is_from(tmp_path):
    make_classes(tmp_path)
    (tmp_path / "source.json").write_text(json.dumps({"title": "Cats", "licence": "CC0", "other": 1}))
    listing = list_directory(tmp_path)
    assert (listing.source, listing.skipped) == ({"title": "Cats", "licence": "CC0"}, {})
    for content in ("{", '{"title": 3}', "[]"):
        (tmp_path / "source.json").write_text(content)
        with pytest.raises(DataError, match=r"source.json: expected JSON with title, homepage, licence as text"):
            list_directory(tmp_path)


def change(kind, folder):
    """Makes a folder that can't be a study."""
    if kind == "missing":
        return folder / "none"
    if kind == "a file":
        return save(folder / "a.png", draw(0))
    if kind == "train alone":
        return make_splits(folder, "train")
    if kind == "valid":
        return make_splits(folder, "train", "test", "valid")
    if kind in ("Train", "testing"):
        return make_splits(folder, *{"Train": ("Test", "Train"), "testing": ("testing", "training")}[kind])
    if kind == "Test beside train":
        return make_splits(folder, "train", "Test")
    if kind == "wrapped":
        return make_splits(folder / "flowers", "train", "test").parent
    if kind == "holds the study":
        return Path.cwd().parent
    if kind in ("splits of images", "Split of images"):
        return make_classes(folder, {"s": ("train", "val", "test"), "S": ("Training",)}[kind[0]])
    if kind == "one class":
        return make_classes(folder, ("cat",))
    if kind == "flat":
        save(folder / "0.png", draw(0))
    if kind in ("few", "few in train"):
        make_classes(folder if kind == "few" else make_splits(folder, "train", "test") / "train", ("eel",), count=1)
        return make_classes(folder) if kind == "few" else make_classes(folder / "test", ("eel",)).parent
    if kind == "missing in test":
        make_classes(make_splits(folder, "train", "test") / "train", ("eel", "fox"))
    if kind == "only text":
        make_classes(folder, ("a", "b"), count=0)
        for name in "ab":
            (folder / name).mkdir()
            (folder / name / "notes.txt").touch()
    if kind == "not unicode":
        make_classes(make_classes(folder), (os.fsdecode(b"caf\xe9"),))
    return folder


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("missing", r"data.path: expected a folder of images. Received: .*none, no such folder. Correct the path"),
        ("a file", r"data.path: expected a folder of images. Received: .*a.png, a file"),
        ("train alone", r"expected train and test. Received: no test. Make it, or .* data.path: .*/train"),
        ("valid", r"expected train, test and perhaps val. Received: valid beside them. Did you mean val\?"),
        ("Train", r"expected train, test .*Received: Test; Train. Did you mean test, train\? Rename them"),
        ("testing", r"Received: testing; training. Did you mean test, train\? Rename them"),
        ("Test beside train", r"Received: Test beside them. Did you mean test\?"),
        ("wrapped", r"Received: one folder, flowers, with folders in it. Did you mean data.path: .*/flowers\?"),
        (
            "splits of images",
            r"a folder for each class. Received: test; train; val, .* the level of the classes is miss",
        ),
        ("Split of images", r"Received: Training, which name splits; .* a folder of its name, such as train/cat"),
        ("holds the study", r"expected a folder of images. Received: .*, which holds the study itself"),
        ("one class", r"expected a folder for each of two or more classes.* Received: one class, cat"),
        ("flat", r"two or more classes.* Received: none. Left alone: images outside of a class's folder \(1\)"),
        ("empty", r"two or more classes.* Received: none. See docs/data.md"),
        ("few", r"expected 3 or more images of each class, for train, val and test. Received: eel with 1"),
        ("few in train", r"expected 2 or more images of each class in train, for train and val. Received: eel with 1"),
        ("missing in test", r"expected 1 or more images of each class in test. Received: eel with 0; fox with 0"),
        ("only text", r"3 or more images of each class.*: a with 0; b with 0. Left alone: .txt \(2\)"),
        ("not unicode", r"expected class names in Unicode. Received: caf\\udce9. Rename the folder"),
    ],
)
def test_a_layout_that_cannot_be_a_study_is_refused_with_what_to_do(tmp_path, kind, said):
    with pytest.raises(DataError, match=said):
        list_directory(change(kind, tmp_path))


def test_a_class_that_a_fraction_leaves_without_images_is_named(tmp_path):
    make_classes(tmp_path, ("cat", "dog"), count=40)
    make_classes(tmp_path, ("eel",), count=3)
    listing = list_directory(tmp_path)
    with pytest.raises(DataError, match=r"every class in test. Received: none of eel. Add images, or raise"):
        split_listing(listing, tmp_path, 0.1, 0.1, seed=0)


def test_all_faults_of_a_layout_are_said_at_once(tmp_path):
    make_splits(tmp_path, "train", "valid")
    with pytest.raises(DataError, match="has 2 faults; nothing was written") as raised:
        list_directory(tmp_path)
    assert len(str(raised.value).splitlines()) == 3


def test_a_folder_within_the_study_is_named_from_there(tmp_path, monkeypatch):
    make_classes(tmp_path / "images")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"Write images: dvc.lock has to hold for other machines"):
        list_directory(tmp_path / "images")
