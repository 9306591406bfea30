"""Risk by coverage against hand-worked values and the definition, order by order."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotejo.evaluation.selective import compute_aurc, compute_risks, select_risks


def brute_force(confidence, is_right):
    """Means over all orders in which the images could be answered, the surest first."""
    risks = [
        [np.mean([not is_right[index] for index in order[:covered]]) for covered in range(1, len(order) + 1)]
        for order in itertools.permutations(range(len(confidence)))
        if all(confidence[a] >= confidence[b] for a, b in itertools.pairwise(order))
    ]
    return np.mean(risks, axis=0)


def test_four_images_worked_by_hand():
    # in order of confidence: right, wrong, right, right
    risks = compute_risks(np.array([0.6, 0.9, 0.7, 0.8]), np.array([True, True, True, False]))
    assert risks == pytest.approx([0, 1 / 2, 1 / 3, 1 / 4])
    assert compute_aurc(risks) == pytest.approx((1 / 2 + 1 / 3 + 1 / 4) / 4)


def test_equal_confidences_share_their_errors():
    # two are equally sure, one of them wrong: half an error after the first of them
    assert compute_risks(np.array([0.5, 0.9, 0.9]), np.array([False, True, False])) == pytest.approx(
        [1 / 2, 1 / 2, 2 / 3]
    )


@given(st.lists(st.tuples(st.sampled_from([0.2, 0.5, 0.9]), st.booleans()), min_size=1, max_size=6))
def test_the_risks_are_the_means_over_all_orders(answers):
    confidence, is_right = np.array([c for c, _ in answers]), np.array([right for _, right in answers])
    assert compute_risks(confidence, is_right) == pytest.approx(brute_force(confidence, is_right))


def test_the_order_of_the_images_changes_nothing_at_all():
    generator = np.random.default_rng(0)
    confidence, is_right = generator.random(2000).round(2), generator.random(2000) < 0.8
    shuffled = generator.permutation(2000)
    np.testing.assert_array_equal(
        compute_risks(confidence, is_right), compute_risks(confidence[shuffled], is_right[shuffled])
    )


def test_a_model_that_is_surer_when_it_is_right_has_the_smaller_area():
    is_right = np.arange(100) >= 10
    good, useless, bad = np.arange(100) / 100, np.full(100, 0.5), 1 - np.arange(100) / 100
    areas = [compute_aurc(compute_risks(confidence, is_right)) for confidence in (good, useless, bad)]
    assert areas[0] < areas[1] < areas[2]
    assert areas[1] == pytest.approx(0.1)  # its risk is the error rate at every coverage


@pytest.mark.parametrize("num_samples", [1, 7, 20, 360])
def test_the_coverages_are_the_least_that_hold_so_many_images(num_samples):
    generator = np.random.default_rng(num_samples)
    risks = compute_risks(generator.random(num_samples), generator.random(num_samples) < 0.5)
    points = select_risks(risks)
    assert [point.coverage for point in points] == pytest.approx(np.arange(0.05, 1.01, 0.05))
    for step, point in enumerate(points, start=1):
        covered = next(k for k in range(1, num_samples + 1) if 20 * k >= step * num_samples)
        assert point.risk == risks[covered - 1]
