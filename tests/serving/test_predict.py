"""`cotejo predict` as a user runs it, with a model of the digits that Keras itself is asked beside it."""

import csv
import json
import os
import shutil
from functools import partial

import keras
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from command import run_cotejo
from cotejo.data.readers import LabelledImages
from cotejo.data.splits import PublishedSplits, split_published
from cotejo.training.archive import save_model
from saved_splits import save_splits
from terminal import ESCAPE, hide_terminal_variables, record_process, run_on_terminal, watch
from warm import WarmProcess

CLASSES = ("null", "eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun")


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A folder with prepared digits, a small net trained on them, and pictures: the test images as files."""
    folder = tmp_path_factory.mktemp("study")
    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)[..., None]
    splits = split_published(PublishedSplits(LabelledImages(images, digits.target.astype(np.int64)), None), 0.1, 0.2, 0)
    (folder / "data/processed").mkdir(parents=True)
    save_splits(splits, folder / "data/processed", "digits", CLASSES, {})
    keras.utils.set_random_seed(0)
    net = keras.Sequential(
        [keras.Input((8, 8, 1), dtype="uint8"), keras.layers.Rescaling(1 / 255), keras.layers.Flatten(),
         keras.layers.Dense(10, activation="softmax")]
    )  # fmt: skip
    net.compile(keras.optimizers.Adam(0.05), "sparse_categorical_crossentropy", jit_compile=False)
    net.fit(*splits["train"], epochs=3, batch_size=64, verbose=0)
    path = folder / "models/lenet/seed-0/model.keras"
    path.parent.mkdir(parents=True)
    save_model(net, path)
    (folder / "pictures").mkdir()
    (folder / "folder.png").mkdir()
    for row, image in enumerate(splits["test"].images[:150]):
        Image.fromarray(image[..., 0]).save(folder / f"pictures/{row:03}.png")
    y_prob = net.predict(splits["test"].images[:150], verbose=0)
    (folder / "params.yaml").write_text("the study's parameters aren't read")
    np.save(folder / "expected.npy", y_prob)
    return folder


@pytest.fixture
def predict(study, environment, monkeypatch):
    # TensorFlow's threads can be set before it is first used, which the study above has done
    monkeypatch.setattr("cotejo.serving.classifier.configure_hardware", lambda setup: None)
    return partial(run_cotejo, "predict", cwd=study, env=environment)


@pytest.fixture(scope="module")
def expected(study):
    return np.load(study / "expected.npy")


def collect(read):
    """Returns the probabilities of a JSON that has all classes of each picture, in the order of the classes."""
    rows = [{place["class"]: place["confidence"] for place in entry["top"]} for entry in read["predictions"]]
    return np.array([[row[name] for name in CLASSES] for row in rows])


def test_every_picture_gets_the_probabilities_that_keras_gives_it(predict, study, expected):
    done = predict("pictures", "--model", "lenet", "--json", "--top", "10", "--batch-size", "64")
    assert (done.returncode, done.stderr) == (0, "150 pictures classified with lenet, seed 0\n")
    read = json.loads(done.stdout)
    assert [entry["file"] for entry in read["predictions"]] == [f"pictures/{row:03}.png" for row in range(150)]
    np.testing.assert_allclose(collect(read), expected, atol=1e-6)
    for entry, y_prob in zip(read["predictions"], expected, strict=True):
        assert entry["class"] == entry["top"][0]["class"] == CLASSES[y_prob.argmax()]
        assert [place["confidence"] for place in entry["top"]] == sorted(
            (place["confidence"] for place in entry["top"]), reverse=True
        )
    labels = np.load(study / "data/processed/test_labels.npy")[:150]
    assert np.mean(expected.argmax(axis=1) == labels) > 0.8  # else a mistaken order of classes would be hard to see
    model = read["model"]
    assert (model["classes"], model["image_shape"]) == (list(CLASSES), [8, 8, 1])
    assert (model["archive"], len(model["sha256"])) == ("models/lenet/seed-0/model.keras", 64)


def test_what_can_not_be_classified_gets_a_line_each_and_the_rest_is_classified(predict, study, expected):
    (study / "notes.txt").write_text("no picture")
    Image.fromarray(np.zeros((9, 8), np.uint8)).save(study / "tall.png")
    Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3)).save(study / "colours.png")
    paths = ["notes.txt", "pictures/001.png", "gone.png", "tall.png", "colours.png", "pictures/000.png"]
    done = predict(*paths, "--model", "lenet", "--csv", "--top", "2", "--figure", "figures/first.png")
    assert done.returncode == 2
    assert [line.partition(". Received: ")[0] for line in done.stderr.splitlines()] == [
        "gone.png: expected a picture or a folder",
        "notes.txt: expected an image as JPEG, PNG, BMP, WebP or GIF",
        "tall.png: expected a picture of 8x8 pixels (width x height), as the model was trained on",
        "colours.png: expected a picture in grey, 1 channel, as the model was trained on",
        "2 pictures classified with lenet, seed 0; figures/first.png shows the first 2; 4 not, see above",
    ]
    rows = list(csv.DictReader(done.stdout.splitlines()))
    assert [row["file"] for row in rows] == ["pictures/001.png", "pictures/000.png"]
    for row, y_prob in zip(rows, expected[[1, 0]], strict=True):
        second, first = y_prob.argsort()[-2:]
        assert (row["class"], row["class_2"]) == (CLASSES[first], CLASSES[second])
        assert float(row["confidence"]) == pytest.approx(y_prob[first], abs=1e-6)
    with Image.open(study / "figures/first.png") as figure:
        assert figure.format == "PNG"


def test_an_empty_name_and_a_model_cut_off_get_a_line_each(predict, study, tmp_path):
    done = predict("", "pictures/000.png", "--model", "lenet")
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "'': expected a picture or a folder. Received: an empty name.",
        "1 picture classified with lenet, seed 0; 1 not, see above",
    ]
    (study / "cut.keras").write_bytes((study / "models/lenet/seed-0/model.keras").read_bytes()[:1000])
    (study / "data/processed/dataset.json").rename(tmp_path / "dataset.json")
    done = predict("pictures/000.png", "--model", "cut.keras")
    (tmp_path / "dataset.json").rename(study / "data/processed/dataset.json")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("cotejo: cut.keras: expected a model that Cotejo has saved. Received: a file that is")


def test_a_figure_takes_names_that_no_font_and_no_unicode_has(predict, study):
    (study / "odd").mkdir()
    names = [b"bad\xff.png", "日本.png".encode(), b"two\nlines.png", b"$x$.png"]
    for name in names:
        (study / "odd" / os.fsdecode(name)).write_bytes((study / "pictures/000.png").read_bytes())
    done = predict("odd", "--model", "lenet", "--figure", "odd.svg")
    assert (done.returncode, done.stderr) == (
        0, "4 pictures classified with lenet, seed 0; odd.svg shows the first 4\n"
    )  # fmt: skip
    drawn = (study / "odd.svg").read_text(encoding="utf-8")
    assert all(f">{name}.png</text>" in drawn for name in ("日本", r"two\nlines", r"bad\udcff", "$x$"))


def test_a_terminal_shows_a_bar_and_stdout_has_the_table_alone(study, environment, expected):
    command = ["sh", "-c", "echo begins >&2; cotejo predict pictures --model lenet --batch-size 10 > table.txt"]
    screen = run_on_terminal(command, hide_terminal_variables(environment), study, 120)
    assert any("150/150" in state for state in screen.states)
    assert all(state.startswith("classifying ") for state in screen.states if state)
    assert [line for line in screen.lines if line] == ["150 pictures classified with lenet, seed 0"]
    assert screen.shows_cursor
    head, *lines = (study / "table.txt").read_text(encoding="utf-8").splitlines()
    assert head.split() == ["file", "class", "confidence", "then"]
    assert not ESCAPE.search("".join(lines))
    for row, (line, y_prob) in enumerate(zip(lines, expected, strict=True)):
        path, name, confidence, *_ = line.split()
        assert (path, name) == (f"pictures/{row:03}.png", CLASSES[y_prob.argmax()])
        assert float(confidence.rstrip("%")) == pytest.approx(100 * y_prob.max(), abs=0.011)


def test_where_stdout_is_the_same_terminal_the_bar_leaves_the_table_whole(study, environment):
    command = [shutil.which("cotejo", path=environment["PATH"]), "predict", "pictures"]
    options = ["--model", "lenet", "--batch-size", "50", "--top", "1"]
    variables = hide_terminal_variables(environment)
    screen = watch(record_process(lambda log: WarmProcess([*command, *options], study, variables, log), 120))
    head, *lines, last = [line for line in screen.lines if line]
    assert head.split() == ["file", "class", "confidence"]
    assert [line.split()[0] for line in lines] == [f"pictures/{row:03}.png" for row in range(150)]
    assert last == "150 pictures classified with lenet, seed 0"
    assert any("100/150" in state for state in screen.states)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--json", "--csv"), "expected --json or --csv. Received: both."),
        (("--model", "lenet", "--top", "11"), "expected --top to be at most 10, the model's classes. Received: 11."),
        (("--model", "lenet", "--figure", "a.pdf"), "expected --figure to end in .png or .svg. Received: a.pdf."),
        (
            ("--model", "lenet", "--figure", "folder.png"),
            "expected --figure to be a file to write. Received: folder.png,",
        ),
        (
            ("--model", "lenet", "--figure", "params.yaml/a.png"),
            "expected --figure to be a file to write. Received: params.yaml/a.png, params.yaml can't be written to.",
        ),
        (("--model", "resnet", "--seed", "3"), "models/resnet/seed-3/model.keras: expected the model of seed 3."),
        ((), "reports/comparison.json: expected the study's comparison, which names the champion."),
    ],
)
def test_a_request_that_makes_no_sense_is_refused_in_one_line(predict, arguments, said):
    done = predict("pictures", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"cotejo: {said}")
    assert len(done.stderr.splitlines()) == 1


def test_nothing_to_classify_is_a_whole_document_all_the_same(predict):
    done = predict("gone", "--model", "lenet", "--json")
    assert done.returncode == 2
    read = json.loads(done.stdout)
    assert read["predictions"] == []
    assert read["errors"] == [
        {"file": "gone", "error": "expected a picture or a folder. Received: no such file or folder."}
    ]


def test_a_file_that_is_no_model_of_these_images_is_refused(predict, study):
    path = study / "other.keras"
    path.write_bytes(b"no archive")
    first = predict("pictures/000.png", "--model", "other.keras")
    save_model(keras.Sequential([keras.Input((6, 6, 1)), keras.layers.Flatten(), keras.layers.Dense(2)]), path)
    second = predict("pictures/000.png", "--model", "other.keras")
    for done, said in [
        (first, "expected a model saved by this study. Received: "),
        (
            second,
            "expected a model of images of shape (8, 8, 1) and 10 classes, as what is known of it says. Received: "
            "images of shape (6, 6, 1) and 2 classes.",
        ),
    ]:
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(f"cotejo: other.keras: {said}")
        assert len(done.stderr.splitlines()) == 1
