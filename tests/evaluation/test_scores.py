"""What an image adds to a score: the mean is the score, the variance is the bootstrap's."""

import numpy as np
import pytest
from sklearn.metrics import f1_score, log_loss

from cotejo.evaluation.calibration import fit_temperature
from cotejo.evaluation.metrics import normalize_rows
from cotejo.evaluation.scores import (
    compute_all_losses,
    score_confidence_gap,
    score_f1,
    score_losses,
    score_macro_f1,
    score_risk,
    score_share,
    score_temperatures,
)
from cotejo.evaluation.selective import compute_risks

NUM_IMAGES, NUM_CLASSES = 600, 4


@pytest.fixture(scope="module")
def answers():
    generator = np.random.default_rng(4)
    y_true = generator.integers(0, NUM_CLASSES, NUM_IMAGES)
    logits = generator.normal(size=(2, NUM_IMAGES, NUM_CLASSES))
    logits[:, np.arange(NUM_IMAGES), y_true] += 1.5
    y_prob = np.exp(2 * logits) / np.exp(2 * logits).sum(axis=2, keepdims=True)
    return y_true, y_prob.astype(np.float32)


def bootstrap(statistic, y_true, y_prob, num_resamples=250):
    generator = np.random.default_rng(5)
    drawn = (generator.integers(0, NUM_IMAGES, NUM_IMAGES) for _ in range(num_resamples))
    return np.std([statistic(y_true[rows], y_prob[:, rows]) for rows in drawn], ddof=1)


def macro_f1(y_true, y_prob):
    return np.mean([f1_score(y_true, rows.argmax(axis=1), average="macro") for rows in y_prob])


def f1_of_1(y_true, y_prob):
    return np.mean([f1_score(y_true == 1, rows.argmax(axis=1) == 1) for rows in y_prob])


def risk(y_true, y_prob):
    rows = [(normalize_rows(prob).max(axis=1), prob.argmax(axis=1) == y_true) for prob in y_prob]
    return np.mean([compute_risks(*row)[int(0.8 * NUM_IMAGES) - 1] for row in rows])


def log_temperature(y_true, y_prob):
    return np.mean([np.log(fit_temperature(y_true, rows)) for rows in y_prob])


SCORES = {
    "macro F1": (macro_f1, lambda y, p: score_macro_f1(y, p.argmax(axis=2), NUM_CLASSES)),
    "F1 of a class": (f1_of_1, lambda y, p: score_f1(y, p.argmax(axis=2), 1)),
    "risk": (risk, lambda y, p: score_risk(y, p, 0.8)),
    "temperature": (log_temperature, lambda y, p: score_temperatures(y, p, [fit_temperature(y, row) for row in p])),
    "cross-entropy": (
        lambda y, p: np.mean([log_loss(y, normalize_rows(rows), labels=range(NUM_CLASSES)) for rows in p]),
        lambda y, p: score_losses(compute_all_losses(y, p)),
    ),
    "confidence gap": (
        lambda y, p: p.max(axis=2).mean() - (p.argmax(axis=2) == y).mean(),
        score_confidence_gap,
    ),
}


@pytest.mark.parametrize("name", SCORES)
def test_the_mean_is_the_score_and_the_variance_the_bootstraps(answers, name):
    statistic, score = SCORES[name]
    scores = score(*answers)
    assert scores.value == pytest.approx(statistic(*answers), abs=1e-6)
    error = scores.by_image.std(ddof=1) / np.sqrt(NUM_IMAGES)
    assert error == pytest.approx(bootstrap(statistic, *answers), rel=0.2)


def test_an_absolute_gap_turns_the_sign():
    y_true, y_prob = np.zeros(4, dtype=int), np.full((1, 4, 2), 0.5, dtype=np.float32)
    y_prob[..., 0], y_prob[..., 1] = 0.6, 0.4
    assert score_confidence_gap(y_true, y_prob).value == pytest.approx(-0.4)
    assert score_confidence_gap(y_true, y_prob, is_absolute=True).value == pytest.approx(0.4)


def test_a_class_that_no_image_has_scores_0():
    assert score_f1(np.zeros(5, dtype=int), np.zeros((1, 5), dtype=int), 3).value == 0


def test_a_share_is_of_the_corruptions():
    assert score_share(np.array([[25, 0], [5, 10]]), 25).by_image.tolist() == [0.6, 0.2]
