"""Training: the same bytes in every process, every image once an epoch, the best epoch kept."""

import hashlib
import json
import subprocess
import sys
from typing import get_args

import keras
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, log_loss

from cotejo.data.readers import LabelledImages
from cotejo.errors import ModelError
from cotejo.evaluation.metrics import normalize_rows
from cotejo.models.lenet import build_model
from cotejo.schema import LeNet, Optimizer, OptimizerName
from cotejo.training.archive import load_model
from cotejo.training.callbacks import draw_order
from cotejo.training.fit import Job, build_optimizer, fit, log_trained, save_timings, train_seeds

COLUMNS = ["epoch", "accuracy", "loss", "val_accuracy", "val_loss", "learning_rate"]


def declare(epochs=1, batch_size=32, learning_rate=1e-2, optimizer="adam"):
    return LeNet(
        architecture="lenet5",
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        optimizer=Optimizer(name=optimizer),
    )


def build_job(digits, model=None):
    model = model or build_model(declare(), (8, 8, 1), 10)
    return Job(model, model, *digits)


def silent(epoch, logs, took_s):
    """Records nothing."""


@given(st.integers(0, 2**32 - 1), st.integers(0, 500), st.integers(1, 300))
def test_the_order_of_an_epoch_is_a_permutation_that_seed_and_epoch_decide(seed, epoch, num_samples):
    order = draw_order(seed, epoch, num_samples)
    np.testing.assert_array_equal(np.sort(order), np.arange(num_samples))
    np.testing.assert_array_equal(order, draw_order(seed, epoch, num_samples))


def test_no_two_epochs_and_no_two_seeds_share_an_order():
    orders = {tuple(draw_order(seed, epoch, 50)) for seed in range(10) for epoch in range(10)}
    assert len(orders) == 100


def build_counter(num_images, num_classes):
    """A softmax over one row of weights for each image, all zero: what a row becomes tells how it was trained on."""
    numbers = keras.Input((1,), dtype="int32")
    rows = keras.layers.Embedding(num_images, num_classes, embeddings_initializer="zeros", name="rows")(numbers)
    return keras.Model(numbers, keras.layers.Softmax()(keras.layers.Flatten()(rows)))


@pytest.mark.parametrize(("num_images", "batch_size"), [(10, 4), (10, 5), (3, 8)], ids=["partial", "even", "single"])
def test_every_image_is_trained_on_once_an_epoch_also_those_of_a_partial_last_batch(num_images, batch_size):
    num_classes, seed = 3, 7
    labels = np.arange(num_images) % num_classes
    # the last row belongs to an image of validation, on which nothing is trained
    train = LabelledImages(np.arange(num_images, dtype=np.int32)[:, np.newaxis], labels)
    val = LabelledImages(np.array([[num_images]], np.int32), np.array([0]))
    model = build_counter(num_images + 1, num_classes)
    settings = declare(batch_size=batch_size, learning_rate=1.0, optimizer="sgd")
    fit(Job(model, model, train, val), settings, seed, "counter", silent)

    order = draw_order(seed, 0, num_images)
    batches = [order[start : start + batch_size] for start in range(0, num_images, batch_size)]
    size_of_batch = {image: len(batch) for batch in batches for image in batch}
    # one step of gradient descent on the mean cross-entropy of a batch, from equal probabilities
    steps = [(np.eye(num_classes)[labels[i]] - 1 / num_classes) / size_of_batch[i] for i in range(num_images)]
    np.testing.assert_allclose(model.get_layer("rows").get_weights()[0], [*steps, np.zeros(num_classes)], atol=1e-6)


def record_masks(seed, epochs=3):
    """Returns what dropout let through in each epoch of one step: the weights that the step changed."""
    ones = keras.Input((64,))
    kept = keras.layers.Dropout(0.5)(ones)
    model = keras.Model(ones, keras.layers.Dense(2, "softmax", use_bias=False, kernel_initializer="zeros")(kept))
    weights = [model.get_weights()[0]]
    one = LabelledImages(np.ones((1, 64), np.float32), np.array([0]))
    settings = declare(epochs=epochs, learning_rate=0.01, optimizer="sgd")
    fit(Job(model, model, one, one), settings, seed, "masks", lambda *_: weights.append(model.get_weights()[0]))
    return np.diff(weights, axis=0)[..., 0] != 0  # (epochs, 64)


def test_what_dropout_drops_is_a_function_of_seed_and_epoch_whatever_was_drawn_before():
    masks = record_masks(seed=1)
    assert 0.2 < masks.mean() < 0.8
    assert len({tuple(mask) for mask in masks}) == 3
    keras.random.normal((7,))  # moves Keras's own generator
    np.testing.assert_array_equal(record_masks(seed=1), masks)
    assert not np.array_equal(record_masks(seed=2), masks)


def test_the_epoch_with_the_lowest_validation_loss_is_kept(digits):
    # labels without a meaning: the better the training images are learned, the worse the validation loss
    train, val = digits
    shuffled = LabelledImages(val.images, np.random.default_rng(0).permutation(val.labels))
    job = build_job((train, shuffled))
    result = fit(job, declare(epochs=4), 0, "lenet", silent)

    losses = result.history["val_loss"]
    assert result.best_epoch == losses.argmin() + 1 < 4, "the test needs a best epoch that isn't the last"
    y_prob = normalize_rows(job.model.predict_on_batch(val.images))
    assert log_loss(shuffled.labels, y_prob, labels=range(10)) == pytest.approx(losses.min(), rel=1e-5)
    kept = result.history.iloc[result.best_epoch - 1]
    assert accuracy_score(shuffled.labels, y_prob.argmax(axis=1)) == pytest.approx(kept["val_accuracy"])


def test_the_first_of_equally_good_epochs_is_kept(digits):
    constant = keras.Input((8, 8, 1), dtype="uint8")
    zeros = keras.layers.Rescaling(0.0)(keras.layers.Flatten()(constant))
    model = keras.Model(constant, keras.layers.Dense(10, activation="softmax", use_bias=False)(zeros))
    assert fit(build_job(digits, model), declare(epochs=3), 0, "constant", silent).best_epoch == 1


def test_the_history_has_a_row_per_epoch_and_the_callback_sees_each(digits):
    seen = []
    result = fit(build_job(digits), declare(epochs=2), 0, "lenet", lambda *row: seen.append(row))
    assert list(result.history.columns) == COLUMNS
    assert list(result.history["epoch"]) == [1, 2]
    assert result.history["learning_rate"].to_list() == pytest.approx([1e-2, 1e-2])
    assert result.history["accuracy"].between(0, 1).all()
    assert [epoch for epoch, _, _ in seen] == [1, 2]
    assert [logs["val_loss"] for _, logs, _ in seen] == result.history["val_loss"].to_list()
    assert result.epoch_times_s == [took_s for _, _, took_s in seen]
    assert result.train_time_s >= sum(result.epoch_times_s) > 0


def test_lenet_learns_the_digits(digits):
    result = fit(build_job(digits), declare(epochs=8), 0, "lenet", silent)
    assert result.history["val_accuracy"].iloc[result.best_epoch - 1] > 0.7


def test_what_the_callback_raises_ends_the_training(digits):
    def stop(epoch, logs, took_s):
        raise RuntimeError(f"enough after {epoch}")

    with pytest.raises(RuntimeError, match="enough after 1"):
        fit(build_job(digits), declare(epochs=5), 0, "lenet", stop)


KERAS_OPTIMIZERS = {
    "adam": keras.optimizers.Adam,
    "adamw": keras.optimizers.AdamW,
    "sgd": keras.optimizers.SGD,
    "rmsprop": keras.optimizers.RMSprop,
    "nadam": keras.optimizers.Nadam,
}


@pytest.mark.parametrize("name", get_args(OptimizerName))
def test_an_optimizer_has_the_declared_rate_and_kerass_defaults_for_the_rest(name):
    built = build_optimizer(declare(learning_rate=0.25, optimizer=name))
    expected = KERAS_OPTIMIZERS[name](learning_rate=0.25, name=built.name)
    assert type(built) is type(expected)
    assert built.get_config() == expected.get_config()


def build_explosive():
    """Layers without any bound, on pixels that nobody has scaled."""
    images = keras.Input((8, 8, 1), dtype="uint8")
    x = keras.layers.Flatten()(keras.layers.Rescaling(1.0)(images))
    for _ in range(14):
        x = keras.layers.Dense(64, activation="relu")(x)
    return keras.Model(images, keras.layers.Dense(10, activation="softmax")(x))


def test_a_loss_that_is_no_number_stops_training_with_model_epoch_and_value(digits, tmp_path, run):
    keras.utils.set_random_seed(0)
    settings = declare(epochs=3, learning_rate=10, optimizer="sgd")
    said = r"train-lenet seed 3: expected a finite training loss. Received: (nan|inf) in epoch 1, by step \d+"
    with pytest.raises(ModelError, match=said) as caught:
        train_seeds(lambda _: build_job(digits, build_explosive()), settings, [3], tmp_path, run)
    assert "Lower the learning rate in params.yaml" in str(caught.value)
    assert not (tmp_path / "seed-3").exists()


def test_a_validation_loss_that_is_no_number_is_an_error_to_act_on_too(digits):
    keras.utils.set_random_seed(0)
    # two steps: the loss of the second is measured before it ruins the weights
    settings = declare(epochs=1, batch_size=150, learning_rate=10, optimizer="sgd")
    with pytest.raises(ModelError, match="lenet: expected a finite validation loss"):
        fit(build_job(digits, build_explosive()), settings, 0, "lenet", silent)


def test_a_trained_seed_leaves_a_model_a_history_timings_and_a_tracked_run(digits, tmp_path, run):
    settings = declare(epochs=2)
    trained = train_seeds(lambda _: build_job(digits), settings, [0, 4], tmp_path, run)
    log_trained(trained, tmp_path)
    save_timings(trained, "train-lenet", 2, tmp_path / "timings.json")

    for seed in (0, 4):
        model = load_model(tmp_path / f"seed-{seed}" / "model.keras")
        history = pd.read_csv(tmp_path / f"seed-{seed}" / "history.csv")
        assert list(history.columns) == COLUMNS
        y_prob = normalize_rows(model.predict_on_batch(digits[1].images))
        assert log_loss(digits[1].labels, y_prob, labels=range(10)) == pytest.approx(
            history["val_loss"].min(), rel=1e-5
        )

    timings = json.loads((tmp_path / "timings.json").read_text())
    assert (timings["stage"], timings["threads"]) == ("train-lenet", 2)
    assert [row["seed"] for row in timings["per_seed"]] == [0, 4]
    assert all(row["images_per_s"] > 0 and row["peak_memory_bytes"] > 10**8 for row in timings["per_seed"])

    records = [json.loads(line) for line in trained[1].run.path.read_text().splitlines()]
    assert (records[0]["name"], records[0]["parent"]["uid"]) == ("train-lenet seed 4", run.uid)
    steps = [record["step"] for record in records if "val_loss" in record.get("values", {})]
    assert steps == [1, 2]
    assert [record["kind"] for record in records if record["kind"] in ("end", "model")] == ["end", "model"]


TRAIN = """
import hashlib, sys
from pathlib import Path
import numpy as np
from sklearn.datasets import load_digits
from cotejo.data.readers import LabelledImages
from cotejo.data.splits import Dataset
from cotejo.models.lenet import build_model
from cotejo.schema import LeNet, Optimizer, Transfer
from cotejo.tracking.journal import Run, Tracker
from cotejo.training.features import prepare_transfer
from cotejo.training.fit import Job, configure_tensorflow, train_seeds

configure_tensorflow(2)
bundled = load_digits()
images = np.rint(bundled.images * (255 / 16)).astype(np.uint8)[..., np.newaxis]
train, val = (LabelledImages(images[part], bundled.target[part]) for part in (slice(300), slice(300, 400)))
shared = dict(epochs=2, batch_size=64, learning_rate=1e-3, optimizer=Optimizer(name="adam"))
lenet = LeNet(architecture="lenet5", **shared)
transfer = Transfer(
    backbone="MobileNet", alpha=0.25, weights="random", input_size=32, dropout_rate=0.5, **shared
)

def prepare_lenet(seed):
    model = build_model(lenet, (8, 8, 1), 10)
    return Job(model, model, train, val)

dataset = Dataset("digits", list("0123456789"), (8, 8, 1), "")
jobs = {
    "lenet": (prepare_lenet, lenet),
    "transfer": (prepare_transfer(transfer, None, dataset, train, val), transfer),
}
for name in sys.argv[1].split(","):
    Path(name).mkdir()
    run = Run(Tracker(Path("journal"), lambda _: None), name, None, {})
    train_seeds(*jobs[name], [int(seed) for seed in sys.argv[2].split(",")], Path(name), run)
"""


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    """The same four trainings in two processes, in opposite orders; the SHA-256 of each file that they wrote."""
    folders = [tmp_path_factory.mktemp(name) for name in ("first", "second")]
    orders = [("lenet,transfer", "0,1"), ("transfer,lenet", "1,0")]
    started = [
        subprocess.Popen([sys.executable, "-c", TRAIN, *order], cwd=folder, stderr=subprocess.PIPE, text=True)
        for folder, order in zip(folders, orders, strict=True)
    ]
    for process in started:
        _, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors
    return [
        {
            str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
            for file in sorted(folder.rglob("seed-*/*"))
        }
        for folder in folders
    ]


def test_two_processes_write_the_same_bytes_whatever_each_trained_before(two_processes):
    first, second = two_processes
    assert len(first) == 2 * 2 * 2, "two models, two seeds, a model and a history each"
    assert first == second


@pytest.mark.parametrize("name", ["lenet", "transfer"])
def test_another_seed_is_another_training(two_processes, name):
    for file in ("model.keras", "history.csv"):
        assert two_processes[0][f"{name}/seed-0/{file}"] != two_processes[0][f"{name}/seed-1/{file}"]
