"""New pictures on their way to a model: which are taken, what is done to them, how many are held at once."""

import json
import os
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from cotejo.data.collection import collect_images
from cotejo.data.fetching import Fetcher
from cotejo.data.preparation import prepare_images
from cotejo.data.sources import SOURCES, describe_source
from cotejo.schema.operations import parse_operations
from cotejo.serving.archives import Archive
from cotejo.serving.facts import Facts, load_facts
from cotejo.serving.pictures import Picture, list_pictures, prepare_picture, stream_batches
from declared import declare

OPERATIONS = [
    {"name": "resize", "height": 12, "width": 12, "interpolation": "cubic", "keep_aspect": True, "pad_value": 0},
    {"name": "gaussian_blur", "kernel_size": 3, "sigma": 0.8},
    {"name": "normalize", "low": 1.0, "high": 99.0},
]
GREY = Facts(("no", "yes"), (8, 8, 1), (), None)


def save(path, pixels, mode=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    (image.convert(mode) if mode else image).save(path)
    return path


def noise(*shape):
    return np.random.default_rng(3).integers(0, 256, shape, dtype=np.uint8)


def test_a_folder_gives_its_pictures_by_name_and_counts_what_it_leaves_out(tmp_path):
    for name in ("b/2.png", "b/10.PNG", "a/ñandú 1.jpg", "a/.hidden.png", ".git/3.png", "z.bmp", "scan.tif"):
        save(tmp_path / name, noise(8, 8, 1))
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "a/.DS_Store").write_text("x")
    listing = list_pictures([str(tmp_path)])
    assert [str(path.relative_to(tmp_path)) for path in listing.files] == [
        "scan.tif",
        "z.bmp",
        "a/ñandú 1.jpg",
        "b/10.PNG",
        "b/2.png",
    ]
    assert listing.skipped == {str(tmp_path): 3}  # what is in .git isn't looked at
    assert listing.faults == []


def test_paths_that_stand_for_no_picture_are_said_and_the_rest_is_kept_in_order(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.txt").write_text("named itself, so it is tried")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    save(tmp_path / "a.png", noise(8, 8, 1))
    names = ["text.txt", "missing.png", "empty", "dangling", "a.png"]
    listing = list_pictures([str(tmp_path / name) for name in names])
    assert [path.name for path in listing.files] == ["text.txt", "a.png"]
    said = [f"{Path(fault.file).name}: {fault.error}" for fault in listing.faults]
    assert said == [
        "missing.png: expected a picture or a folder. Received: no such file or folder.",
        "empty: expected a folder with pictures (.bmp, .gif, .jfif, .jpe, .jpeg, .jpg, .png, .webp). Received: one "
        "without any.",
        "dangling: expected a picture or a folder. Received: neither a file nor a folder.",
    ]


def test_a_pipe_in_a_folder_is_said_and_not_waited_for(tmp_path):
    save(tmp_path / "a.png", noise(8, 8, 1))
    (tmp_path / "lost.png").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe.png")
    listing = list_pictures([str(tmp_path)])
    assert [path.name for path in listing.files] == ["a.png", "lost.png"]
    assert listing.faults == [
        (str(tmp_path / "pipe.png"), "expected a picture or a folder. Received: neither a file nor a folder.")
    ]


@pytest.mark.parametrize("operations", [[], OPERATIONS])
@pytest.mark.parametrize("color", ["auto", "rgb"])
def test_a_training_file_gives_the_bytes_that_the_model_was_trained_on(tmp_path, operations, color):
    digits = load_digits()
    for row, (pixels, label) in enumerate(zip(digits.images[:200], digits.target, strict=False)):
        save(tmp_path / f"set/digit {label}/{row}.png", (pixels * 15.9).astype(np.uint8)[..., None])
    data = declare("data", name="directory", path=str(tmp_path / "set"), color=color)
    collection = collect_images(data, declare("preprocess", operations=operations))
    processed = tmp_path / "data/processed"
    processed.mkdir(parents=True)
    prepare_images(collection, data, parse_operations(operations, "test"), processed, workers=2)
    facts = load_facts(Archive(tmp_path / "none.keras", "none.keras", "none", None), tmp_path)
    for split, samples in collection.splits.items():
        trained_on = np.load(processed / f"{split}_images.npy")
        assert len(samples) == len(trained_on) > 0
        for sample, pixels in zip(samples, trained_on, strict=True):
            assert prepare_picture(sample.content, facts).pixels.tobytes() == pixels.tobytes()


@pytest.mark.parametrize(
    ("facts", "pixels", "expected"),
    [
        # grey all over, whatever the file's mode
        (GREY, np.repeat(noise(8, 8, 1), 3, axis=2), noise(8, 8, 1)),
        (GREY._replace(image_shape=(8, 8, 3)), noise(8, 8, 1), np.repeat(noise(8, 8, 1), 3, axis=2)),
        (GREY._replace(image_shape=(8, 8, 3), color="rgb"), noise(8, 8, 1), np.repeat(noise(8, 8, 1), 3, axis=2)),
        (GREY._replace(image_shape=(8, 8, 3)), noise(8, 8, 3), noise(8, 8, 3)),
    ],
)
def test_channels_are_given_where_nothing_is_lost(tmp_path, facts, pixels, expected):
    picture = prepare_picture(save(tmp_path / "a.png", pixels), facts)
    assert np.array_equal(picture.pixels, expected)


def test_colours_are_thrown_away_only_where_the_study_does_so_too(tmp_path):
    path = save(tmp_path / "a.png", noise(8, 8, 3))
    assert prepare_picture(path, GREY).error == (
        "expected a picture in grey, 1 channel, as the model was trained on. Received: one in colour, 3 channels. "
        "Convert it to grey, or train on images in colour."
    )
    weighed = noise(8, 8, 3) @ [0.299, 0.587, 0.114]
    for facts in (GREY._replace(color="grey"), GREY._replace(operations=parse_operations([{"name": "grayscale"}], ""))):
        pixels = prepare_picture(path, facts).pixels
        assert abs(pixels[..., 0] - weighed).max() <= 1


def test_colours_become_what_a_published_grey_set_is_before_the_edges_of_them_are_drawn(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("data/raw").mkdir(parents=True)
    Fetcher(1.0, tmp_path, None, tmp_path).fetch(SOURCES["digits"].files[0], Path("data/raw"))
    Path("data/raw/source.json").write_text(json.dumps(describe_source("digits")))
    operations = [{"name": "canny", "low": 40.0, "high": 120.0, "aperture_size": 3, "l2_gradient": True}]
    data, preprocess = declare("data", name="digits"), declare("preprocess", operations=operations)
    Path("data/processed").mkdir()
    prepare_images(collect_images(data, preprocess), data, preprocess.operations, Path("data/processed"), 2)
    facts = load_facts(Archive(tmp_path / "none.keras", "none.keras", "none", None), tmp_path)
    pixels = cv2.resize(noise(3, 3, 3), (8, 8), interpolation=cv2.INTER_CUBIC)
    grey = np.asarray(Image.fromarray(pixels).convert("L"))
    expected = cv2.Canny(grey, 40, 120, apertureSize=3, L2gradient=True)
    assert not np.array_equal(expected, cv2.Canny(pixels, 40, 120, apertureSize=3, L2gradient=True))
    assert np.array_equal(prepare_picture(save(tmp_path / "a.png", pixels), facts).pixels[..., 0], expected)


def test_a_picture_of_another_size_is_refused_with_both_sizes_and_what_to_declare(tmp_path):
    path = save(tmp_path / "a.png", noise(6, 9, 1))
    assert prepare_picture(path, GREY).error == (
        "expected a picture of 8x8 pixels (width x height), as the model was trained on. Received: one of 9x6. Make it "
        "that size, or declare a resize in preprocess.operations and train again."
    )
    assert (
        prepare_picture(path, GREY._replace(image_shape=(12, 12, 1), operations=parse_operations(OPERATIONS, ""))).error
        == ""
    )


def test_a_file_that_is_no_picture_is_said_without_its_name_twice(tmp_path):
    path = tmp_path / "a.png"
    path.write_text("no picture")
    assert prepare_picture(path, GREY) == Picture(
        path, None, "expected an image as JPEG, PNG, BMP, WebP or GIF. Received: something else, 10 bytes."
    )


def test_batches_come_in_order_and_no_more_than_two_are_held():
    prepared, consumed, most, lock = 0, 0, 0, threading.Lock()

    def prepare(path):
        nonlocal prepared, most
        with lock:
            prepared += 1
            most = max(most, prepared - consumed)
        return Picture(path, None)

    files = [Path(str(number)) for number in range(1003)]
    seen = []
    for batch in stream_batches(files, prepare, 10):
        seen += [picture.path for picture in batch]
        with lock:
            consumed += len(batch)
    assert seen == files
    assert most <= 20
    assert list(stream_batches([], prepare, 10)) == []


def test_the_next_batch_is_read_while_the_caller_works_on_one():
    read = {number: threading.Event() for number in range(4)}

    def prepare(path):
        read[int(path.name)].set()
        return Picture(path, None)

    batches = stream_batches([Path(str(number)) for number in range(4)], prepare, 2)
    next(batches)
    assert all(read[number].wait(30) for number in (2, 3))
    batches.close()
