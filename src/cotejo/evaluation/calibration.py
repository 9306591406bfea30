"""Calibration: how often a confidence of 90% is correct, and the temperature that corrects it."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp, softmax

from cotejo.schema.results import Bin

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.integer[Any]]
Bools = NDArray[np.bool_]

#: Temperatures between which the best one is sought.
LOWEST_TEMPERATURE = 0.01
HIGHEST_TEMPERATURE = 100.0
#: Smallest probability that has a logarithm here: a softmax in float32 gives 0 below it.
SMALLEST_PROBABILITY = float(np.finfo(np.float32).smallest_normal)


def compute_bins(confidence: Floats, is_right: Bools, num_bins: int) -> list[Bin]:
    """Sorts answers into bins of equal width by their confidence.

    Args:
        confidence: Probability of the class that was answered, shape (num_samples,), 0 to 1.
        is_right: Whether the answer is the true class, shape (num_samples,).
        num_bins: Number of bins between 0 and 1.

    Returns:
        The bins that hold an answer, the lowest first. A confidence on the edge of two bins is in the lower one.

    References:
        C. Guo et al. (2017), On calibration of modern neural networks, ICML, section 2.
    """
    edges = np.linspace(0, 1, num_bins + 1)
    index = np.searchsorted(edges[1:-1], confidence, side="left")
    counts = np.bincount(index, minlength=num_bins)
    confidences = np.bincount(index, weights=confidence, minlength=num_bins)
    rights = np.bincount(index, weights=is_right, minlength=num_bins)
    return [
        Bin(float(low), float(high), int(count), float(total / count), float(right / count))
        for low, high, count, total, right in zip(edges[:-1], edges[1:], counts, confidences, rights, strict=True)
        if count
    ]


def compute_calibration_error(bins: Sequence[Bin]) -> float:
    """Computes the expected calibration error: how far accuracy and confidence are apart, averaged over the answers.

    Args:
        bins: From `compute_bins`.

    Returns:
        From 0, calibrated, to 1. Splitting a bin can only raise it, so compare it at equal bins only.

    References:
        C. Guo et al. (2017), On calibration of modern neural networks, ICML, equation 3.
    """
    num_samples = sum(each.count for each in bins)
    return math.fsum(each.count * abs(each.accuracy - each.confidence) for each in bins) / num_samples


def fit_temperature(y_true: Ints, y_prob: Floats) -> float:
    """Fits the temperature by which logits are divided so that the confidences are neither too high nor too low.

    It is the one with the lowest mean negative log-likelihood, which has one minimum only, since it is convex in
    1/temperature. Where every answer is right, lower is always better, so these images don't say what the
    confidence should be, and the temperature stays 1.

    Args:
        y_true: Labels of validation images, shape (num_samples,).
        y_prob: Probabilities, shape (num_samples, num_classes).

    Returns:
        A temperature from 0.01 to 100: above 1 the model is too sure of itself, below 1 not sure enough.

    References:
        C. Guo et al. (2017), On calibration of modern neural networks, ICML, section 4.2.
    """
    if (y_prob.argmax(axis=1) == y_true).all():
        return 1.0
    logits = _compute_logits(y_prob)
    gaps = logits - logits[np.arange(len(y_true)), y_true][:, None]  # above 0: more probable than the true class

    def compute_nll(log_temperature: float) -> float:
        return float(logsumexp(gaps / math.exp(log_temperature), axis=1).mean())

    # over the logarithm: half as sure and twice as sure are the same step
    bounds = (math.log(LOWEST_TEMPERATURE), math.log(HIGHEST_TEMPERATURE))
    return math.exp(minimize_scalar(compute_nll, bounds=bounds, method="bounded", options={"xatol": 1e-7}).x)


def scale_probabilities(y_prob: Floats, temperature: float) -> NDArray[np.float64]:
    """Divides the logits by a temperature; the order of the classes, and so every answer, stays.

    Args:
        y_prob: Probabilities, shape (num_samples, num_classes).
        temperature: Above 0; 1 changes nothing.

    Returns:
        Probabilities of the same shape.
    """
    return np.asarray(softmax(_compute_logits(y_prob) / temperature, axis=1), dtype=np.float64)


def _compute_logits(y_prob: Floats) -> NDArray[np.float64]:
    return np.log(np.maximum(y_prob.astype(np.float64), SMALLEST_PROBABILITY))
