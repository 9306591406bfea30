"""What would spoil a study stops it, with file names and what to do; what is dropped is counted."""

import shutil

import numpy as np
import pytest
from PIL import Image
from ruamel.yaml import YAML

from cotejo.data.splits import load_split
from cotejo.errors import DataError
from image_folders import RESIZE, draw, make_classes, make_splits, prepare, save

BLUR = {"name": "median_blur", "kernel_size": 7}


def copy(folder, source, target):
    """Puts the pixels of a file into another one, as BMP: other bytes, the same picture."""
    with Image.open(folder / source) as image:
        image.save(folder / target)


def refuse(folder, out, **changes):
    """Returns the lines with which a folder is refused, without the folder's own name."""
    with pytest.raises(DataError) as raised:
        prepare(folder, out, **changes)
    return str(raised.value).replace(str(folder), "FOLDER").splitlines()


def count(out):
    return {split: np.bincount(load_split(out, split).labels).tolist() for split in ("train", "val", "test")}


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def folder(tmp_path):
    """Two classes of 10 in train, val and test."""
    return make_splits(tmp_path / "pictures", "train", "val", "test")


def spoil(folder):
    (folder / "train/cat/empty.png").touch()
    (folder / "train/dog/text.jpg").write_text("hello")
    whole = (folder / "train/cat/000.png").read_bytes()
    (folder / "val/dog/cut.png").write_bytes(whole[:50])
    (folder / "test/cat/lost.png").symlink_to("nowhere")


def test_files_that_cannot_be_read_are_all_named(folder, out):
    spoil(folder)
    (line,) = refuse(folder, out)
    assert line == (
        "FOLDER: expected images as JPEG, PNG, BMP, WebP or GIF. Received: 4 files that can't be read: "
        "test/cat/lost.png (No such file or directory); val/dog/cut.png (a damaged one, image file is truncated); "
        "train/cat/empty.png (an empty file); train/dog/text.jpg (something else, 5 bytes). Mend or remove them, or "
        "leave them out with data.on_bad_file: skip."
    )


def test_of_many_bad_files_the_first_are_named_and_the_rest_counted(folder, out):
    for number in range(12):
        (folder / f"train/cat/empty {number:02}.png").touch()
    (line,) = refuse(folder, out)
    assert "12 files that can't be read" in line
    assert "empty 04.png (an empty file); and 7 more." in line
    assert "empty 05" not in line


def test_a_link_in_a_circle_is_a_file_that_cannot_be_read(folder, out):
    (folder / "train/cat/round.png").symlink_to("round.png")
    (line,) = refuse(folder, out)
    assert "1 file that can't be read: train/cat/round.png (Too many levels of symbolic links)" in line


def test_a_file_that_is_left_out_does_not_make_the_study_one_in_colour(folder, out):
    whole = save(folder / "val/cat/whole.jpg", draw(0, side=64, channels=3))
    (folder / "test/cat/cut.jpg").write_bytes(whole.read_bytes()[:2000])
    whole.unlink()
    _, card = prepare(folder, out, on_bad_file="skip")
    assert (card["color"], card["unreadable"]["count"], card["image_shape"]) == ("grey", 1, [8, 8, 1])
    save(folder / "train/dog/good.png", draw(99, channels=3))
    _, card = prepare(folder, out, on_bad_file="skip")
    assert (card["color"], card["image_shape"]) == ("rgb", [8, 8, 3])


def test_skipped_files_are_left_out_and_named_in_the_card(folder, out, tmp_path):
    prepare(folder, tmp_path / "whole")
    spoil(folder)
    _, card = prepare(folder, out, on_bad_file="skip")
    assert card["unreadable"]["count"] == 4
    assert card["unreadable"]["files"][2] == "train/cat/empty.png (an empty file)"
    for file in (tmp_path / "whole").iterdir():
        assert (out / file.name).read_bytes() == file.read_bytes(), "as if they had never been there"


def test_a_class_that_has_no_readable_image_left_is_named(folder, out):
    for file in (folder / "val/dog").iterdir():
        file.write_bytes(b"")
    (line,) = refuse(folder, out, on_bad_file="skip")
    assert "expected images of every class in val. Received: none of dog" in line


def test_images_of_other_sizes_are_counted_with_the_operation_that_mends_it(folder, out):
    for number in range(3):
        save(folder / f"train/cat/wide {number}.png", draw(number, side=20)[:9])
    save(folder / "val/dog/large.png", draw(9, side=99))
    (line,) = refuse(folder, out)
    assert (
        "such as 8x8 (width x height) of test/cat/000.png. Received: 20x9 (3, train/cat/wide 0.png the first)" in line
    )
    assert "99x99 (1, val/dog/large.png the first)" in line
    assert "Add to preprocess.operations: {name: resize, height: 8, width: 8, interpolation: area" in line
    prepare(folder, out, operations=[RESIZE])
    assert load_split(out, "train").images.shape == (23, 8, 8, 1)


def test_the_advised_size_is_a_studys_not_a_photos(folder, out):
    save(folder / "test/cat/000.png", np.zeros((600, 400), np.uint8))
    (line,) = refuse(folder, out)
    advised = line.partition("Add to preprocess.operations: ")[2].rstrip(".")
    assert advised.startswith("{name: resize, height: 224, width: 149, interpolation: area, keep_aspect: true")
    prepare(folder, out, operations=[YAML(typ="safe").load(advised)])
    assert load_split(out, "test").images.shape == (20, 224, 149, 1)


@pytest.mark.parametrize("policy", ["fail", "skip"])
def test_what_an_operation_cannot_do_is_no_fault_of_the_files_and_never_skipped(folder, out, policy):
    for number in range(7):
        save(folder / f"train/cat/small {number}.png", draw(number, side=6))
    (line,) = refuse(folder, out, operations=[BLUR, RESIZE], on_bad_file=policy)
    assert line == (
        "FOLDER: expected images to which preprocess.operations can be applied. Received: 7 images to which they "
        "can't: train/cat/small 0.png; train/cat/small 1.png; train/cat/small 2.png; train/cat/small 3.png; "
        "train/cat/small 4.png; and 2 more. Of the first: expected a picture of at least 7x7 pixels for median_blur "
        "with kernel_size 7. Received: 6x6 (width x height). Declare a resize before it in preprocess.operations, or "
        "a smaller kernel_size."
    )


def test_splits_that_are_the_same_pictures_are_called_so(folder, out):
    shutil.rmtree(folder / "train")
    shutil.copytree(folder / "test", folder / "train")
    (line,) = refuse(folder, out)
    assert line == (
        "FOLDER: expected pictures of its own in train. Received: 20, all of which test has, pixel by pixel: the "
        "splits are the same pictures. Put others into one of them, or remove it."
    )


def test_a_folder_of_photos_is_not_read_to_its_end_to_say_so(tmp_path, out):
    make_classes(tmp_path / "photos", count=150)
    save(tmp_path / "photos/cat/a.png", draw(1, side=9))
    for name in ("cat", "dog"):
        for number in range(150):
            side = 9 if number % 2 else 8
            save(tmp_path / f"photos/{name}/{number:03}.png", draw(number + 500 * (name == "dog"), side=side))
    (line,) = refuse(tmp_path / "photos", out)
    assert ", and reading stopped there. Add to preprocess.operations" in line


def test_a_picture_in_two_classes_stops_the_study_whatever_the_policy(folder, out):
    copy(folder, "test/dog/003.png", "train/cat/again.bmp")
    copy(folder, "train/cat/004.png", "train/dog/again.bmp")
    for policy in ("drop", "keep"):
        (line,) = refuse(folder, out, duplicates=policy)
        assert "Received: 2 times the same pixels in two classes" in line
        assert "test/dog/003.png (dog) and train/cat/again.bmp (cat)" in line
        assert "train/cat/004.png (cat) and train/dog/again.bmp (dog)" in line


@pytest.fixture
def doubled(folder):
    """With pictures of test in train and val, one of val in train, and one twice in train; none as the same bytes."""
    copy(folder, "test/cat/000.png", "train/cat/again.bmp")
    copy(folder, "test/dog/001.png", "train/dog/again.bmp")
    copy(folder, "test/dog/002.png", "val/dog/again.bmp")
    copy(folder, "val/cat/003.png", "train/cat/third.bmp")
    copy(folder, "train/cat/004.png", "train/cat/fourth.bmp")
    return folder


def test_duplicates_leave_train_and_then_val_never_test(doubled, out):
    prepared, card = prepare(doubled, out, duplicates="drop")
    assert count(out) == {"train": [11, 10], "val": [10, 10], "test": [10, 10]}
    test = {image.tobytes() for image in load_split(out, "test").images}
    for split in ("train", "val"):
        assert not test & {image.tobytes() for image in load_split(out, split).images}
    assert card["duplicates"]["across_splits"] == {"train in test": 2, "train in val": 1, "val in test": 1}
    assert card["duplicates"]["removed"] == {"train": 3, "val": 1}
    assert card["duplicates"]["within_splits"] == {"train": 1}
    assert ["train/cat/again.bmp", "test/cat/000.png"] in card["duplicates"]["examples"]
    assert prepared.count_images()["duplicates_removed"] == 4


def test_duplicates_that_are_kept_are_counted_all_the_same(doubled, out):
    _, card = prepare(doubled, out, duplicates="keep")
    assert count(out) == {"train": [13, 11], "val": [10, 11], "test": [10, 10]}
    assert card["duplicates"]["across_splits"] == {"train in test": 2, "train in val": 1, "val in test": 1}
    assert card["duplicates"]["removed"] == {}


def test_duplicates_can_stop_the_study(doubled, out):
    (line,) = refuse(doubled, out, duplicates="fail")
    assert "Received: 4 pictures in two, pixel by pixel: val/dog/again.bmp is test/dog/002.png" in line
    assert "Remove them, or have it done with data.duplicates: drop." in line


def test_a_grey_picture_and_its_copy_in_colour_are_one_in_a_study_in_colour(folder, out):
    grey = draw(0)
    save(folder / "train/cat/color.png", np.dstack([grey] * 3))
    save(folder / "test/cat/grey.bmp", grey)
    shutil.rmtree(folder / "val")
    (line,) = refuse(folder, out, duplicates="fail")
    assert "train/cat/color.png is test/cat/grey.bmp" in line


def test_all_faults_come_at_once(doubled, out):
    spoil(doubled)
    save(doubled / "train/cat/wide.png", draw(5, side=20))
    copy(doubled, "train/cat/005.png", "train/dog/conflict.bmp")
    lines = refuse(doubled, out, duplicates="fail")
    assert lines[0] == "FOLDER has 4 faults; nothing was written."
    assert [line.split("Received")[0] for line in lines[1:]] == [
        "  expected images as JPEG, PNG, BMP, WebP or GIF. ",
        "  expected images of one size, such as 8x8 (width x height) of test/cat/000.png. ",
        "  expected one class for each picture. ",
        "  expected each picture in one split. ",
    ]
