"""Bootstrap intervals against plain bootstraps (scipy, and one that draws image by image)."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import f1_score

from cotejo.comparison.bootstrap import (
    bootstrap_accuracy_difference,
    compute_f1_differences,
)
from cotejo.comparison.statistics import check_answers, compute_accuracy_difference


def predict(generator, y_true, num_seeds, accuracy, num_classes=4):
    wrong = (y_true + generator.integers(1, num_classes, size=(num_seeds, len(y_true)))) % num_classes
    return np.where(generator.random((num_seeds, len(y_true))) < accuracy, y_true, wrong)


@pytest.mark.parametrize(("num_seeds_a", "num_seeds_b"), [(1, 1), (2, 3)])
def test_interval_equals_scipys_paired_bootstrap(num_seeds_a, num_seeds_b):
    generator = np.random.default_rng(1)
    y_true = generator.integers(0, 4, size=400)
    a, b = predict(generator, y_true, num_seeds_a, 0.80), predict(generator, y_true, num_seeds_b, 0.86)
    shares = [(rows == y_true).mean(axis=0) for rows in (a, b)]

    def subtract(one, other, axis):
        return other.mean(axis=axis) - one.mean(axis=axis)

    expected = stats.bootstrap(
        shares, subtract, paired=True, vectorized=True, n_resamples=20_000, method="percentile", rng=2
    ).confidence_interval
    found = bootstrap_accuracy_difference(check_answers(y_true, a), check_answers(y_true, b), 0.95)
    # the ends of both are random; ours has 4,000 resamples, so a standard error of about 0.0007
    assert found == pytest.approx((expected.low, expected.high), abs=0.003)


def test_with_many_images_it_equals_the_t_interval_of_one_training_each():
    generator = np.random.default_rng(3)
    y_true = generator.integers(0, 4, size=20_000)
    a, b = (check_answers(y_true, predict(generator, y_true, 1, accuracy)) for accuracy in (0.80, 0.81))
    expected = compute_accuracy_difference(a, b, 0.95)
    assert bootstrap_accuracy_difference(a, b, 0.95) == pytest.approx((expected.low, expected.high), abs=0.0006)


def test_the_same_answers_differ_by_nothing_and_resamples_repeat():
    generator = np.random.default_rng(4)
    y_true = generator.integers(0, 4, size=100)
    a, b = (check_answers(y_true, predict(generator, y_true, 2, accuracy)) for accuracy in (0.5, 0.6))
    assert bootstrap_accuracy_difference(a, a, 0.95) == bootstrap_accuracy_difference(a, a, 0.95)
    one = check_answers(y_true, predict(generator, y_true, 1, 0.5))
    assert bootstrap_accuracy_difference(one, one, 0.95) == (0, 0)
    assert bootstrap_accuracy_difference(a, b, 0.95, seed=1) != bootstrap_accuracy_difference(a, b, 0.95, seed=2)


def test_f1_scores_equal_scikit_learns():
    generator = np.random.default_rng(3)
    y_true = generator.integers(0, 4, size=400)
    a, b = predict(generator, y_true, 2, 0.7), predict(generator, y_true, 3, 0.9)
    found = compute_f1_differences(y_true, a, b, 5, 0.95, num_resamples=50)
    for index, predicted in ((0, a), (1, b)):
        expected = np.mean([f1_score(y_true, row, labels=range(5), average=None, zero_division=0) for row in predicted],
                           axis=0)  # fmt: skip
        assert [row[index] for row in found] == pytest.approx(list(expected))
    assert found[4] == (0, 0, 0, 0, 0)  # the class that never occurs


def resample_f1_differences(generator, y_true, a, b, num_classes):
    """A plain bootstrap of 1,000 resamples: which images are drawn, then the scores of each class, b minus a.

    Returns:
        Shape (1000, num_classes).
    """
    chosen = generator.integers(0, len(y_true), size=(1000, len(y_true)))
    sides = [np.mean([count_f1(y_true[chosen], row[chosen], num_classes) for row in rows], axis=0) for rows in (a, b)]
    # what it counts is what scikit-learn computes
    for index in (0, 999):
        drawn = chosen[index]
        for side, rows in zip(sides, (a, b), strict=True):
            expected = [f1_score(y_true[drawn], row[drawn], average=None) for row in rows]
            assert side[index] == pytest.approx(np.mean(expected, axis=0))
    return sides[1] - sides[0]


def count_f1(y_true, predicted, num_classes):
    """Each row's F1 score of each class, from how often both, the one or the other name it."""
    scores = []
    for label in range(num_classes):
        is_true, is_named = y_true == label, predicted == label
        scores.append(2 * (is_true & is_named).sum(axis=1) / (is_true.sum(axis=1) + is_named.sum(axis=1)))
    return np.stack(scores, axis=1)


def test_f1_intervals_equal_those_of_a_plain_bootstrap():
    generator = np.random.default_rng(4)
    y_true = generator.integers(0, 3, size=300)
    a, b = predict(generator, y_true, 1, 0.7, 3), predict(generator, y_true, 1, 0.8, 3)
    found = compute_f1_differences(y_true, a, b, 3, 0.9, num_resamples=4000)
    plain = resample_f1_differences(generator, y_true, a, b, 3)
    low, high = np.quantile(plain, [0.05, 0.95], axis=0)
    # the ends of both are random; their standard error is about 0.002
    assert [row.low for row in found] == pytest.approx(list(low), abs=0.009)
    assert [row.high for row in found] == pytest.approx(list(high), abs=0.009)


def test_with_several_seeds_f1_intervals_cover_them_too():
    generator = np.random.default_rng(4)
    y_true = generator.integers(0, 3, size=300)
    a, b = predict(generator, y_true, 3, 0.7, 3), predict(generator, y_true, 4, 0.8, 3)
    found = compute_f1_differences(y_true, a, b, 3, 0.9, num_resamples=20_000)
    scores = [np.array([f1_score(y_true, row, average=None) for row in rows]) for rows in (a, b)]
    resampled = resample_f1_differences(generator, y_true, a, b, 3)
    parts = np.array([np.var(resampled, axis=0), *(side.var(axis=0, ddof=1) / len(side) for side in scores)])
    freedom = parts.sum(axis=0) ** 2 / (parts**2 / np.array([[299], [2], [3]])).sum(axis=0)
    half_width = stats.t.ppf(0.95, freedom) * np.sqrt(parts.sum(axis=0))
    value = scores[1].mean(axis=0) - scores[0].mean(axis=0)
    assert [row.value for row in found] == pytest.approx(list(value))
    assert [row.high - row.value for row in found] == pytest.approx(list(half_width), rel=0.06)
    assert [row.value - row.low for row in found] == pytest.approx(list(half_width), rel=0.06)


def test_two_sets_of_trainings_of_one_model_seldom_differ_in_a_class():
    generator = np.random.default_rng(11)
    num_found = {1: 0, 3: 0}
    for _ in range(60):
        y_true = generator.integers(0, 3, size=2000)
        # each training is better at some classes than another one, by luck
        trainings = [train_by_luck(generator, y_true) for _ in range(6)]
        for num_seeds in num_found:
            sides = np.stack(trainings[:num_seeds]), np.stack(trainings[3 : 3 + num_seeds])
            rows = compute_f1_differences(y_true, *sides, 3, 1 - 0.05 / 3, num_resamples=1000)
            num_found[num_seeds] += any(row.low > 0 or row.high < 0 for row in rows)
    assert num_found[3] <= 6  # 3 on average, if the intervals hold
    assert num_found[1] > 15, "one training each can't know: the report says so beside it"


def train_by_luck(generator, y_true):
    accuracy = np.clip(0.85 + generator.normal(0, 0.03, size=3), 0, 1)[y_true]
    wrong = (y_true + generator.integers(1, 3, size=len(y_true))) % 3
    return np.where(generator.random(len(y_true)) < accuracy, y_true, wrong)


def test_f1_intervals_repeat():
    generator = np.random.default_rng(6)
    y_true = generator.integers(0, 10, size=10_000)
    a, b = predict(generator, y_true, 2, 0.85, 10), predict(generator, y_true, 2, 0.9, 10)
    first = compute_f1_differences(y_true, a, b, 10, 0.95, num_resamples=1000)
    assert first == compute_f1_differences(y_true, a, b, 10, 0.95, num_resamples=1000)
    assert all(row.low < row.value < row.high for row in first)
