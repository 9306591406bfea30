"""Calibration and temperature against hand-worked bins, scikit-learn, and temperatures that were planted."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import softmax
from sklearn.calibration import calibration_curve
from sklearn.metrics import log_loss

from cotejo.evaluation.calibration import (
    compute_bins,
    compute_calibration_error,
    fit_temperature,
    scale_probabilities,
)


def draw_labels(generator, y_prob):
    """Draws labels with the probabilities that a model gives: the model is calibrated."""
    return (y_prob.cumsum(axis=1) > generator.random((len(y_prob), 1))).argmax(axis=1)


@pytest.fixture(scope="module")
def calibrated():
    generator = np.random.default_rng(0)
    y_prob = softmax(generator.normal(scale=2, size=(20_000, 5)), axis=1)
    return draw_labels(generator, y_prob), y_prob


def test_four_bins_worked_by_hand():
    confidence = np.array([0.3, 0.5, 0.6, 0.7, 0.9, 1.0])
    is_right = np.array([True, False, True, False, True, True])
    # (0.25, 0.5]: 0.3 and 0.5, one right; (0.5, 0.75]: 0.6 and 0.7, one right; (0.75, 1]: 0.9 and 1.0, both right
    bins = compute_bins(confidence, is_right, 4)
    assert [(each.low, each.high, each.count, each.accuracy) for each in bins] == [
        (0.25, 0.5, 2, 0.5), (0.5, 0.75, 2, 0.5), (0.75, 1.0, 2, 1.0),
    ]  # fmt: skip
    assert [each.confidence for each in bins] == pytest.approx([0.4, 0.65, 0.95])
    assert compute_calibration_error(bins) == pytest.approx((0.1 + 0.15 + 0.05) / 3)


def test_the_bins_are_those_of_scikit_learn():
    generator = np.random.default_rng(1)
    # rounded, so that many a confidence lies on an edge
    confidence = np.concatenate([generator.random(3000).round(2), [0.0, 1.0]])
    is_right = generator.random(3002) < confidence
    for num_bins in (1, 7, 10, 15):
        accuracy, mean = calibration_curve(is_right, confidence, n_bins=num_bins)
        bins = compute_bins(confidence, is_right, num_bins)
        assert [each.accuracy for each in bins] == pytest.approx(accuracy)
        assert [each.confidence for each in bins] == pytest.approx(mean)
        assert sum(each.count for each in bins) == 3002


def test_one_bin_has_the_error_of_the_means_and_a_perfect_model_none():
    confidence, is_right = np.array([0.9, 0.8, 0.7]), np.array([True, False, False])
    assert compute_calibration_error(compute_bins(confidence, is_right, 1)) == pytest.approx(0.8 - 1 / 3)
    assert compute_calibration_error(compute_bins(np.ones(3), np.ones(3, dtype=bool), 15)) == 0


def test_a_calibrated_model_has_a_small_error_and_an_overconfident_one_a_large_one(calibrated):
    y_true, y_prob = calibrated
    errors = []
    for prob in (y_prob, scale_probabilities(y_prob, 0.4)):
        bins = compute_bins(prob.max(axis=1), prob.argmax(axis=1) == y_true, 15)
        errors.append(compute_calibration_error(bins))
    assert errors[0] < 0.012 < 0.1 < errors[1]


@pytest.mark.parametrize("planted", [0.3, 1.0, 2.5, 12.0])
def test_a_planted_temperature_is_recovered(calibrated, planted):
    y_true, y_prob = calibrated
    # logits that are `planted` times too large: the model is surer than it should be by that factor
    distorted = softmax(np.log(y_prob) * planted, axis=1)
    assert fit_temperature(y_true, distorted) == pytest.approx(planted, rel=0.03)


def test_the_temperature_has_the_lowest_loss_of_all():
    generator = np.random.default_rng(2)
    y_prob = softmax(generator.normal(scale=4, size=(400, 10)), axis=1).astype(np.float32)
    y_true = np.where(generator.random(400) < 0.6, y_prob.argmax(axis=1), generator.integers(0, 10, 400))

    def compute_loss(temperature):
        scaled = softmax(np.log(y_prob.astype(float)) / temperature, axis=1)
        return log_loss(y_true, scaled, labels=range(10))

    expected = minimize(lambda x: compute_loss(np.exp(x[0])), x0=[0.0], method="Nelder-Mead", options={"xatol": 1e-8})
    found = fit_temperature(y_true, y_prob)
    assert found == pytest.approx(np.exp(expected.x[0]), rel=1e-4)
    assert compute_loss(found) <= min(compute_loss(other) for other in np.geomspace(0.05, 50, 200))


def test_scaling_changes_no_answer_and_no_temperature_changes_nothing():
    generator = np.random.default_rng(3)
    y_prob = softmax(generator.normal(scale=6, size=(5000, 10)), axis=1).astype(np.float32)
    y_prob[0] = [0, 1, *[0] * 8]  # what float32 makes of a very sure softmax
    for temperature in (0.05, 0.5, 3.0, 60.0):
        scaled = scale_probabilities(y_prob, temperature)
        np.testing.assert_array_equal(scaled.argmax(axis=1), y_prob.argmax(axis=1))
        np.testing.assert_allclose(scaled.sum(axis=1), 1)
    np.testing.assert_allclose(scale_probabilities(y_prob, 1.0), y_prob, atol=1e-6)


def test_where_every_validation_image_is_right_the_confidences_stay(calibrated):
    _, y_prob = calibrated
    assert fit_temperature(y_prob.argmax(axis=1), y_prob) == 1


def test_a_sure_error_with_probability_zero_has_a_temperature_all_the_same():
    y_prob = np.eye(3, dtype=np.float32)[[0, 1, 2, 0]]
    temperature = fit_temperature(np.array([0, 1, 2, 1]), y_prob)
    # three of four right: sure to 75% with logits 0 and log of the smallest number, the rest shared by two classes
    sure = scale_probabilities(y_prob, temperature).max(axis=1)
    assert sure == pytest.approx(np.full(4, 0.75), abs=1e-4)
