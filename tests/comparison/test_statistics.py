"""Intervals and tests against hand-worked values and independent implementations (scipy, statsmodels)."""

import math
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower
from statsmodels.stats.proportion import proportion_effectsize
from statsmodels.stats.weightstats import ttost_paired

from cotejo.comparison.statistics import (
    Difference,
    adjust_holm,
    check_answers,
    compute_accuracy_difference,
    compute_detectable,
    compute_effect_size,
    compute_equivalence_p,
    compute_seed_spread,
    compute_welch_p_value,
)
from cotejo.errors import DataError


def predict(generator, y_true, num_seeds, accuracy, num_classes=4):
    wrong = (y_true + generator.integers(1, num_classes, size=(num_seeds, len(y_true)))) % num_classes
    return np.where(generator.random((num_seeds, len(y_true))) < accuracy, y_true, wrong)


def compare(y_true, baseline, candidate, confidence):
    return compute_accuracy_difference(check_answers(y_true, baseline), check_answers(y_true, candidate), confidence)


def test_with_one_seed_each_the_p_value_is_mcnemars():
    generator = np.random.default_rng(1)
    y_true = generator.integers(0, 4, size=500)
    a, b = predict(generator, y_true, 1, 0.80), predict(generator, y_true, 1, 0.86)
    right_a, right_b = a[0] == y_true, b[0] == y_true
    table = [[(right_a & right_b).sum(), (right_a & ~right_b).sum()],
             [(~right_a & right_b).sum(), (~right_a & ~right_b).sum()]]  # fmt: skip
    found = compare(y_true, a, b, 0.95)
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
    found = compare(y_true, baseline, candidate, 0.95)
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
    found = compare(y_true, np.repeat(seeds_a[:, None], 1000, 1), np.repeat(seeds_b[:, None], 1000, 1), 0.9)
    expected = stats.ttest_ind(1.0 - seeds_b, 1.0 - seeds_a, equal_var=False)
    assert found.p_value == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == pytest.approx(np.clip(expected.confidence_interval(0.9), -1, 1))


@pytest.mark.parametrize("num_seeds", [1, 3])
def test_identical_predictions_differ_by_nothing(num_seeds):
    y_true = np.arange(30) % 3
    predicted = np.tile((y_true + (y_true == 1)) % 3, (num_seeds, 1))
    found = compare(y_true, predicted, predicted, 0.95)
    assert (found.value, found.p_value) == (0.0, 1.0)
    assert (found.low, found.high) == (0.0, 0.0)
    assert math.isfinite(found.degrees_of_freedom)


def test_seeds_that_disagree_widen_the_interval():
    generator = np.random.default_rng(2)
    y_true = generator.integers(0, 4, size=4000)
    steady = np.concatenate([predict(generator, y_true, 1, accuracy) for accuracy in (0.9, 0.9)])
    shaky = np.concatenate([predict(generator, y_true, 1, accuracy) for accuracy in (0.8, 1.0)])
    baseline = predict(generator, y_true, 2, 0.85)
    narrow = compare(y_true, baseline, steady, 0.95)
    wide = compare(y_true, baseline, shaky, 0.95)
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
    forth = compare(y_true, a, b, confidence)
    back = compare(y_true, b, a, confidence)
    assert forth.value == pytest.approx(-back.value)
    assert (forth.low, forth.high) == pytest.approx((-back.high, -back.low))
    assert forth.p_value == pytest.approx(back.p_value)
    assert -1 <= forth.low <= forth.value <= forth.high <= 1
    assert 0 <= forth.p_value <= 1


def draw_study(generator, num_samples, num_seeds, accuracies, spread):
    """Draws which images two models have right: images as hard for both, and seeds around each model's accuracy."""
    hardness = generator.normal(size=num_samples)
    sides = []
    for accuracy in accuracies:
        drawn = stats.norm.ppf(generator.normal(accuracy, spread, size=num_seeds).clip(0.01, 0.99))
        noise = generator.normal(size=(num_seeds, num_samples))
        # right where the image is easier than what this seed can do: P(hardness + noise <= edge) is its accuracy
        sides.append((hardness * 0.8 + noise * 0.6 > drawn[:, None]).astype(int))
    return sides


@pytest.mark.parametrize(
    ("num_samples", "num_seeds", "spread"),
    [(400, 1, 0.0), (400, 3, 0.0), (400, 3, 0.02), (2000, 2, 0.02), (400, 5, 0.05)],
)
def test_interval_covers_the_truth_as_often_as_it_says(num_samples, num_seeds, spread):
    generator = np.random.default_rng(5)
    y_true, covered, alarms = np.zeros(num_samples, dtype=int), 0, 0
    for _ in range(400):
        baseline, candidate = draw_study(generator, num_samples, num_seeds, (0.80, 0.84), spread)
        found = compare(y_true, baseline, candidate, 0.95)
        covered += found.low <= 0.04 <= found.high
        alarms += (
            compare(y_true, *draw_study(generator, num_samples, num_seeds, (0.8, 0.8), spread), 0.95).p_value < 0.05
        )
    # 380 expected, standard deviation 4.4; the interval may err on the wide side, as its docstring says
    assert 366 <= covered <= 400
    assert alarms <= 34  # 20 expected at most


def test_a_planted_gap_is_found_and_a_planted_tie_is_not():
    generator = np.random.default_rng(6)
    y_true = np.zeros(10_000, dtype=int)
    gaps = [compare(y_true, *draw_study(generator, 10_000, 3, (0.89, 0.91), 0.002), 0.95) for _ in range(20)]
    ties = [compare(y_true, *draw_study(generator, 10_000, 3, (0.90, 0.90), 0.002), 0.95) for _ in range(20)]
    assert sum(found.low > 0 and found.p_value < 0.05 for found in gaps) == 20
    assert sum(found.p_value < 0.05 for found in ties) <= 3
    # and the ties, not the gaps, are the same to within a point and a half
    assert sum(compute_equivalence_p(found, 0.015) < 0.025 for found in ties) >= 15
    assert not any(compute_equivalence_p(found, 0.015) < 0.025 for found in gaps)


@pytest.mark.parametrize("margin", [0.0, 0.02, 0.05])
def test_equivalence_equals_statsmodels_two_one_sided_tests(margin):
    generator = np.random.default_rng(7)
    y_true = generator.integers(0, 4, size=600)
    a, b = predict(generator, y_true, 1, 0.85), predict(generator, y_true, 1, 0.86)
    found = compare(y_true, a, b, 0.95)
    rights = [(rows[0] == y_true).astype(float) for rows in (b, a)]
    expected, _, _ = ttost_paired(*rights, -margin, margin)
    assert compute_equivalence_p(found, margin) == pytest.approx(expected)


def test_both_one_sided_tests_at_half_the_level_are_the_interval_within_the_margin():
    generator = np.random.default_rng(8)
    decided = []
    for _ in range(200):
        found = compare(np.zeros(300, dtype=int), *draw_study(generator, 300, 3, (0.9, 0.9), 0.01), 0.95)
        decided.append(compute_equivalence_p(found, 0.04) < 0.025)
        assert decided[-1] == (max(-found.low, found.high) < 0.04)
    assert 0 < sum(decided) < 200


@pytest.mark.parametrize(
    ("value", "margin", "expected"), [(0.0, 0.01, 0.0), (0.005, 0.01, 0.0), (0.01, 0.01, 1.0), (0.0, 0.0, 1.0)]
)
def test_equivalence_of_what_does_not_vary(value, margin, expected):
    found = Difference(value, value, value, 1.0, 0.0, 9.0, None, "welch_t")
    assert compute_equivalence_p(found, margin) == expected


def test_detectable_difference_is_found_four_times_in_five():
    # right or wrong on images that have nothing in common: standard error sqrt(2 * 0.8 * 0.2 / 1000) = 0.0179
    generator = np.random.default_rng(9)
    y_true = np.zeros(1000, dtype=int)
    plain = compare(y_true, *(generator.random((2, 1, 1000)) > 0.8).astype(int), 0.95)
    detectable = compute_detectable(plain, 0.95)
    assert detectable == pytest.approx(2.8 * 0.0179, rel=0.05)
    shares = np.array([0.8 - detectable / 2, 0.8 + detectable / 2])
    rights = generator.random((2, 2000, 1000)) > shares[:, None, None]
    found = [
        compare(y_true, a[None].astype(int), b[None].astype(int), 0.95).p_value < 0.05
        for a, b in zip(*rights, strict=True)
    ]
    assert np.mean(found) == pytest.approx(0.8, abs=0.05)


@pytest.mark.parametrize(("num_values", "tolerance"), [(3, 0.06), (6, 0.02), (12, 0.01), (1000, 0.001)])
def test_detectable_difference_is_close_to_statsmodels(num_values, tolerance):
    # its exact answer, from the non-central t distribution, for a paired test with a standard deviation of 0.01
    expected = 0.01 * TTestPower().solve_power(nobs=num_values, alpha=0.05, power=0.8)
    found = Difference(0.0, -1.0, 1.0, 1.0, 0.01 / math.sqrt(num_values), num_values - 1, None, "welch_t")
    assert compute_detectable(found, 0.95) == pytest.approx(expected, rel=tolerance)


@given(st.floats(0, 1), st.floats(0, 1))
@settings(max_examples=40, deadline=None)
def test_effect_size_equals_statsmodels(baseline, candidate):
    assert compute_effect_size(baseline, candidate) == pytest.approx(
        proportion_effectsize(candidate, baseline), abs=1e-9
    )


def test_effect_size_by_hand():
    assert compute_effect_size(0.5, 1.0) == pytest.approx(math.pi / 2)
    assert compute_effect_size(0.75, 0.25) == pytest.approx(-math.pi / 3)


@given(st.lists(st.floats(0.3, 0.7), min_size=2, max_size=8))
@settings(max_examples=40, deadline=None)
def test_spread_over_seeds_equals_scipys(values):
    if np.std(values) < 1e-6:
        return
    found = compute_seed_spread(values, 0.9)
    low, high = stats.t.interval(0.9, len(values) - 1, np.mean(values), stats.sem(values))
    assert found == pytest.approx((np.std(values, ddof=1), max(0, low), min(1, high)))


def test_share_of_images_in_the_variance_by_hand():
    # see two seeds worked by hand: 0.0572917 from the images, 0.015625 from the candidate's seeds
    y_true = np.zeros(4, dtype=int)
    baseline, candidate = np.array([[0, 0, 1, 1], [0, 0, 1, 1]]), np.array([[0, 0, 0, 0], [0, 0, 0, 1]])
    found = compare(y_true, baseline, candidate, 0.95)
    assert found.image_share == pytest.approx(0.0572917 / (0.0572917 + 0.015625), rel=1e-5)
    assert found.standard_error == pytest.approx(math.sqrt(0.0572917 + 0.015625), rel=1e-5)
    assert compare(y_true, baseline[:1], candidate, 0.95).image_share is None
    assert compare(y_true, baseline, baseline, 0.95).image_share is None


def test_models_that_answered_different_images_are_refused():
    one, other = (check_answers(np.zeros(size, dtype=int), np.zeros((1, size), dtype=int)) for size in (4, 5))
    with pytest.raises(DataError, match="4 and 5 answers"):
        compute_accuracy_difference(one, other, 0.95)


@pytest.mark.parametrize(("shape", "num_samples"), [((2, 5), 4), ((4,), 4), ((1, 1), 1)])
def test_shapes_that_do_not_agree_are_refused(shape, num_samples):
    with pytest.raises(DataError, match="Received"):
        check_answers(np.zeros(num_samples, dtype=int), np.zeros(shape, dtype=int))


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
    with patch("gc.collect"):  # which it calls each time, to make room for its results
        expected = multipletests(p_values, method="holm")[1]
    assert adjust_holm(p_values) == pytest.approx(list(expected))


def test_holm_by_hand():
    assert adjust_holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert adjust_holm([]) == []
