"""Batches trained in parts: the same training as of undivided ones, except for the last bits."""

from functools import cache
from typing import NamedTuple

import keras
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, log_loss

from answers import answer
from cotejo.data.readers import LabelledImages
from cotejo.training.fit import Job, fit
from declared import declare

L2 = 0.01


class Ended(NamedTuple):
    """A trained net: its weights are those of its last epoch."""

    model: keras.Model
    history: pd.DataFrame
    weights: list[np.ndarray]


@pytest.fixture(scope="module")
def train(digits, build_dense, hardware):
    """Returns a function that trains in so many parts, at the same place each time."""
    settings = declare(
        "lenet",
        epochs=3,
        batch_size=32,
        learning_rate=0.1,
        optimizer={"name": "sgd"},
        class_weights="balanced",
        early_stopping={"restore_best": False},
    )
    # in the order of their classes: the first 100 hold four of them, in unequal numbers
    by_class = np.argsort(digits[0].labels, kind="stable")

    def run(num_parts, batch_size, num_train, num_val):
        chosen = by_class[:num_train]
        split = LabelledImages(digits[0].images[chosen], digits[0].labels[chosen])
        val = LabelledImages(digits[1].images[:num_val], digits[1].labels[:num_val])
        model = build_dense(L2, filters=(4,))
        changed = settings.model_copy(update={"batch_size": batch_size})
        result = fit(
            Job.of(model, split, val), changed, 0, "dense", lambda _: None, hardware._replace(num_parts=num_parts)
        )
        return Ended(model, result.history, model.get_weights())

    remembered = cache(run)
    return lambda num_parts, batch_size=32, num_train=100, num_val=67, again=False: (run if again else remembered)(
        num_parts, batch_size, num_train, num_val
    )


def check_same_but_for_rounding(left, right):
    pd.testing.assert_frame_equal(left.history, right.history, rtol=1e-5)
    for one, other in zip(left.weights, right.weights, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


# the last batch has 4 or 7 images of training; of the batches only those of 32 can be divided evenly, by 2
@pytest.mark.parametrize(("num_parts", "batch_size"), [(2, 32), (3, 32), pytest.param(3, 31, marks=pytest.mark.slow)])
def test_a_net_trained_in_parts_ends_as_the_undivided_one(train, num_parts, batch_size):
    whole, divided = train(1, batch_size), train(num_parts, batch_size)
    assert whole.history["loss"].iloc[-1] < 0.8 * whole.history["loss"].iloc[0]
    check_same_but_for_rounding(divided, whole)
    # sums in another order: were every bit the same, nothing would have been divided
    assert any(not np.array_equal(*pair) for pair in zip(divided.weights, whole.weights, strict=True))


def test_the_logged_validation_is_that_of_the_model_that_was_trained_in_parts(train, digits):
    divided = train(3)
    images, labels = digits[1].images[:67], digits[1].labels[:67]
    y_prob = answer(divided.model, images).astype(float)
    y_prob /= y_prob.sum(axis=1, keepdims=True)
    penalty = L2 * sum((kernel.astype(float) ** 2).sum() for kernel in divided.weights[::2])
    logged = divided.history.iloc[-1]
    assert logged["val_loss"] == pytest.approx(log_loss(labels, y_prob, labels=range(10)) + penalty, rel=1e-5)
    assert logged["val_accuracy"] == pytest.approx(accuracy_score(labels, y_prob.argmax(axis=1)))


@pytest.mark.parametrize("sizes", [{"num_train": 98}, {"num_val": 65}], ids=["train", "val"])
def test_a_last_batch_with_fewer_images_than_parts_counts_like_any_other(train, sizes):
    check_same_but_for_rounding(train(3, **sizes), train(1, **sizes))


def test_two_trainings_in_parts_give_the_same_bytes(train):
    first, second = train(2), train(2, again=True)
    assert first.history.equals(second.history)
    assert all(left.tobytes() == right.tobytes() for left, right in zip(first.weights, second.weights, strict=True))
