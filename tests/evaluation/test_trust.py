"""What the trust tables say agrees with the predictions that they are made of, and needs no TensorFlow."""

import subprocess
import sys

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.calibration import calibration_curve
from sklearn.metrics import accuracy_score, log_loss

from cotejo.evaluation.trust import compute_trust, tabulate_trust


def draw(seed, num_samples=4000, factor=3.0):
    """Labels, and the answers of a model whose logits are three times too large."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(scale=1.5, size=(num_samples, 6))
    y_prob = softmax(logits, axis=1)
    y_true = (y_prob.cumsum(axis=1) > generator.random((num_samples, 1))).argmax(axis=1)
    return y_true, softmax(factor * logits, axis=1).astype(np.float32)


@pytest.fixture(scope="module")
def trained():
    """Two seeds: (labels, probabilities) of test images and of validation images."""
    (y_true, first), (val_true, val_first) = draw(0), draw(1, 1500)
    second, val_second = first[:, ::-1] ** 0.5, val_first[:, ::-1] ** 0.5  # another model, no better than chance
    second, val_second = (prob / prob.sum(axis=1, keepdims=True) for prob in (second, val_second))
    return y_true, (first, second), val_true, (val_first, val_second)


@pytest.fixture(scope="module")
def trusts(trained):
    y_true, probs, val_true, val_probs = trained
    return [compute_trust(y_true, prob, val_true, val, 15) for prob, val in zip(probs, val_probs, strict=True)]


def test_the_temperature_of_the_validation_images_mends_the_test_images(trusts, trained):
    y_true, (y_prob, _), _, _ = trained
    scores = trusts[0].scores
    assert scores["temperature"] == pytest.approx(3, rel=0.08)
    assert scores["test_ece_scaled"] < 0.03 < 0.15 < scores["test_ece"]
    scaled = softmax(np.log(y_prob.astype(float)) / scores["temperature"], axis=1)
    assert scores["test_nll_scaled"] == pytest.approx(log_loss(y_true, scaled, labels=range(6)))
    exact = y_prob / y_prob.sum(axis=1, keepdims=True, dtype=float)
    assert scores["test_nll_scaled"] < log_loss(y_true, exact, labels=range(6)) - 0.1


def test_the_test_images_have_no_say_in_the_temperature(trained):
    y_true, (y_prob, _), val_true, (val_prob, _) = trained
    other = compute_trust(np.roll(y_true, 1), y_prob, val_true, val_prob, 15)
    assert other.scores["temperature"] == compute_trust(y_true, y_prob, val_true, val_prob, 15).scores["temperature"]


def test_the_bins_hold_the_answers_of_all_seeds(trusts, trained):
    y_true, probs, _, _ = trained
    tables = tabulate_trust(trusts, 15)
    confidence = np.concatenate([prob.max(axis=1) for prob in probs]).clip(0, 1)
    is_right = np.concatenate([prob.argmax(axis=1) == y_true for prob in probs])
    accuracy, mean = calibration_curve(is_right, confidence, n_bins=15)
    assert [row["accuracy"] for row in tables["reliability"]] == pytest.approx(accuracy)
    assert [row["confidence"] for row in tables["reliability"]] == pytest.approx(mean)
    for name in ("reliability", "reliability_scaled"):
        right = sum(row["count"] * row["accuracy"] for row in tables[name])
        assert sum(row["count"] for row in tables[name]) == 2 * len(y_true)
        assert right == pytest.approx(is_right.sum())  # before and after: scaling changes no answer


def test_at_full_coverage_the_risk_is_the_mean_error_rate_of_the_seeds(trusts, trained):
    y_true, probs, _, _ = trained
    points = tabulate_trust(trusts, 15)["risk_coverage"]
    assert [point["coverage"] for point in points] == pytest.approx(np.arange(1, 21) / 20)
    errors = [1 - accuracy_score(y_true, prob.argmax(axis=1)) for prob in probs]
    assert points[-1]["risk"] == pytest.approx(np.mean(errors))
    half = [np.mean(prob.argmax(axis=1)[order] != y_true[order])
            for prob in probs for order in [np.argsort(-prob.max(axis=1))[:2000]]]  # fmt: skip
    assert points[9]["risk"] == pytest.approx(np.mean(half), abs=2e-3)


def test_numbers_alone_need_no_tensorflow():
    """Compare imports some of them, and must start at once."""
    modules = "calibration, gallery, metrics, scores, selective, trust"
    code = f"import sys; from cotejo.evaluation import {modules}; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
