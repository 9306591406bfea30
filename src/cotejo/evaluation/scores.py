"""Scores by image and training of a model: the input of `cotejo.estimation`.

Accuracy and cross-entropy are means over images. F1, the risk at a coverage and a fitted temperature are not; of them
an image's value is the score plus the image's influence on it (the infinitesimal jackknife), so that their mean is the
score and their variance over images is the score's.

References:
    B. Efron (1982), The Jackknife, the Bootstrap and Other Resampling Plans, chapter 6.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from cotejo.estimation.estimates import Scores, summarize_scores
from cotejo.evaluation.calibration import SMALLEST_PROBABILITY
from cotejo.evaluation.metrics import compute_losses, normalize_rows
from cotejo.evaluation.selective import ANSWERED, compute_risks

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.integer[Any]]

#: Images on either side of the last one answered from which the error rate there is estimated: a share of all.
NEIGHBOURHOOD = 0.05


def score_correct(correct: NDArray[np.bool_]) -> Scores:
    """Returns the scores of an accuracy.

    Args:
        correct: Whether each answer is correct, shape (num_seeds, num_samples).
    """
    return summarize_scores(correct)


def score_losses(losses: Floats) -> Scores:
    """Returns the scores of a mean cross-entropy.

    Args:
        losses: In nats, shape (num_seeds, num_samples).
    """
    return summarize_scores(
        losses, unit=float(losses.std(dtype=np.float64)), middle=float(losses.mean(dtype=np.float64))
    )


def score_share(counts: Ints, most: int) -> Scores:
    """Returns the scores of a mean of shares, such as how many of its corruptions an image survives.

    Args:
        counts: Shape (num_seeds, num_samples), 0 to `most`.
        most: Out of how many.
    """
    return summarize_scores(counts / most)


def score_f1(y_true: Ints, y_pred: Ints, label: int) -> Scores:
    """Returns the scores of the F1 of one class.

    Args:
        y_true: True classes, shape (num_samples,).
        y_pred: Predicted classes, shape (num_seeds, num_samples).
        label: The class. Without an image and a prediction of it, F1 is 0.
    """
    values, unit = _spread_f1(y_true, y_pred, label)
    return summarize_scores(values, unit=unit, middle=_find_middle(float(values.mean()), unit))


def score_macro_f1(y_true: Ints, y_pred: Ints, num_classes: int) -> Scores:
    """Returns the scores of the mean F1 over all classes.

    Args:
        y_true: True classes, shape (num_samples,).
        y_pred: Predicted classes, shape (num_seeds, num_samples).
        num_classes: Number of classes.
    """
    values, units = np.zeros(y_pred.shape), []
    for label in range(num_classes):
        of_class, unit = _spread_f1(y_true, y_pred, label)
        values += of_class / num_classes
        units.append(unit)
    unit = float(np.mean(units)) / num_classes
    return summarize_scores(values, unit=unit, middle=_find_middle(float(values.mean()), unit))


def score_confidence_gap(y_true: Ints, y_prob: Floats, *, is_absolute: bool = False) -> Scores:
    """Returns the scores of mean confidence minus accuracy: above 0 a model is surer than it is correct.

    Args:
        y_true: True classes, shape (num_samples,).
        y_prob: Probabilities, shape (num_seeds, num_samples, num_classes); rows sum to 1.
        is_absolute: Whether to turn the sign where the mean is below 0, so that less is better.
    """
    gaps = np.stack([normalize_rows(rows).max(axis=1) - (rows.argmax(axis=1) == y_true) for rows in y_prob])
    sign = -1.0 if is_absolute and gaps.mean() < 0 else 1.0
    return summarize_scores(sign * gaps, middle=0.0)


def score_risk(y_true: Ints, y_prob: Floats, coverage: float = ANSWERED) -> Scores:
    """Returns the scores of the share of errors if only the surest images are answered.

    Args:
        y_true: True classes, shape (num_samples,).
        y_prob: Probabilities, shape (num_seeds, num_samples, num_classes); rows sum to 1.
        coverage: Share of the images that are answered, above 0.
    """
    values = np.stack([_spread_risk(y_true, rows, coverage) for rows in y_prob])
    unit = 1 / coverage
    return summarize_scores(values, unit=unit, middle=_find_middle(float(values.mean()), unit))


def score_temperatures(y_true: Ints, y_prob: Floats, temperatures: Sequence[float]) -> Scores:
    """Returns the scores of the logarithm of a fitted temperature.

    Args:
        y_true: True classes of the images that it was fitted on, shape (num_samples,).
        y_prob: Their probabilities, shape (num_seeds, num_samples, num_classes).
        temperatures: From `fit_temperature`, one a seed.
    """
    pairs = zip(y_prob, temperatures, strict=True)
    values = np.stack([_spread_temperature(y_true, rows, temperature) for rows, temperature in pairs])
    return summarize_scores(values, unit=float(values.std()), middle=float(values.mean()))


def compute_all_losses(y_true: NDArray[np.int64], y_prob: Floats) -> NDArray[np.float64]:
    """Computes the cross-entropy of every training and image, in nats, shape (num_seeds, num_samples)."""
    return np.stack([compute_losses(y_true, normalize_rows(rows)) for rows in y_prob])


def _spread_f1(y_true: Ints, y_pred: Ints, label: int) -> tuple[NDArray[np.float64], float]:
    """Returns F1 plus each image's influence on it, and what an image more of the class can move it by."""
    true, predicted = y_true == label, y_pred == label
    named = true + predicted.astype(np.float64)  # (num_seeds, num_samples)
    both = 2.0 * (true & predicted)
    totals = np.maximum(named.sum(axis=1, keepdims=True), 1.0)
    f1 = both.sum(axis=1, keepdims=True) / totals
    num_samples = len(y_true)
    values = f1 + num_samples * (both - f1 * named) / totals
    return values, float(2 * num_samples / totals.mean())


def _find_middle(value: float, unit: float) -> float:
    """Returns the middle of two pseudo-images that pull a score to 0 and to 1, each by its distance times the unit."""
    return value + unit * (0.5 - value)


def _spread_risk(y_true: Ints, y_prob: Floats, coverage: float) -> NDArray[np.float64]:
    confidence, errors = normalize_rows(y_prob).max(axis=1), y_prob.argmax(axis=1) != y_true
    num_samples = len(errors)
    num_answered = math.ceil(coverage * num_samples - 1e-9)
    risk = float(compute_risks(confidence, ~errors)[num_answered - 1])
    order = np.argsort(-confidence, kind="stable")
    is_answered = np.zeros(num_samples, dtype=bool)
    is_answered[order[:num_answered]] = True
    reach = max(1, round(NEIGHBOURHOOD * num_samples))
    at_the_edge = errors[order[max(0, num_answered - reach) : num_answered + reach]].mean()
    # an image more among the surest pushes one out at the edge
    values = (is_answered * (errors - at_the_edge)) * (num_samples / num_answered) + at_the_edge
    return np.asarray(values + risk - values.mean())


def _spread_temperature(y_true: Ints, y_prob: Floats, temperature: float) -> NDArray[np.float64]:
    logits = np.log(np.maximum(np.asarray(y_prob, dtype=np.float64), SMALLEST_PROBABILITY)) / temperature
    prob = softmax(logits, axis=1)
    mean = (prob * logits).sum(axis=1)
    slopes = logits[np.arange(len(y_true)), y_true] - mean  # of the loss, by the logarithm of the temperature
    curvature = float(((prob * logits**2).sum(axis=1) - mean**2).mean())
    influence = -(slopes - slopes.mean()) / curvature if curvature > 0 else np.zeros(len(y_true))
    return np.asarray(math.log(temperature) + influence)
