"""The difference of every two models: what the report says of studies whose truth is known."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from cotejo.comparison.pairs import estimate_pairs
from cotejo.estimation.estimates import summarize_scores
from simulated_studies import Cell, draw_study, simulate

SHAPES = st.tuples(st.integers(0, 2**32 - 1), st.integers(2, 60), st.integers(1, 3), st.integers(1, 3))


def estimate(baseline, candidate, confidence=0.95, margin=0.01):
    """Estimates the one pair of two models, of whose answers it is given whether they are correct."""
    scores = {"one": summarize_scores(baseline), "other": summarize_scores(candidate)}
    (pair,) = estimate_pairs(scores, "one", "other", confidence, margin)
    return pair


@settings(max_examples=60)
@given(SHAPES, st.floats(0.8, 0.99))
def test_a_difference_turns_with_its_models_and_lies_in_its_intervals(shape, confidence):
    seed, num_images, num_first, num_second = shape
    generator = np.random.default_rng(seed)
    first, second = generator.random((num_first, num_images)) < 0.6, generator.random((num_second, num_images)) < 0.7
    forth, back = estimate(first, second, confidence), estimate(second, first, confidence)
    assert forth.value == pytest.approx(second.mean() - first.mean())
    assert forth.value == pytest.approx(-back.value)
    for prefix in ("", "files_", "all_"):
        low, high = getattr(forth, f"{prefix}low"), getattr(forth, f"{prefix}high")
        assert (-high, -low) == pytest.approx((getattr(back, f"{prefix}low"), getattr(back, f"{prefix}high")))
        assert -1 <= low <= high <= 1
    assert forth.low <= forth.value <= forth.high
    assert forth.low <= forth.files_low + 1e-12
    assert forth.files_high <= forth.high + 1e-12
    assert forth.p_value == pytest.approx(back.p_value)
    assert forth.equivalence_p == pytest.approx(back.equivalence_p)
    assert 0 <= forth.p_value <= 1


@pytest.mark.parametrize("num_seeds", [1, 3])
def test_the_same_answers_differ_by_nothing_that_a_test_could_find(num_seeds):
    correct = np.tile(np.arange(30) % 3 > 0, (num_seeds, 1))
    pair = estimate(correct, correct)
    assert (pair.value, pair.p_value) == (0, 1)
    # another 30 images may tell them apart
    assert pair.low < 0 < pair.high


def test_seeds_that_disagree_widen_the_interval_and_not_that_of_these_files():
    generator = np.random.default_rng(2)
    difficulty = generator.random(4000)
    baseline = difficulty < np.array([[0.85], [0.85], [0.85]])
    steady, shaky = difficulty < np.array([[0.9], [0.9], [0.9]]), difficulty < np.array([[0.8], [0.9], [1.0]])
    narrow, wide = estimate(baseline, steady), estimate(baseline, shaky)
    assert narrow.low > 0 > wide.low
    assert narrow.p_value < 0.05 < wide.p_value
    assert wide.files_low > 0
    assert narrow.image_share == 1
    assert wide.image_share < 0.5


def test_one_seed_of_one_model_leaves_the_other_models_seeds_out():
    generator = np.random.default_rng(3)
    one, three = generator.random((1, 200)) < 0.8, generator.random((3, 200)) < np.array([[0.6], [0.8], [0.99]])
    pair = estimate(one, three)
    assert (pair.num_seeds, pair.image_share) == (1, None)
    assert (pair.low, pair.high) == pytest.approx((pair.files_low, pair.files_high))


def test_models_with_other_numbers_of_seeds_are_weighed_by_their_own():
    generator = np.random.default_rng(4)
    # seeds that are correct on all images or on none vary, the images don't: what is left is the seeds' part
    first, second = (
        np.repeat(rows[:, None], 1000, axis=1) for rows in (np.array([1, 0, 0, 1, 1]), np.array([1, 1, 0]))
    )
    pair = estimate(first > 0, second > 0)
    parts = [2 / 1002**2, np.var(first[:, 0], ddof=1) / 5, np.var(second[:, 0], ddof=1) / 3]
    assert pair.num_seeds == 3
    assert pair.value == pytest.approx(2 / 3 - 3 / 5)
    assert pair.image_share == pytest.approx(parts[0] / sum(parts), rel=0.05)
    # seeds as alike as these differ more than accuracies can
    assert (pair.low, pair.high) == (-1, 1)
    # of one model more trainings, of both the same images
    ten, three = generator.random((10, 500)) < 0.9, generator.random((3, 500)) < 0.8
    expected = stats.norm.ppf(0.975) * np.sqrt(np.var(three.mean(axis=0) - ten.mean(axis=0)) / 500)
    found = estimate(ten, three)
    assert (found.files_high - found.files_low) / 2 == pytest.approx(expected, rel=0.05)


def test_a_planted_gap_is_found_and_a_planted_tie_is_not():
    generator = np.random.default_rng(6)
    gaps, ties = [], []
    for found, accuracies in ((gaps, (0.89, 0.92)), (ties, (0.9, 0.9))):
        for _ in range(20):
            _, correct = draw_study(generator, Cell(10_000, 3, accuracies, (0.001, 0.001)))
            found.append(estimate(*correct, margin=0.015))
    assert sum(pair.low > 0 and pair.p_value < 0.05 for pair in gaps) >= 19
    assert sum(pair.p_value < 0.05 for pair in ties) <= 3
    # and the ties, not the gaps, are the same to within a point and a half
    assert sum(pair.equivalence_p < 0.025 for pair in ties) >= 15
    assert not any(pair.equivalence_p < 0.025 for pair in gaps)


@pytest.mark.parametrize(
    "cell",
    [Cell(400, 1, (0.8, 0.84), (0.0, 0.0)), Cell(400, 3, (0.8, 0.84), (0.02, 0.02)),
     Cell(1000, 2, (0.9, 0.9), (0.005, 0.005)), Cell(300, 5, (0.8, 0.8), (0.0, 0.05))],
    ids=["one-seed", "three-seeds", "two-seeds", "uneven-seeds"],
)  # fmt: skip
def test_intervals_cover_the_truth_as_often_as_they_say_and_equal_models_are_seldom_called_better(cell):
    rates = simulate(cell, 150)
    # 0.95 less three standard deviations; intervals may err on the wide side
    assert rates.own >= 0.91
    assert rates.pairs >= 0.897
    assert rates.better <= 0.103
    assert rates.as_good <= 0.103


def test_with_one_image_set_a_hundred_times_the_seeds_an_interval_stays_as_wide():
    generator = np.random.default_rng(8)
    first, second = generator.random((2, 1, 300)) < 0.8
    pairs = [estimate(np.repeat(first, count, axis=0), np.repeat(second, count, axis=0)) for count in (2, 200)]
    few, many = pairs
    assert (many.low, many.high) == pytest.approx((few.low, few.high))


def test_bounds_that_hold_for_all_models_at_once_widen_with_their_number():
    generator = np.random.default_rng(9)
    scores = {str(number): summarize_scores(generator.random((3, 300)) < 0.8) for number in range(6)}
    widths = []
    for count in (2, 3, 4, 6):
        pairs = estimate_pairs(dict(itertools.islice(scores.items(), count)), "0", "1", 0.95, 0.01)
        assert len(pairs) == count * (count - 1) / 2
        assert (pairs[0].baseline, pairs[0].candidate) == ("0", "1")
        widths.append(pairs[0].all_high - pairs[0].all_low)
        assert pairs[0].high - pairs[0].low == pytest.approx(widths[0])
    # with two and with three models one-sided tests are as strict as the two-sided one
    assert widths[0] == pytest.approx(widths[1])
    assert widths[1] < widths[2] < widths[3]
