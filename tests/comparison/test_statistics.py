"""Intervals and tests against hand-worked values and independent implementations (statsmodels, scikit-learn)."""

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import f1_score
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from cotejo.comparison.statistics import (
    adjust_holm,
    choose_num_resamples,
    compute_accuracy_difference,
    compute_f1_differences,
    compute_welch_p_value,
)
from cotejo.errors import DataError


def predict(generator, y_true, num_seeds, accuracy, num_classes=4):
    wrong = (y_true + generator.integers(1, num_classes, size=(num_seeds, len(y_true)))) % num_classes
    return np.where(generator.random((num_seeds, len(y_true))) < accuracy, y_true, wrong)


def test_with_one_seed_each_the_p_value_is_mcnemars():
    generator = np.random.default_rng(1)
    y_true = generator.integers(0, 4, size=500)
    a, b = predict(generator, y_true, 1, 0.80), predict(generator, y_true, 1, 0.86)
    right_a, right_b = a[0] == y_true, b[0] == y_true
    table = [[(right_a & right_b).sum(), (right_a & ~right_b).sum()],
             [(~right_a & right_b).sum(), (~right_a & ~right_b).sum()]]  # fmt: skip
    found = compute_accuracy_difference(y_true, a, b, 0.95)
    assert found.method == "mcnemar"
    assert found.p_value == pytest.approx(mcnemar(table, exact=True).pvalue)
    paired = stats.ttest_rel(right_b.astype(float), right_a.astype(float)).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx(paired)
    assert found.value == pytest.approx(right_b.mean() - right_a.mean())


def test_two_seeds_worked_by_hand():
    # baseline right on 2 and 2 of 4 images, candidate on 4 and 3
    y_true = np.zeros(4, dtype=int)
    baseline = np.array([[0, 0, 1, 1], [0, 0, 1, 1]])
    candidate = np.array([[0, 0, 0, 0], [0, 0, 0, 1]])
    # per image 0, 0, 1, 0.5: mean 0.375, variance 0.229167, / 4 = 0.0572917 with 3 degrees of freedom
    # accuracies of the candidate 1, 0.75: variance 0.03125, / 2 = 0.015625 with 1; the baseline's don't vary
    found = compute_accuracy_difference(y_true, baseline, candidate, 0.95)
    images, seeds = 0.2291666666666667 / 4, 0.03125 / 2
    freedom = (images + seeds) ** 2 / (images**2 / 3 + seeds**2 / 1)
    half_width = stats.t.ppf(0.975, freedom) * math.sqrt(images + seeds)
    assert found.value == 0.375
    assert found.degrees_of_freedom == pytest.approx(freedom)
    assert 0.375 + half_width > 1  # more than two accuracies can differ by
    assert (found.low, found.high) == (pytest.approx(0.375 - half_width), 1)
    assert found.p_value == pytest.approx(2 * stats.t.sf(0.375 / math.sqrt(images + seeds), freedom))
    assert found.method == "welch_t"


def test_when_only_seeds_vary_the_interval_is_welchs():
    # seeds that are right on all images or on none: the images bring no variance of their own
    y_true = np.zeros(1000, dtype=int)
    seeds_a, seeds_b = np.array([0, 0, 1]), np.array([0, 1, 1, 0])
    found = compute_accuracy_difference(
        y_true, np.repeat(seeds_a[:, None], 1000, 1), np.repeat(seeds_b[:, None], 1000, 1), 0.9
    )
    expected = stats.ttest_ind(1.0 - seeds_b, 1.0 - seeds_a, equal_var=False)
    assert found.p_value == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == pytest.approx(np.clip(expected.confidence_interval(0.9), -1, 1))


@pytest.mark.parametrize("num_seeds", [1, 3])
def test_identical_predictions_differ_by_nothing(num_seeds):
    y_true = np.arange(30) % 3
    predicted = np.tile((y_true + (y_true == 1)) % 3, (num_seeds, 1))
    found = compute_accuracy_difference(y_true, predicted, predicted, 0.95)
    assert (found.value, found.p_value) == (0.0, 1.0)
    assert (found.low, found.high) == (0.0, 0.0)
    assert math.isfinite(found.degrees_of_freedom)


def test_seeds_that_disagree_widen_the_interval():
    generator = np.random.default_rng(2)
    y_true = generator.integers(0, 4, size=4000)
    steady = np.concatenate([predict(generator, y_true, 1, accuracy) for accuracy in (0.9, 0.9)])
    shaky = np.concatenate([predict(generator, y_true, 1, accuracy) for accuracy in (0.8, 1.0)])
    baseline = predict(generator, y_true, 2, 0.85)
    narrow = compute_accuracy_difference(y_true, baseline, steady, 0.95)
    wide = compute_accuracy_difference(y_true, baseline, shaky, 0.95)
    assert narrow.low > 0
    assert wide.low < 0
    assert wide.p_value > 0.05


predictions = st.integers(0, 2**32 - 1).flatmap(
    lambda seed: st.tuples(st.just(seed), st.integers(2, 60), st.integers(1, 3), st.integers(1, 3))
)


@given(predictions, st.floats(0.5, 0.99))
@settings(max_examples=60, deadline=None)
def test_difference_is_antisymmetric_and_inside_its_interval(shape, confidence):
    seed, num_samples, num_seeds_a, num_seeds_b = shape
    generator = np.random.default_rng(seed)
    y_true = generator.integers(0, 4, size=num_samples)
    a, b = predict(generator, y_true, num_seeds_a, 0.6), predict(generator, y_true, num_seeds_b, 0.7)
    forth = compute_accuracy_difference(y_true, a, b, confidence)
    back = compute_accuracy_difference(y_true, b, a, confidence)
    assert forth.value == pytest.approx(-back.value)
    assert (forth.low, forth.high) == pytest.approx((-back.high, -back.low))
    assert forth.p_value == pytest.approx(back.p_value)
    assert -1 <= forth.low <= forth.value <= forth.high <= 1
    assert 0 <= forth.p_value <= 1


def test_interval_covers_the_truth_as_often_as_it_says():
    generator = np.random.default_rng(5)
    y_true = np.zeros(300, dtype=int)
    covered = 0
    for _ in range(300):
        # what a seed does to a model: its own accuracy, around 0.8 and 0.85
        a = np.concatenate([predict(generator, y_true, 1, generator.normal(0.80, 0.02)) for _ in range(3)])
        b = np.concatenate([predict(generator, y_true, 1, generator.normal(0.85, 0.02)) for _ in range(3)])
        found = compute_accuracy_difference(y_true, a, b, 0.9)
        covered += found.low <= 0.05 <= found.high
    # 270 expected; four standard deviations below is 249, above it the interval may be wide but not always
    assert 249 <= covered < 300


@pytest.mark.parametrize(("shape", "num_samples"), [((2, 5), 4), ((4,), 4), ((1, 1), 1)])
def test_shapes_that_do_not_agree_are_refused(shape, num_samples):
    with pytest.raises(DataError, match="Received"):
        compute_accuracy_difference(np.zeros(num_samples, dtype=int), np.zeros(shape, dtype=int),
                                    np.zeros((1, num_samples), dtype=int), 0.95)  # fmt: skip


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


def test_f1_intervals_equal_those_of_a_plain_bootstrap():
    generator = np.random.default_rng(4)
    y_true = generator.integers(0, 3, size=300)
    a, b = predict(generator, y_true, 2, 0.7, 3), predict(generator, y_true, 2, 0.8, 3)
    found = compute_f1_differences(y_true, a, b, 3, 0.9, num_resamples=4000)
    plain = []
    for _ in range(1000):
        chosen = generator.integers(0, 300, size=300)
        scores = [[f1_score(y_true[chosen], row[chosen], average=None) for row in rows] for rows in (a, b)]
        plain.append(np.mean(scores[1], axis=0) - np.mean(scores[0], axis=0))
    low, high = np.quantile(plain, [0.05, 0.95], axis=0)
    # the ends of both are random; their standard error is about 0.002
    assert [row.low for row in found] == pytest.approx(list(low), abs=0.009)
    assert [row.high for row in found] == pytest.approx(list(high), abs=0.009)


def test_f1_intervals_of_a_whole_test_set_take_seconds_and_repeat():
    generator = np.random.default_rng(6)
    y_true = generator.integers(0, 10, size=10_000)
    a, b = predict(generator, y_true, 2, 0.85, 10), predict(generator, y_true, 2, 0.9, 10)
    start = time.perf_counter()
    first = compute_f1_differences(y_true, a, b, 10, 0.95, num_resamples=1000)
    assert time.perf_counter() - start < 10
    assert first == compute_f1_differences(y_true, a, b, 10, 0.95, num_resamples=1000)
    assert all(row.low < row.value < row.high for row in first)


@pytest.mark.parametrize(("confidence", "expected"), [(0.5, 4000), (0.95, 4000), (0.995, 40_000), (0.999, 200_000)])
def test_rare_tails_take_more_resamples(confidence, expected):
    assert choose_num_resamples(confidence) == expected


@given(st.lists(st.floats(0.01, 10), min_size=2, max_size=6), st.lists(st.floats(0.01, 10), min_size=2, max_size=6))
@settings(max_examples=60, deadline=None)
def test_welchs_p_value_equals_scipys(first, second):
    if min(np.std(first), np.std(second)) < 1e-6:  # scipy's warns: its precision is lost
        return
    expected = stats.ttest_ind(first, second, equal_var=False).pvalue
    assert compute_welch_p_value(first, second) == pytest.approx(expected)


def test_welchs_p_value_of_values_that_do_not_vary():
    assert compute_welch_p_value([0.3, 0.3, 0.3], [0.3, 0.3]) == 1
    assert compute_welch_p_value([0.3, 0.3, 0.3], [0.4, 0.4]) == 0
    # one that varies: 0.15 from the other's, standard error 0.05, one degree of freedom
    assert compute_welch_p_value([0.3, 0.3, 0.3], [0.4, 0.5]) == pytest.approx(2 * stats.t.sf(3, 1))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
@settings(max_examples=30, deadline=None)
def test_holm_equals_statsmodels(p_values):
    assert adjust_holm(p_values) == pytest.approx(list(multipletests(p_values, method="holm")[1]))


def test_holm_by_hand():
    assert adjust_holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert adjust_holm([]) == []
