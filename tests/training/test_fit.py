"""Training: the same bytes in every process, every image once an epoch, the best epoch kept."""

import hashlib
import json
import subprocess
import sys

import keras
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import accuracy_score, log_loss
from sklearn.utils.class_weight import compute_class_weight

from answers import answer
from copied_study import ROOT
from cotejo.data.readers import LabelledImages
from cotejo.data.stored import open_stored
from cotejo.errors import ModelError
from cotejo.evaluation.metrics import normalize_rows
from cotejo.models.lenet import build_model
from cotejo.schema.study import MIN_MEMORY
from cotejo.training.archive import load_model
from cotejo.training.callbacks import draw_order
from cotejo.training.fit import Job, fit
from cotejo.training.seeds import SeedTrainings, log_trained, save_timings
from declared import declare
from once import make_once

COLUMNS = [
    "epoch", "accuracy", "cross_entropy", "loss", "val_accuracy", "val_cross_entropy", "val_loss", "learning_rate",
    "kept",
]  # fmt: skip


def declare_lenet(**changes):
    return declare("lenet", **{"input_size": 16, "epochs": 1, "batch_size": 32, "learning_rate": 1e-2, **changes})


def build_job(digits, model=None):
    return Job.of(model or build_model(declare_lenet(), (8, 8, 1), 10), *digits)


def silent(row):
    """Records nothing."""


def shuffle_labels(split):
    """Labels without a meaning: the better training images are learned, the worse the loss on these."""
    return LabelledImages(split.images, np.random.default_rng(0).permutation(split.labels))


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
def test_every_image_is_trained_on_once_an_epoch_also_those_of_a_partial_last_batch(num_images, batch_size, hardware):
    num_classes, seed = 3, 7
    labels = np.arange(num_images) % num_classes
    rows = train_counter(labels, num_classes, seed, hardware, batch_size=batch_size)

    order = draw_order(seed, 0, num_images)
    batches = [order[start : start + batch_size] for start in range(0, num_images, batch_size)]
    size_of_batch = {image: len(batch) for batch in batches for image in batch}
    # one step of gradient descent on the mean cross-entropy of a batch, from equal probabilities
    steps = [(np.eye(num_classes)[labels[i]] - 1 / num_classes) / size_of_batch[i] for i in range(num_images)]
    np.testing.assert_allclose(rows, steps, atol=1e-6)


def test_balanced_classes_weigh_each_image_in_the_step_that_it_causes(hardware):
    labels = np.repeat([0, 1, 2], [7, 2, 1])
    rows = train_counter(labels, 3, 0, hardware, batch_size=10, class_weights="balanced")
    weights = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    steps = weights[labels, np.newaxis] * (np.eye(3)[labels] - 1 / 3) / 10
    np.testing.assert_allclose(rows, steps, atol=1e-6)


def test_smoothed_labels_are_what_a_step_goes_towards(hardware):
    labels = np.arange(6) % 3
    rows = train_counter(labels, 3, 0, hardware, batch_size=6, label_smoothing=0.3)
    targets = 0.7 * np.eye(3)[labels] + 0.3 / 3
    np.testing.assert_allclose(rows, (targets - 1 / 3) / 6, atol=1e-6)


def train_counter(labels, num_classes, seed, hardware, **changes):
    """Returns the row of each image after one epoch of plain gradient descent with a learning rate of 1."""
    num_images = len(labels)
    train = LabelledImages(np.arange(num_images, dtype=np.int32)[:, np.newaxis], labels)
    # the last row belongs to an image of validation, on which nothing is trained
    val = LabelledImages(np.array([[num_images]], np.int32), np.array([0]))
    model = build_counter(num_images + 1, num_classes)
    settings = declare_lenet(learning_rate=1.0, optimizer={"name": "sgd"}, **changes)
    fit(Job.of(model, train, val), settings, seed, "counter", silent, hardware)
    (rows,) = model.get_weights()
    np.testing.assert_array_equal(rows[-1], 0)
    return rows[:-1]


def record_masks(seed, hardware, epochs=3):
    """Returns what dropout let through in each epoch of one step: the weights that the step changed."""
    ones = keras.Input((64,))
    kept = keras.layers.Dropout(0.5)(ones)
    model = keras.Model(ones, keras.layers.Dense(2, "softmax", use_bias=False, kernel_initializer="zeros")(kept))
    weights = [model.get_weights()[0]]
    one = LabelledImages(np.ones((1, 64), np.float32), np.array([0]))
    settings = declare_lenet(epochs=epochs, learning_rate=0.01, optimizer={"name": "sgd"})
    remember = lambda row: weights.append(model.get_weights()[0])  # noqa: E731
    fit(Job.of(model, one, one), settings, seed, "masks", remember, hardware)
    return np.diff(weights, axis=0)[..., 0] != 0  # (epochs, 64)


def test_what_dropout_drops_is_a_function_of_seed_and_epoch_whatever_was_drawn_before(hardware):
    masks = record_masks(1, hardware)
    assert 0.2 < masks.mean() < 0.8
    assert len({tuple(mask) for mask in masks}) == 3
    keras.random.normal((7,))  # moves Keras's own generator
    np.testing.assert_array_equal(record_masks(1, hardware), masks)
    assert not np.array_equal(record_masks(2, hardware), masks)


def test_the_epoch_with_the_lowest_validation_loss_is_kept(digits, build_dense, hardware):
    train, val = digits[0], shuffle_labels(digits[1])
    job = Job.of(build_dense(), train, val)
    result = fit(job, declare_lenet(epochs=4, learning_rate=3e-3), 0, "dense", silent, hardware)

    losses = result.history["val_loss"]
    assert 1 < result.best_epoch == losses.argmin() + 1 < 4, "the test needs a best epoch amid others"
    y_prob = normalize_rows(answer(job.model, val.images))
    assert log_loss(val.labels, y_prob, labels=range(10)) == pytest.approx(losses.min(), rel=1e-5)
    kept = result.history.iloc[result.best_epoch - 1]
    assert accuracy_score(val.labels, y_prob.argmax(axis=1)) == pytest.approx(kept["val_accuracy"])


@pytest.mark.parametrize(
    "watched",
    [
        {"monitor": "val_loss", "mode": "min", "patience": 1},
        {"monitor": "val_accuracy", "mode": "max", "patience": 3},
        {"monitor": "loss", "mode": "min", "patience": 2, "min_delta": 0.5},
    ],
    ids=["val_loss", "val_accuracy", "min_delta"],
)
def test_training_stops_after_so_many_epochs_without_a_better_one_and_keeps_the_best(
    digits, build_dense, hardware, watched
):
    train, val = digits[0], shuffle_labels(digits[1])
    model = build_dense()
    settings = declare_lenet(epochs=20, learning_rate=3e-3, early_stopping=watched)
    result = fit(Job.of(model, train, val), settings, 0, "dense", silent, hardware)

    best, best_epoch = np.inf, 0
    sign = -1 if watched["mode"] == "max" else 1
    for epoch, value in enumerate(sign * result.history[watched["monitor"]], start=1):
        if value < best - watched.get("min_delta", 0):
            best, best_epoch = value, epoch
    assert result.best_epoch == best_epoch
    assert len(result.history) == best_epoch + watched["patience"] < settings.epochs
    is_lowest = best_epoch == result.history["val_loss"].argmin() + 1
    assert is_lowest == (watched["monitor"] == "val_loss"), "the test needs epochs that are best in one thing only"
    y_prob = normalize_rows(answer(model, val.images))
    kept = result.history.iloc[best_epoch - 1]
    assert log_loss(val.labels, y_prob, labels=range(10)) == pytest.approx(kept["val_loss"], rel=1e-5)


def test_the_last_epoch_is_kept_where_that_is_declared(digits, build_dense, hardware):
    train, val = digits[0], shuffle_labels(digits[1])
    model = build_dense()
    settings = declare_lenet(epochs=4, early_stopping={"restore_best": False})
    result = fit(Job.of(model, train, val), settings, 0, "dense", silent, hardware)
    assert result.best_epoch == len(result.history) == 4
    losses = result.history["val_loss"]
    assert losses.iloc[-1] > losses.min(), "the test needs a last epoch that isn't the best"
    y_prob = normalize_rows(answer(model, val.images))
    assert log_loss(val.labels, y_prob, labels=range(10)) == pytest.approx(losses.iloc[-1], rel=1e-5)


def test_the_first_of_equally_good_epochs_is_kept(digits, hardware):
    constant = keras.Input((8, 8, 1), dtype="uint8")
    zeros = keras.layers.Rescaling(0.0)(keras.layers.Flatten()(constant))
    model = keras.Model(constant, keras.layers.Dense(10, activation="softmax", use_bias=False)(zeros))
    result = fit(build_job(digits, model), declare_lenet(epochs=3), 0, "constant", silent, hardware)
    assert result.best_epoch == 1
    assert len(result.history) == 3, "patience 0 never stops"


def test_the_history_has_a_row_per_epoch_and_the_callback_sees_each(digits, build_dense, hardware):
    seen = []
    result = fit(build_job(digits, build_dense()), declare_lenet(epochs=2), 0, "dense", seen.append, hardware)
    assert list(result.history.columns) == COLUMNS
    assert list(result.history["epoch"]) == [1, 2]
    assert result.history["learning_rate"].to_list() == pytest.approx([1e-2, 1e-2])
    assert result.history["accuracy"].between(0, 1).all()
    assert seen == result.history.drop(columns="kept").to_dict("records")
    assert result.history["kept"].to_list() == [result.best_epoch == 1, result.best_epoch == 2]
    assert (result.times["epoch_time_s"] > result.times["train_time_s"]).all()
    assert (result.times["train_time_s"] > 0).all()


def test_the_logged_loss_is_the_smoothed_one(digits, build_dense, hardware):
    job = build_job(digits, build_dense())
    result = fit(job, declare_lenet(epochs=2, label_smoothing=0.2), 0, "dense", silent, hardware)
    y_prob = normalize_rows(answer(job.model, digits[1].images))
    spread = 0.8 * np.eye(10)[digits[1].labels] + 0.2 / 10
    expected = -np.mean(np.sum(spread * np.log(y_prob), axis=1))
    assert result.history["val_loss"].iloc[result.best_epoch - 1] == pytest.approx(expected, rel=1e-5)
    assert expected != pytest.approx(log_loss(digits[1].labels, y_prob, labels=range(10)), rel=1e-2)


def test_lenet_learns_the_digits(digits, hardware):
    result = fit(build_job(digits), declare_lenet(epochs=8), 0, "lenet", silent, hardware)
    assert result.history["val_accuracy"].iloc[result.best_epoch - 1] > 0.7


def test_a_net_with_a_step_activation_is_not_trained(digits, hardware):
    model = build_model(declare_lenet().model_copy(update={"activation": "step"}), (8, 8, 1), 10)
    before, seen = model.get_weights(), []
    with pytest.raises(ModelError, match=r"Received: activation step .* Choose another activation in params.yaml"):
        fit(build_job(digits, model), declare_lenet(), 0, "lenet", seen.append, hardware)
    assert seen == []
    assert all(np.array_equal(*pair) for pair in zip(before, model.get_weights(), strict=True))


def test_images_read_from_the_disk_batch_by_batch_train_to_the_same_bytes(digits, build_dense, hardware, tmp_path):
    def train(hardware, *splits):
        model = build_dense(dropout_rate=0.2)
        result = fit(Job.of(model, *splits), declare_lenet(epochs=2), 0, "dense", silent, hardware)
        return result.history, [weight.tobytes() for weight in model.get_weights()]

    in_graph = train(hardware, *digits)
    stored = []
    for number, split in enumerate(digits):
        np.save(tmp_path / f"{number}.npy", split.images)
        stored.append(LabelledImages(open_stored(tmp_path / f"{number}.npy"), split.labels))
    from_disk = train(hardware._replace(memory_bytes=MIN_MEMORY), *stored)
    pd.testing.assert_frame_equal(from_disk[0], in_graph[0], check_exact=True)
    assert from_disk[1] == in_graph[1]


def test_what_the_callback_raises_ends_the_training(digits, build_dense, hardware):
    def stop(row):
        raise RuntimeError(f"enough after {row['epoch']}")

    with pytest.raises(RuntimeError, match="enough after 1"):
        fit(build_job(digits, build_dense()), declare_lenet(epochs=5), 0, "dense", stop, hardware)


def build_explosive():
    """Layers without any bound, on pixels that nobody has scaled."""
    images = keras.Input((8, 8, 1), dtype="uint8")
    x = keras.layers.Flatten()(keras.layers.Rescaling(1.0)(images))
    for _ in range(14):
        x = keras.layers.Dense(64, activation="relu")(x)
    return keras.Model(images, keras.layers.Dense(10, activation="softmax")(x))


def test_a_loss_that_is_no_number_stops_training_with_model_epoch_and_value(digits, tmp_path, run, hardware):
    keras.utils.set_random_seed(0)
    settings = declare_lenet(epochs=3, learning_rate=10.0, optimizer={"name": "sgd"})
    said = r"train-lenet seed 3: expected a finite training loss. Received: (nan|inf) in epoch 1, by step \d+"
    with pytest.raises(ModelError, match=said) as caught:
        SeedTrainings("lenet", settings, [3], run, tmp_path / "checkpoints", tmp_path).train_here(
            lambda _: build_job(digits, build_explosive()), hardware
        )
    assert "Lower the learning rate in params.yaml" in str(caught.value)
    assert not (tmp_path / "seed-3").exists()


def test_a_validation_loss_that_is_no_number_is_an_error_to_act_on_too(digits, hardware):
    keras.utils.set_random_seed(0)
    # two steps: the loss of the second is measured before it ruins the weights
    settings = declare_lenet(batch_size=150, learning_rate=10.0, optimizer={"name": "sgd"})
    with pytest.raises(ModelError, match="explosive: expected a finite validation loss"):
        fit(build_job(digits, build_explosive()), settings, 0, "explosive", silent, hardware)


AUGMENTATION = {"horizontal_flip": True, "rotation": 15.0, "erasing": 0.5}


def test_a_trained_seed_leaves_a_model_a_history_timings_and_a_tracked_run(
    digits, build_dense, tmp_path, run, hardware
):
    settings = declare_lenet(epochs=2, augmentation=AUGMENTATION)
    prepare = lambda _: build_job(digits, build_dense())  # noqa: E731
    trainings = SeedTrainings("lenet", settings, [0, 4], run, tmp_path / "checkpoints", tmp_path)
    trained = trainings.train_here(prepare, hardware)
    log_trained(run, trained, tmp_path)
    save_timings(trained, "train-lenet", tmp_path / "timings.json")

    for seed in (0, 4):
        model = load_model(tmp_path / f"seed-{seed}" / "model.keras")
        history = pd.read_csv(tmp_path / f"seed-{seed}" / "history.csv")
        assert list(history.columns) == COLUMNS
        # what is kept is the net alone, and validation sees the images as they are
        assert [type(layer) for layer in model.layers] == [type(layer) for layer in prepare(seed).model.layers]
        assert model.input.dtype == "uint8"
        y_prob = normalize_rows(answer(model, digits[1].images))
        assert log_loss(digits[1].labels, y_prob, labels=range(10)) == pytest.approx(
            history["val_loss"].min(), rel=1e-5
        )

    timings = json.loads((tmp_path / "timings.json").read_text())
    assert timings["stage"] == "train-lenet"
    assert [row["seed"] for row in timings["per_seed"]] == [0, 4]
    assert all(row["images_per_s"] > 0 and row["peak_memory_bytes"] > 10**8 for row in timings["per_seed"])

    records = [json.loads(line) for line in trained[1].run.path.read_text().splitlines()]
    assert (records[0]["name"], records[0]["parent"]["uid"]) == ("train-lenet seed 4", run.uid)
    steps = [record["step"] for record in records if "val_loss" in record.get("values", {})]
    assert steps == [1, 2]
    assert [record["kind"] for record in records if record["kind"] in ("end", "model")] == ["end", "model"]
    (params,) = [record["values"] for record in records if "lenet.epochs" in record.get("values", {})]
    assert (params["lenet.optimizer.name"], params["seed"]) == (settings.optimizer.name, "4")

    shown = [json.loads(line) for line in run.path.read_text().splitlines()]
    (means,) = [record["values"] for record in shown if "val_accuracy_low" in record.get("values", {})]
    accuracies = [own.history.loc[own.history["kept"], "val_accuracy"].item() for _, own in trained]
    low, high = stats.t.interval(0.95, 1, loc=np.mean(accuracies), scale=stats.sem(accuracies))
    assert means["val_accuracy"] == pytest.approx(np.mean(accuracies))
    assert (means["val_accuracy_low"], means["val_accuracy_high"]) == pytest.approx((low, high))


def test_augmentation_changes_what_is_trained_on(digits, build_dense, hardware):
    accuracies = [
        fit(
            build_job(digits, build_dense()),
            declare_lenet(epochs=6, augmentation=augmentation),
            0,
            "dense",
            silent,
            hardware,
        ).history["accuracy"]
        for augmentation in ({}, AUGMENTATION)
    ]
    assert accuracies[1].iloc[-1] < accuracies[0].iloc[-1] - 0.05  # images that change are harder to learn


TRAIN = """
import sys
from pathlib import Path
import numpy as np
from sklearn.datasets import load_digits
from cotejo.data.readers import LabelledImages
from cotejo.data.splits import Dataset
from cotejo.execution.messages import Setup
from cotejo.models.lenet import build_model
from cotejo.tracking.journal import Run
from cotejo.tracking.outbox.sender import Tracker
from cotejo.training.features import prepare_transfer
from cotejo.training.fit import Job
from cotejo.training.seeds import SeedTrainings
from cotejo.training.hardware import configure_hardware
from declared import declare

hardware = configure_hardware(Setup(2, "float32", split_batch=True))
bundled = load_digits()
images = np.rint(bundled.images * (255 / 16)).astype(np.uint8)[..., np.newaxis]
train, val = (LabelledImages(images[part], bundled.target[part]) for part in (slice(300), slice(300, 400)))
shared = dict(epochs=2, batch_size=64)
lenet = declare("lenet", input_size=16, dropout_rate=0.2, augmentation={"translation": 0.1}, **shared)
transfer = declare("transfer", weights="random", input_size=32, dropout_rate=0.5, **shared)
dataset = Dataset("digits", list("0123456789"), (8, 8, 1), "")
jobs = {
    "lenet": (lambda seed: Job.of(build_model(lenet, (8, 8, 1), 10), train, val), lenet),
    "transfer": (prepare_transfer(transfer, None, dataset, train, val, Path("cache"), hardware), transfer),
}
for name in sys.argv[1].split(","):
    Path(name).mkdir()
    run = Run(Tracker(Path("journal"), lambda _: None), name, None, {})
    seeds = [int(seed) for seed in sys.argv[2].split(",")]
    prepare, settings = jobs[name]
    SeedTrainings("lenet", settings, seeds, run, Path("checkpoints") / name, Path(name)).train_here(prepare, hardware)
"""


@pytest.fixture(scope="module")
def two_processes(environment, start_script):
    """The same four trainings in two processes, in opposite orders; the SHA-256 of each file that they wrote.

    One is an interpreter of its own, the other a fork of another, in which sets of strings have another order.
    """

    def make(folder):
        (folder / "new").mkdir()
        (folder / "fork").mkdir()
        new = subprocess.Popen(
            [sys.executable, "-c", TRAIN, "lenet,transfer", "0,1"], cwd=folder / "new", stderr=subprocess.PIPE,
            env={**environment, "PYTHONPATH": str(ROOT / "tests")}, text=True,
        )  # fmt: skip
        fork = start_script(TRAIN, "transfer,lenet", "1,0", cwd=folder / "fork")
        for process in (new, fork):
            _, stderr = process.communicate(timeout=240)
            assert process.returncode == 0, stderr

    folder = make_once("trained-twice", make)
    return [
        {
            str(file.relative_to(folder / place)): hashlib.sha256(file.read_bytes()).hexdigest()
            for file in sorted(folder.glob(f"{place}/*/seed-*/*"))
        }
        for place in ("new", "fork")
    ]


@pytest.mark.slow
def test_two_processes_write_the_same_bytes_whatever_each_trained_before(two_processes):
    first, second = two_processes
    assert len(first) == 2 * 2 * 2, "two models, two seeds, a model and a history each"
    assert first == second


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lenet", "transfer"])
def test_another_seed_is_another_training(two_processes, name):
    for file in ("model.keras", "history.csv"):
        assert two_processes[0][f"{name}/seed-0/{file}"] != two_processes[0][f"{name}/seed-1/{file}"]
