"""The engine against independent oracles: statsmodels, scipy, values worked by hand."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from cotejo.estimation.estimates import (
    DECLARED_SHARE,
    Estimates,
    adjust_declared,
    adjust_holm,
    estimate_differences,
    estimate_mean,
    summarize_scores,
)


def draw(num_seeds, num_images, accuracy=0.8, seed=0):
    generator = np.random.default_rng(seed)
    difficulty = generator.normal(size=num_images)
    return difficulty + generator.normal(size=(num_seeds, num_images)) < math.sqrt(2) * stats.norm.ppf(accuracy)


def build(value, variances, freedoms):
    of_files, of_seeds = np.array([variances[0]]), np.array([sum(variances[1:])])
    return Estimates(np.array([value]), np.array([value]), np.array([variances], dtype=float),
                     np.array([freedoms], dtype=float), of_files, of_seeds, -math.inf, math.inf)  # fmt: skip


def test_the_components_are_those_of_a_two_way_analysis_of_variance():
    values = np.random.default_rng(1).normal(size=(4, 30)) + np.arange(4)[:, None]
    seeds, images = np.meshgrid(range(4), range(30), indexing="ij")
    frame = pd.DataFrame({"y": values.ravel(), "seed": seeds.ravel(), "image": images.ravel()})
    table = anova_lm(ols("y ~ C(seed) + C(image)", frame).fit())
    mean_squares = table["sum_sq"] / table["df"]
    scores = summarize_scores(values)
    assert scores.seed_variance == pytest.approx((mean_squares["C(seed)"] - mean_squares["Residual"]) / 30)
    assert scores.value == pytest.approx(values.mean())


def test_what_belongs_to_an_image_and_a_seed_together_is_counted_once():
    # no seed is better than another one, though each errs on images of its own
    generator = np.random.default_rng(2)
    variances = [summarize_scores(generator.random((3, 400)) < 0.8).seed_variance for _ in range(300)]
    assert np.mean([variance == 0 for variance in variances]) > 0.5
    # beside 0.16 / 400, the variance of a seed's mean, which a count over seeds alone would show
    assert np.mean(variances) < 0.5 * 0.16 / 400


def test_with_one_seed_a_mean_is_agresti_and_coulls_but_for_t():
    correct = np.arange(500) < 430
    low, high = estimate_mean(summarize_scores(correct[None]), 0.95).compute_interval(0.95)
    expected = proportion_confint(430, 500, method="agresti_coull")
    ratio = stats.t.ppf(0.975, 499) / stats.norm.ppf(0.975)
    assert high - low == pytest.approx((expected[1] - expected[0]) * ratio, rel=1e-3)
    assert (low + high) / 2 == pytest.approx(sum(expected) / 2)


def test_with_one_seed_a_difference_is_bonett_and_prices_but_for_t():
    # 20 images that only the second has right, 8 that only the first
    first, second = np.zeros(100, dtype=bool), np.zeros(100, dtype=bool)
    first[:50], second[:50] = True, True
    second[50:70], first[70:78] = True, True
    found = estimate_differences([(summarize_scores(first[None]), summarize_scores(second[None]))])
    p12, p21 = 21 / 102, 9 / 102
    error = math.sqrt((p12 + p21 - (p12 - p21) ** 2) / 102)
    low, high = found.compute_interval(0.95)
    assert found.value[0] == pytest.approx(0.12)
    assert (low + high) / 2 == pytest.approx(p12 - p21)
    assert (high - low) / 2 == pytest.approx(stats.t.ppf(0.975, 99) * error)


def test_of_two_models_the_quantile_is_cochran_and_coxs():
    found = build(1.0, [0.3, 0.1, 0.2], [99, 2, 4])
    t = stats.t.ppf(0.975, [99, 2, 4])
    low, high = found.compute_interval(0.95)
    assert (high - low) / 2 == pytest.approx((0.3 * t[0] + 0.1 * t[1] + 0.2 * t[2]) / 0.6 * math.sqrt(0.6))
    assert found.image_share[0] == pytest.approx(0.5)


def test_of_one_model_squares_add_up_as_banerjee_has_it():
    low, high = build(1.0, [0.3, 0.1], [99, 2]).compute_interval(0.95)
    t = stats.t.ppf(0.975, [99, 2])
    assert (high - low) / 2 == pytest.approx(math.sqrt(0.3 * t[0] ** 2 + 0.1 * t[1] ** 2))


def test_with_one_component_p_is_students():
    found = build(0.5, [0.04], [9])
    assert found.compute_p_values()[0] == pytest.approx(2 * stats.t.sf(2.5, 9), rel=1e-5)
    assert found.compute_p_values(0.5)[0] == pytest.approx(1.0)


@settings(max_examples=60)
@given(
    value=st.floats(-0.2, 0.2), image=st.floats(1e-6, 1e-2), seeds=st.lists(st.floats(0, 1e-2), min_size=2, max_size=2),
    count=st.integers(2, 6),
)  # fmt: skip
def test_interval_and_p_agree(value, image, seeds, count):
    found = build(value, [image, *seeds], [500, count - 1, count - 1])
    p = found.compute_p_values()[0]
    if 1e-8 < p < 0.99:
        low, high = found.compute_interval(1 - p)
        # p is the level at which the interval ends at 0
        assert min(abs(low), abs(high)) == pytest.approx(0, abs=1e-3 * (high - low))


@pytest.mark.parametrize("margin", [0.01, 0.05])
def test_equivalence_is_an_interval_within_the_margin(margin):
    found = build(0.003, [4e-5, 1e-6, 1e-6], [800, 2, 2])
    p = found.compute_equivalence_p_values(margin)[0]
    low, high = found.compute_interval(1 - 2 * p)
    assert max(-low, high) == pytest.approx(margin, rel=1e-3)
    assert found.compute_equivalence_p_values(0.0)[0] > 0.5


@pytest.mark.parametrize("num_images", [5, 30, 1000])
@pytest.mark.parametrize("num_seeds", [1, 2, 3])
def test_no_interval_has_width_0(num_images, num_seeds):
    perfect = summarize_scores(np.ones((num_seeds, num_images), dtype=bool))
    low, high = estimate_mean(perfect, 0.95).compute_interval(0.95)
    assert low < 1 == high
    low, high = estimate_differences([(perfect, perfect)]).compute_interval(0.95)
    assert low < 0 < high
    assert estimate_differences([(perfect, perfect)]).compute_p_values()[0] == 1.0


def test_more_seeds_of_the_same_images_leave_the_images_part():
    few, many = (summarize_scores(draw(count, 200)) for count in (2, 50))
    error = estimate_mean(many, 0.95).on_these_files().standard_error[0]
    assert error > 0.6 * estimate_mean(few, 0.95).on_these_files().standard_error[0]


def test_one_seed_of_either_model_leaves_the_seeds_out():
    one, three = summarize_scores(draw(1, 100)), summarize_scores(draw(3, 100) ^ (np.arange(3) == 1)[:, None])
    found = estimate_differences([(one, three)])
    assert found.variances[0, 1:].tolist() == [0, 0]
    assert found.compute_interval(0.95) == found.on_these_files().compute_interval(0.95)


@settings(max_examples=30)
@given(st.lists(st.floats(1e-9, 1), min_size=1, max_size=12))
def test_holm_is_statsmodels(p_values):
    expected = multipletests(p_values, method="holm")[1]
    assert adjust_holm(np.array(p_values)) == pytest.approx(expected)


def test_the_declared_comparison_keeps_most_of_the_false_alarms():
    adjusted = adjust_declared(np.array([0.039, 0.001, 0.5]))
    assert adjusted[0] == pytest.approx(0.039 / DECLARED_SHARE)
    # decided, it hands its share on
    assert adjusted[1] == pytest.approx(max(0.002 / (1 - DECLARED_SHARE), 0.0) if 0.01 < 0.04 else 0)
    assert adjust_declared(np.array([0.03])).tolist() == [0.03]
    # undecided, it keeps its share
    assert adjust_declared(np.array([0.9, 0.01, 0.5]))[1] == pytest.approx(0.02 / (1 - DECLARED_SHARE))


def test_the_declared_comparison_and_the_others_raise_few_false_alarms_together():
    generator = np.random.default_rng(3)
    alarms = [(adjust_declared(generator.random(7)) < 0.05).any() for _ in range(4000)]
    assert np.mean(alarms) == pytest.approx(0.05, abs=0.011)
