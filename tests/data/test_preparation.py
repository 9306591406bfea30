"""Folders become the splits that decoding each file by hand would give, whatever the number of workers."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cotejo.data.collection import collect_images
from cotejo.data.decoding import decode_image
from cotejo.data.fetching import Fetcher
from cotejo.data.preparation import BASE_BYTES, map_side_by_side, prepare_images
from cotejo.data.readers import LabelledImages, read_published
from cotejo.data.sources import SOURCES, describe_source
from cotejo.data.splits import SPLITS, load_dataset, load_split, split_published
from cotejo.data.writing import SplitWriter
from cotejo.errors import DataError
from cotejo.schema.images import Data, Preprocess
from cotejo.schema.operations import parse_operations
from image_folders import RESIZE, draw, make_classes, make_splits, prepare, save
from saved_splits import save_splits

NAMES = ("deux mots", "niño", "x|y")


def read_all(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_the_splits_hold_every_file_of_the_folder_in_its_order(tmp_path):
    folder = make_splits(tmp_path / "pictures", *SPLITS, names=NAMES)
    prepare(folder, tmp_path / "out")
    for split in SPLITS:
        images, labels = load_split(tmp_path / "out", split)
        expected = [decode_image(folder / split / name / f"{n:03}.png") for name in NAMES for n in range(10)]
        np.testing.assert_array_equal(images, expected)
        np.testing.assert_array_equal(labels, np.repeat([0, 1, 2], 10))
    dataset = load_dataset(tmp_path / "out")
    assert (dataset.name, dataset.class_names, dataset.image_shape) == ("pictures", [*NAMES], (8, 8, 1))


def test_two_classes_are_enough(tmp_path):
    prepare(make_classes(tmp_path / "pictures", count=5), tmp_path / "out")
    assert load_dataset(tmp_path / "out").num_classes == 2


def test_the_bytes_do_not_depend_on_the_number_of_workers(tmp_path):
    folder = make_classes(tmp_path / "pictures", NAMES, count=30)
    for number in range(0, 30, 3):
        save(folder / NAMES[0] / f"{number:03}.png", draw(number, side=40 + number))
    made = []
    for workers in (1, 2, 7):
        _, card = prepare(folder, tmp_path / f"{workers}", workers, operations=[RESIZE])
        made.append((read_all(tmp_path / f"{workers}"), json.dumps(card)))
    assert made[0] == made[1] == made[2]


def test_writing_image_by_image_gives_the_bytes_of_saving_them_whole(tmp_path):
    images, labels = draw(0, side=90).reshape(-1, 6, 5, 3), np.arange(90) % 4
    for folder in ("whole", "streamed"):
        (tmp_path / folder).mkdir()
    split = LabelledImages(images, labels)
    described = save_splits(dict.fromkeys(SPLITS, split), tmp_path / "whole", "a", tuple("wxyz"), {})
    for name in SPLITS:
        with SplitWriter(tmp_path / "streamed", name) as writer:
            for image, label in zip(images, labels.tolist(), strict=True):
                writer.append(image, label)
            assert writer.finish().digest == described["splits"][name]["digest"]
    whole = read_all(tmp_path / "whole")
    del whole["dataset.json"]
    assert read_all(tmp_path / "streamed") == whole


@pytest.mark.parametrize("duplicates", ["drop", "keep", "fail"])
def test_a_published_set_is_written_as_its_authors_made_it(tmp_path, monkeypatch, duplicates):
    monkeypatch.chdir(tmp_path)
    raw = Path("data/raw")
    raw.mkdir(parents=True)
    source = SOURCES["digits"]
    Fetcher(1.0, tmp_path, None, tmp_path).fetch(source.files[0], raw)
    (raw / "source.json").write_text(json.dumps(describe_source("digits")))
    data = Data(name="digits", path=str(raw), color="auto", duplicates=duplicates, on_bad_file="fail")
    preprocess = Preprocess(validation_fraction=0.1, test_fraction=0.2, seed=0, operations=())
    for folder in ("whole", "streamed"):
        (tmp_path / folder).mkdir()
    prepare_images(collect_images(data, preprocess), data, (), tmp_path / "streamed", 2)
    splits = split_published(read_published("digits", raw, 10), 0.1, 0.2, 0)
    save_splits(splits, tmp_path / "whole", "digits", source.class_names, describe_source("digits"))
    assert read_all(tmp_path / "streamed") == read_all(tmp_path / "whole")


def test_one_image_in_colour_makes_the_study_one_in_colour(tmp_path):
    folder = make_splits(tmp_path / "pictures", "train", "test")
    _, card = prepare(folder, tmp_path / "grey")
    assert (card["color"], load_dataset(tmp_path / "grey").image_shape) == ("grey", (8, 8, 1))
    color = draw(99, channels=3)
    save(folder / "train/dog/last.png", color)
    _, card = prepare(folder, tmp_path / "color")
    assert (card["color"], load_dataset(tmp_path / "color").image_shape) == ("rgb", (8, 8, 3))
    first = load_split(tmp_path / "color", "test").images[0]
    np.testing.assert_array_equal(first, np.dstack([decode_image(folder / "test/cat/000.png")] * 3))
    described = json.loads((tmp_path / "color/dataset.json").read_text())
    assert described["color"] == "rgb"
    prepare(folder, tmp_path / "declared", color="grey")
    assert load_dataset(tmp_path / "declared").image_shape == (8, 8, 1)


def test_what_was_done_to_the_images_stands_beside_them(tmp_path):
    folder = make_classes(tmp_path / "pictures")
    prepare(folder, tmp_path / "plain")
    prepare(folder, tmp_path / "resized", operations=[{**RESIZE, "height": 4}])
    plain, resized = (json.loads((tmp_path / name / "dataset.json").read_text()) for name in ("plain", "resized"))
    assert "operations" not in plain
    assert resized["operations"] == [{**RESIZE, "height": 4}]
    assert resized["image_shape"] == [4, 8, 1]


def test_nothing_is_left_open_or_running_when_an_image_is_refused(tmp_path):
    folder = make_classes(tmp_path / "pictures", count=40)
    save(folder / "cat/large.png", draw(0, side=9))
    with pytest.raises(DataError, match="one size"):
        prepare(folder, tmp_path / "out")


def test_what_is_computed_ahead_comes_in_order_and_an_error_at_its_place():
    def invert(number):
        return 1 / (5 - number)

    found = map_side_by_side(invert, range(100), 3)
    assert [next(found) for _ in range(5)] == [(number, 1 / (5 - number)) for number in range(5)]
    with pytest.raises(ZeroDivisionError):
        next(found)


@pytest.mark.parametrize("room", [0, 5, 12, math.inf])
def test_what_runs_or_waits_fits_or_is_alone(room):
    weights, running, held = [5, 1, 7, 13, 2, 2, 2, 2, 5, 5], [], []

    def note(weight):
        running.append(weight)
        held.append(list(running))
        return -weight

    found = []
    for weight, made in map_side_by_side(note, weights, 4, lambda weight: weight, room):
        running.remove(weight)
        found.append((weight, made))
    assert found == [(weight, -weight) for weight in weights]
    assert all(sum(some) <= room or len(some) == 1 for some in held)


LIMITED = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from cotejo.data.collection import collect_images
from cotejo.data.preparation import BASE_BYTES, prepare_images
from cotejo.schema.images import Data, Preprocess
from cotejo.schema.operations import parse_operations
from image_folders import RESIZE
from peak_memory import measure_peak
folder, out, room = sys.argv[2:]
preprocess = Preprocess(validation_fraction=0.5, test_fraction=0.4, seed=0, operations=parse_operations([RESIZE], ""))
data = Data(name="directory", path=folder, color="auto", duplicates="drop", on_bad_file="fail")
Path(out).mkdir()
collection = collect_images(data, preprocess)
before = measure_peak()
limit = BASE_BYTES + int(room) if int(room) else None
prepare_images(collection, data, preprocess.operations, Path(out), 8, limit)
print(measure_peak() - before)
"""


@pytest.mark.slow
def test_a_memory_limit_bounds_what_is_read_in_parallel_and_changes_no_byte(tmp_path):
    for number in range(8):
        file = tmp_path / "pictures" / ("cat", "dog")[number % 2] / f"{number}.png"
        save(file, np.full((2000, 2000, 4), 20 * number, np.uint8), compress_level=1)
    grown = {}
    for room in (0, 200_000_000):  # two images of 4 megapixels, each of which may take 92 MB
        arguments = ["tests", str(tmp_path / "pictures"), str(tmp_path / str(room)), str(room)]
        command = [sys.executable, "-c", LIMITED, *arguments]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        grown[room] = int(done.stdout)
        assert done.stderr == ""
    assert read_all(tmp_path / "0") == read_all(tmp_path / "200000000")
    assert grown[0] > 300e6
    assert grown[200_000_000] < 200e6


def test_the_first_image_that_alone_may_take_more_than_the_limit_is_named(tmp_path, capsys):
    folder = make_splits(tmp_path / "pictures", *SPLITS)
    for name in ("one", "three"):
        save(folder / f"test/cat/{name}.png", np.full((4000, 4000), len(name), np.uint8), compress_level=1)
    data = Data(name="directory", path=str(folder), color="auto", duplicates="keep", on_bad_file="fail")
    operations = parse_operations([RESIZE], "the test")
    preprocess = Preprocess(validation_fraction=0.1, test_fraction=0.2, seed=0, operations=operations)
    prepare_images(collect_images(data, preprocess), data, operations, tmp_path, 2, BASE_BYTES + 100_000_000)
    assert capsys.readouterr().err == (
        "preprocess: test/cat/one.png alone may take 0.87 GB, more than runtime.memory_limit, 0.60 GB; such images are "
        "read one at a time. Make them smaller, or raise the limit.\n"
    )
    assert len(load_split(tmp_path, "test").images) == 22


MEASURE = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from image_folders import prepare
from peak_memory import measure_peak
folder, small, out = map(Path, sys.argv[2:])
prepare(small, out, 2)
before = measure_peak()
prepare(folder, out, 2)
print(measure_peak() - before)
print(sum(f.stat().st_size for f in out.iterdir()))
"""


def test_memory_does_not_grow_with_the_set(tmp_path):
    """150 MB of pixels may take what ten images take, and little more."""
    for name, count in (("small", 4), ("large", 60)):
        for number in range(2 * count):
            file = tmp_path / name / ("cat", "dog")[number % 2] / f"{number}.bmp"
            pixels = np.broadcast_to(np.uint8(1) * (np.arange(640, dtype=np.uint16)[:, None] * number >> 3), (640, 640))
            save(file, np.dstack([pixels.astype(np.uint8)] * 3))
    command = [sys.executable, "-c", MEASURE, "tests", *(str(tmp_path / name) for name in ("large", "small", "out"))]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    grown, written = map(int, printed.split())
    assert written > 140e6
    assert grown < 40e6
