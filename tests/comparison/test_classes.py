"""Differences in F1, class by class: against scikit-learn, a plain bootstrap and studies without a difference."""

from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.metrics import f1_score

from cotejo.comparison.pairs import build_differences


def predict(generator, y_true, num_seeds, accuracy, num_classes=4):
    errors = (y_true + generator.integers(1, num_classes, size=(num_seeds, len(y_true)))) % num_classes
    return np.where(generator.random((num_seeds, len(y_true))) < accuracy, y_true, errors)


def compare(y_true, baseline, candidate, num_classes, confidence):
    """Returns the differences in the order of the classes."""
    predictions = SimpleNamespace(y_true=y_true, predicted={"one": baseline, "other": candidate})
    names = [str(label) for label in range(num_classes)]
    rows = build_differences(predictions, "one", "other", names, confidence)
    return sorted(rows, key=lambda row: int(row.class_name))


def test_f1_scores_are_scikit_learns():
    generator = np.random.default_rng(3)
    y_true = generator.integers(0, 4, size=400)
    sides = predict(generator, y_true, 2, 0.7), predict(generator, y_true, 3, 0.9)
    found = compare(y_true, *sides, 5, 0.95)
    for key, rows in zip(("baseline", "candidate"), sides, strict=True):
        scores = [f1_score(y_true, row, labels=range(5), average=None, zero_division=0) for row in rows]
        assert [getattr(row, key) for row in found] == pytest.approx(list(np.mean(scores, axis=0)))
    assert [row.value for row in found] == pytest.approx([row.candidate - row.baseline for row in found])
    assert [row.support for row in found] == np.bincount(y_true, minlength=5).tolist()
    never = found[4]
    assert (never.baseline, never.candidate, never.value) == (0, 0, 0)
    assert not never.is_clear


def test_the_largest_difference_comes_first():
    generator = np.random.default_rng(3)
    y_true = generator.integers(0, 4, size=400)
    predictions = SimpleNamespace(
        y_true=y_true,
        predicted={"one": predict(generator, y_true, 2, 0.7), "other": predict(generator, y_true, 2, 0.9)},
    )
    rows = build_differences(predictions, "one", "other", ["a", "b", "c", "d"], 0.95)
    sizes = [abs(row.value) for row in rows]
    assert sizes == sorted(sizes, reverse=True)


def count_f1(y_true, predicted, num_classes):
    """Returns each row's F1 of each class, from how often both, the one or the other name it."""
    scores = []
    for label in range(num_classes):
        is_true, is_named = y_true == label, predicted == label
        scores.append(2 * (is_true & is_named).sum(axis=1) / (is_true.sum(axis=1) + is_named.sum(axis=1)))
    return np.stack(scores, axis=1)


def test_intervals_are_about_those_of_a_plain_bootstrap_and_hold_for_all_classes_together():
    generator = np.random.default_rng(4)
    y_true = generator.integers(0, 3, size=600)
    sides = predict(generator, y_true, 1, 0.7, 3), predict(generator, y_true, 1, 0.8, 3)
    drawn = generator.integers(0, 600, size=(1000, 600))
    one, other = (count_f1(y_true[drawn], side[0][drawn], 3) for side in sides)
    # what it counts is what scikit-learn computes
    assert one[0] == pytest.approx(f1_score(y_true[drawn[0]], sides[0][0][drawn[0]], average=None))
    # 3 classes: 1 - 0.1 / 3 each
    low, high = np.quantile(other - one, [0.1 / 6, 1 - 0.1 / 6], axis=0)
    found = compare(y_true, *sides, 3, 0.9)
    for row, (expected_low, expected_high) in zip(found, zip(low, high, strict=True), strict=True):
        width = expected_high - expected_low
        assert (row.low, row.high) == pytest.approx((expected_low, expected_high), abs=0.15 * width)


def train_by_luck(generator, y_true):
    """Draws a training that is better at some classes than another one, by luck."""
    accuracy = np.clip(0.85 + generator.normal(0, 0.03, size=3), 0, 1)[y_true]
    errors = (y_true + generator.integers(1, 3, size=len(y_true))) % 3
    return np.where(generator.random(len(y_true)) < accuracy, y_true, errors)


def test_two_sets_of_trainings_of_one_model_seldom_differ_in_a_class():
    generator = np.random.default_rng(11)
    num_found = {1: 0, 3: 0}
    for _ in range(150):
        y_true = generator.integers(0, 3, size=2000)
        trainings = [train_by_luck(generator, y_true) for _ in range(6)]
        for num_seeds in num_found:
            sides = np.stack(trainings[:num_seeds]), np.stack(trainings[3 : 3 + num_seeds])
            num_found[num_seeds] += any(row.is_clear for row in compare(y_true, *sides, 3, 0.95))
    # 7.5 on average if the intervals hold, and three standard deviations
    assert num_found[3] <= 15
    assert num_found[1] > 38, "one training each can't know: the report says so beside it"


def test_a_class_that_only_one_model_knows_is_found():
    generator = np.random.default_rng(5)
    y_true = generator.integers(0, 4, size=800)
    one, other = (predict(generator, y_true, 3, 0.9) for _ in range(2))
    one = np.where(y_true == 2, 3, one)
    found = compare(y_true, one, other, 4, 0.95)
    assert [row.class_name for row in found if row.is_clear] == ["2", "3"]
    assert found[2].low > 0.5
