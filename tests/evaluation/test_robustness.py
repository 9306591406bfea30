"""How many corrupted images models classify correctly: the same numbers here and on workers, whoever is killed."""

import json
import os
import signal
import threading
import time

import keras
import numpy as np
import psutil
import pytest
from sklearn.datasets import load_digits
from sklearn.metrics import accuracy_score

from cotejo.data.readers import LabelledImages
from cotejo.data.splits import load_split
from cotejo.errors import ModelError
from cotejo.estimation.estimates import estimate_mean, summarize_scores
from cotejo.evaluation.corruptions import CORRUPTIONS, corrupt
from cotejo.evaluation.metrics import draw_sample
from cotejo.evaluation.robustness import measure_robustness
from cotejo.execution.messages import PreparedData
from cotejo.schema.study import Base
from cotejo.training.archive import save_model
from dask_cluster import open_cluster
from declared import declare
from saved_splits import save_splits
from warm_workers import fork_workers, list_forked

NUM_TEST, NUM_DRAWN = 300, 203
#: 203 images in batches of 50: the last batch is a partial one.
SETTINGS = declare("evaluate", batch_size=50, confidence=0.9, sample_seed=3, corruption_samples=NUM_DRAWN)
SEEDS = (0, 5)
#: A seed takes a trainer some 2 s of a processor.
BUSY_S = 0.5
BASE = Base(seeds=SEEDS, threads=1, precision="float32")


def train(seed, images, labels):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((8, 8, 1), dtype="uint8")
    x = keras.layers.Conv2D(8, 3, activation="relu")(keras.layers.Rescaling(1 / 255)(inputs))
    outputs = keras.layers.Dense(10, activation="softmax")(keras.layers.Flatten()(x))
    model = keras.Model(inputs, outputs)
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    model.fit(images, labels, batch_size=64, epochs=4, verbose=0)
    return model


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Digits as preprocess leaves them."""
    folder = tmp_path_factory.mktemp("processed")
    bundled = load_digits()
    images = np.rint(bundled.images * (255 / 16)).astype(np.uint8)[..., np.newaxis]
    labels = bundled.target.astype(np.int64)
    borders = {"train": slice(900), "val": slice(900, 1000), "test": slice(1000, 1000 + NUM_TEST)}
    splits = {name: LabelledImages(images[part], labels[part]) for name, part in borders.items()}
    save_splits(splits, folder, "digits", tuple(map(str, range(10))), {})
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory, data):
    """Two models of two seeds each, as training leaves them."""
    root = tmp_path_factory.mktemp("models")
    train_split = load_split(data, "train")
    for number, name in enumerate(("lenet", "resnet")):
        for seed in SEEDS:
            (folder := root / name / f"seed-{seed}").mkdir(parents=True)
            save_model(train(seed + 10 * number, *train_split), folder / "model.keras")
    return {name: root / name for name in ("lenet", "resnet")}


def measure(folders, data, workers=1, settings=SETTINGS, scheduler="local"):
    runtime = declare("runtime", workers=workers, scheduler=scheduler)
    return measure_robustness(folders, data, BASE, settings, runtime)


@pytest.fixture(scope="module")
def measured(folders, data):
    return measure(folders, data)


def list_bytes(found):
    """What is measured of every model, to be compared to the byte."""
    return {name: (json.dumps(of.summary), json.dumps(of.accuracies), of.indices.tobytes(), of.counts.tobytes())
            for name, of in found.items()}  # fmt: skip


def find_interval(correct):
    return estimate_mean(summarize_scores(correct), 0.9).compute_interval(0.9)


def test_each_number_is_the_mean_accuracy_of_the_seeds_with_its_interval(measured, folders, data):
    test = load_split(data, "test")
    indices = draw_sample(NUM_TEST, NUM_DRAWN, 3)
    models = [keras.saving.load_model(folders["resnet"] / f"seed-{seed}" / "model.keras") for seed in SEEDS]
    found = measured["resnet"]
    rows, counts = found.summary["robustness"], np.zeros((len(SEEDS), NUM_DRAWN), dtype=int)
    np.testing.assert_array_equal(found.indices, indices)
    expected_cells = [("none", 0)] + [(name, severity) for name in CORRUPTIONS for severity in (1, 2, 3, 4, 5)]
    assert [(row["corruption"], row["severity"]) for row in rows] == expected_cells
    for row in rows:
        images = test.images[indices]
        if row["severity"]:
            images = corrupt(images, row["corruption"], row["severity"], 3, indices)
        answers = [model.predict(images, verbose=0).argmax(axis=1) for model in models]
        accuracy = np.mean([accuracy_score(test.labels[indices], answer) for answer in answers])
        assert row["accuracy"] == pytest.approx(accuracy)
        correct = np.array(answers) == test.labels[indices]
        counts += correct * bool(row["severity"])
        assert (row["low"], row["high"]) == pytest.approx(find_interval(correct))
        assert row["low"] < row["accuracy"] < row["high"]
    np.testing.assert_array_equal(found.counts, counts)
    mean = np.mean([row["accuracy"] for row in rows[1:]])
    assert found.summary["test_corrupted_accuracy"] == pytest.approx(mean)
    ends = (found.summary["test_corrupted_accuracy_low"], found.summary["test_corrupted_accuracy_high"])
    assert ends == pytest.approx(find_interval(counts / 25))
    assert ends[0] < mean < ends[1]
    assert rows[0]["accuracy"] > 0.8 > mean  # the models have learned something, and corruption costs them some of it


def test_it_is_what_a_metrics_file_may_hold(measured):
    assert list(measured) == ["lenet", "resnet"]
    assert measured["lenet"].summary != measured["resnet"].summary
    for found in measured.values():
        name = "test_corrupted_accuracy"
        assert list(found.summary) == [name, f"{name}_low", f"{name}_high", "robustness"]
        assert np.mean(found.accuracies) == pytest.approx(found.summary[name])
        assert len(set(found.accuracies)) > 1, "one a seed"
        assert json.loads(json.dumps(found.summary, allow_nan=False)) == found.summary
        rows = found.summary["robustness"]
        assert all(list(row) == ["corruption", "severity", "accuracy", "low", "high"] for row in rows)


def test_all_test_images_are_taken_where_none_are_drawn(folders, data):
    settings = SETTINGS.model_copy(update={"corruption_samples": 0})
    rows = measure({"lenet": folders["lenet"]}, data, settings=settings)["lenet"].summary["robustness"]
    test = load_split(data, "test")
    answers = [
        keras.saving.load_model(folders["lenet"] / f"seed-{seed}" / "model.keras").predict(test.images, verbose=0)
        for seed in SEEDS
    ]
    accuracies = [accuracy_score(test.labels, answer.argmax(axis=1)) for answer in answers]
    assert rows[0]["accuracy"] == pytest.approx(np.mean(accuracies))


def test_images_that_are_corrupted_a_few_at_a_time_give_the_same_to_the_byte(measured, folders, data, monkeypatch):
    monkeypatch.setattr("cotejo.evaluation.robustness.VALUES_AT_ONCE", 7 * 64)  # seven digits of 8x8 pixels
    assert list_bytes(measure(folders, data)) == list_bytes(measured)


def test_two_workers_find_the_same_to_the_byte(measured, folders, data):
    with fork_workers():
        assert list_bytes(measure(folders, data, workers=2)) == list_bytes(measured)


@pytest.mark.slow
def test_a_cluster_that_has_neither_images_nor_models_is_sent_them(measured, folders, data, tmp_path, monkeypatch):
    monkeypatch.chdir(data)
    here = "/proc/self/cwd"  # a folder with the images for this process only
    monkeypatch.setattr(PreparedData, "of", lambda _, digest: PreparedData(here, digest))
    with open_cluster(tmp_path) as cluster:
        cluster.start_scheduler(is_warm=True)
        cluster.start_worker("alone")
        cluster.wait_for_workers(1)
        assert list_bytes(measure(folders, data, scheduler=cluster.address)) == list_bytes(measured)


def test_a_worker_is_killed_in_the_middle_and_the_numbers_are_the_same(measured, folders, data):
    killed = []

    def kill():
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and not killed:
            if trainers := list_busy_trainers():
                killed.append(trainers[0].ppid())  # its trainer ends with it
                os.kill(killed[0], signal.SIGKILL)
                return
            time.sleep(0.02)

    with fork_workers():
        killer = threading.Thread(target=kill)
        killer.start()
        result = measure(folders, data, workers=2)
        killer.join()
    assert len(killed) == 1
    assert not psutil.pid_exists(killed[0])
    assert list_bytes(result) == list_bytes(measured)


def list_busy_trainers():
    """Lists trainers that are predicting: the processes of ours that have taken some time with the saved models."""
    trainers = [process for worker in list_forked() for process in worker.children()]
    return [process for process in trainers if process.cpu_times().user > BUSY_S]


def test_a_model_that_is_missing_or_damaged_is_refused_in_one_line(data, tmp_path):
    with pytest.raises(ModelError, match=r"seed-0/model\.keras: expected a model saved by this study") as error:
        measure({"lenet": tmp_path}, data)
    assert "\n" not in str(error.value)
    for seed in SEEDS:
        (tmp_path / f"seed-{seed}").mkdir()
        (tmp_path / f"seed-{seed}" / "model.keras").write_bytes(b"no archive")
    with pytest.raises(ModelError, match=r"seed-\d/model\.keras: expected a model saved by this study"):
        measure({"lenet": tmp_path}, data)


def test_an_answer_that_is_no_number_is_not_correct(data, tmp_path):
    model = train(0, *load_split(data, "train"))
    model.set_weights([np.full_like(weight, np.nan) for weight in model.get_weights()])
    for seed in SEEDS:
        (tmp_path / f"seed-{seed}").mkdir()
        save_model(model, tmp_path / f"seed-{seed}" / "model.keras")
    assert {row["accuracy"] for row in measure({"lenet": tmp_path}, data)["lenet"].summary["robustness"]} == {0.0}
