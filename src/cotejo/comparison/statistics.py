"""Intervals and tests for the difference between two classifiers on the same test images."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from cotejo.errors import DataError

#: Bootstrap resamples: at least so many, and on average so many beyond each end of an interval, which is noise if few.
MIN_RESAMPLES, RESAMPLES_BEYOND = 4000, 100
#: Numbers that one block of bootstrap resamples may hold: 32 MB of int64.
BLOCK_SIZE = 4_000_000

Floats = NDArray[np.float64]
Ints = NDArray[np.integer]


class Difference(NamedTuple):
    """A difference between two accuracies, candidate minus baseline.

    `value`, `low` and `high` are fractions (0.01 is one point of percent), from -1 to 1. `method` is `welch_t` (test
    images and training seeds) or `mcnemar` (one seed each: the p value is McNemar's, the interval covers the test
    images only).
    """

    value: float
    low: float
    high: float
    p_value: float
    degrees_of_freedom: float
    method: str


class F1Difference(NamedTuple):
    """The F1 score of one class for both models (means over seeds) and the difference, candidate minus baseline."""

    baseline: float
    candidate: float
    value: float
    low: float
    high: float


def compute_accuracy_difference(
    y_true: Ints, predicted_baseline: Ints, predicted_candidate: Ints, confidence: float
) -> Difference:
    """Compares two accuracies measured on the same images, each a mean over training seeds.

    The difference is uncertain for two reasons, and their variances add up: other test images would have been
    harder or easier (variance over images of the difference in correctness, / number of images), and other seeds
    would have trained better or worse models (variance over seeds of each model's accuracy, / number of seeds).
    What belongs to an image and a seed together is in both terms, so the interval errs on the wide side.
    The t distribution's degrees of freedom are Welch and Satterthwaite's, over the terms that are present.

    With one seed each nothing is known about the seeds: the interval covers the test images only, and the p value
    is that of the exact McNemar test. When neither images nor seeds vary, the interval is the value itself. An
    interval that would reach beyond -1 or 1, which no difference of accuracies can, ends there.

    Args:
        y_true: True classes, shape (num_samples,).
        predicted_baseline: Predicted classes, shape (num_seeds, num_samples).
        predicted_candidate: Likewise; the number of seeds may differ.
        confidence: Of the interval, between 0 and 1.

    Returns:
        Candidate minus baseline, with a two-sided p value for a difference of 0.

    Raises:
        DataError: The shapes don't agree, or there are fewer than two images.

    References:
        Q. McNemar (1947), Psychometrika 12(2), 153-157. F. E. Satterthwaite (1946), Biometrics Bulletin 2(6),
        110-114. B. L. Welch (1947), Biometrika 34, 28-35. Both sources of variance and why one seed isn't enough:
        X. Bouthillier et al. (2021), Accounting for variance in machine learning benchmarks, MLSys 3.
    """
    _check_shapes(y_true, predicted_baseline, predicted_candidate)
    right_baseline, right_candidate = predicted_baseline == y_true, predicted_candidate == y_true
    per_image = right_candidate.mean(axis=0) - right_baseline.mean(axis=0)
    sources = [_variance_of_mean(per_image)]
    sources += [_variance_of_mean(right.mean(axis=1)) for right in (right_baseline, right_candidate) if len(right) > 1]
    value = float(right_candidate.mean() - right_baseline.mean())
    variance = sum(source for source, _ in sources)
    freedom = _compute_degrees_of_freedom(sources)
    half_width = float(stats.t.ppf((1 + confidence) / 2, freedom)) * math.sqrt(variance)
    if len(right_baseline) == len(right_candidate) == 1:
        p_value, method = _test_mcnemar(right_baseline[0], right_candidate[0]), "mcnemar"
    else:
        p_value, method = _test_t(value, variance, freedom), "welch_t"
    return Difference(value, max(-1.0, value - half_width), min(1.0, value + half_width), p_value, freedom, method)


def compute_welch_p_value(first: Sequence[float], second: Sequence[float]) -> float:
    """Tests whether two means are equal without assuming equal variances.

    The same as `scipy.stats.ttest_ind(equal_var=False)`, which warns of values that don't vary and returns NaN when
    none do. Here, when none do, p is 1 for equal means and 0 for different ones.

    Args:
        first: Independent values, at least two.
        second: Likewise; their number may differ.

    Returns:
        The two-sided p value.

    References:
        B. L. Welch (1947), Biometrika 34, 28-35.
    """
    one, other = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    sources = [_variance_of_mean(one), _variance_of_mean(other)]
    variance = sum(source for source, _ in sources)
    return _test_t(float(one.mean() - other.mean()), variance, _compute_degrees_of_freedom(sources))


def compute_f1_differences(
    y_true: Ints,
    predicted_baseline: Ints,
    predicted_candidate: Ints,
    num_classes: int,
    confidence: float,
    *,
    num_resamples: int | None = None,
    seed: int = 0,
) -> list[F1Difference]:
    """Compares the F1 scores of two models class by class, with bootstrap intervals over the test images.

    An image enters every score only through its true class and its predictions, so images that agree in all of
    them are interchangeable: drawing images with replacement is drawing the counts of those groups from a
    multinomial distribution. That is the ordinary bootstrap exactly, in a fraction of the time and memory.
    The seeds are held fixed: the intervals don't cover what other seeds would change.

    Args:
        y_true: True classes, shape (num_samples,), values 0 to `num_classes` - 1.
        predicted_baseline: Predicted classes, shape (num_seeds, num_samples).
        predicted_candidate: Likewise; the number of seeds may differ.
        num_classes: Number of classes.
        confidence: Of each interval, between 0 and 1.
        num_resamples: Bootstrap resamples; None: as many as leave 100 beyond each end of the interval, at least 4,000.
        seed: Seed of the resamples.

    Returns:
        One difference per class in class order. A class that is neither present nor predicted has F1 0.

    Raises:
        DataError: The shapes don't agree, or there are fewer than two images.

    References:
        B. Efron and R. J. Tibshirani (1993), An Introduction to the Bootstrap, chapter 13 (percentile interval).
    """
    _check_shapes(y_true, predicted_baseline, predicted_candidate)
    num_resamples = num_resamples or choose_num_resamples(confidence)
    answers = np.vstack([y_true, predicted_baseline, predicted_candidate])
    groups, sizes = np.unique(answers, axis=1, return_counts=True)
    one_hot = np.eye(num_classes)[groups]  # (1 + num_seeds of both, num_groups, num_classes)
    num_baseline = len(predicted_baseline)
    observed = _compute_f1_of_groups(sizes[None, :], one_hot)
    baseline = observed[:num_baseline, 0].mean(axis=0)
    candidate = observed[num_baseline:, 0].mean(axis=0)

    generator = np.random.default_rng(seed)
    resampled = np.empty((num_resamples, num_classes))
    block = max(1, BLOCK_SIZE // len(sizes))
    for start in range(0, num_resamples, block):
        stop = min(start + block, num_resamples)
        counts = generator.multinomial(len(y_true), sizes / len(y_true), size=stop - start)
        scores = _compute_f1_of_groups(counts, one_hot)
        resampled[start:stop] = scores[num_baseline:].mean(axis=0) - scores[:num_baseline].mean(axis=0)
    low, high = np.quantile(resampled, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    columns = (baseline, candidate, candidate - baseline, low, high)
    return [F1Difference(*map(float, row)) for row in zip(*columns, strict=True)]


def choose_num_resamples(confidence: float) -> int:
    """Returns how many bootstrap resamples a percentile interval needs: the rarer what it leaves out, the more."""
    tail = (1 - confidence) / 2
    return max(MIN_RESAMPLES, math.ceil(RESAMPLES_BEYOND / tail))


def adjust_holm(p_values: Sequence[float]) -> list[float]:
    """Adjusts p values for having made several tests, so that one false alarm among all stays as rare as promised.

    Args:
        p_values: p values in any order.

    Returns:
        The adjusted p values in the same order, at most 1.

    References:
        S. Holm (1979), A simple sequentially rejective multiple test procedure, Scand. J. Statist. 6(2), 65-70.
    """
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def _check_shapes(y_true: Ints, predicted_baseline: Ints, predicted_candidate: Ints) -> None:
    for name, predicted in (("predicted_baseline", predicted_baseline), ("predicted_candidate", predicted_candidate)):
        if y_true.ndim != 1 or predicted.ndim != 2 or predicted.shape[1] != len(y_true) or not len(predicted):
            raise DataError(
                f"Expected {name} of shape (num_seeds, num_samples) and y_true of shape (num_samples,). "
                f"Received: {name} {predicted.shape}, y_true {y_true.shape}."
            )
    if len(y_true) < 2:
        raise DataError(f"Expected at least 2 test images to compare on. Received: {len(y_true)}.")


def _variance_of_mean(values: Floats) -> tuple[float, int]:
    """Returns the variance of the mean of independent values, and its degrees of freedom."""
    # equal values whose mean isn't a float (thirds) would leave 1e-33 where 0 is meant
    if np.ptp(values) == 0:
        return 0.0, len(values) - 1
    return float(values.var(ddof=1)) / len(values), len(values) - 1


def _compute_degrees_of_freedom(sources: Sequence[tuple[float, int]]) -> float:
    """Computes Welch and Satterthwaite's degrees of freedom of a sum of variances; the images' if all are 0."""
    total = sum(variance for variance, _ in sources)
    if total == 0:
        return float(sources[0][1])
    # shares first: variances this small underflow when squared
    return 1 / sum((variance / total) ** 2 / freedom for variance, freedom in sources)


def _test_t(value: float, variance: float, freedom: float) -> float:
    if variance == 0:
        return 1.0 if value == 0 else 0.0
    return float(2 * stats.t.sf(abs(value) / math.sqrt(variance), freedom))


def _test_mcnemar(right_baseline: NDArray[np.bool_], right_candidate: NDArray[np.bool_]) -> float:
    """Tests whether each model is as often right where the other is wrong (exact: binomial, share 1/2)."""
    only_candidate = int((right_candidate & ~right_baseline).sum())
    discordant = int((right_candidate != right_baseline).sum())
    return float(stats.binomtest(only_candidate, discordant).pvalue) if discordant else 1.0


def _compute_f1_of_groups(counts: NDArray[np.int64], one_hot: Floats) -> Floats:
    """Computes F1 scores from how often each group of interchangeable images was drawn.

    Args:
        counts: Shape (num_resamples, num_groups).
        one_hot: Classes of the groups, shape (1 + num_predictions, num_groups, num_classes); the true ones first.

    Returns:
        Shape (num_predictions, num_resamples, num_classes).
    """
    weights = counts.astype(np.float64)
    true, predicted = one_hot[0], one_hot[1:]
    found: Floats = weights @ (predicted * true)
    named = weights @ predicted + weights @ true
    scores: Floats = np.divide(2 * found, named, out=np.zeros_like(found), where=named > 0)
    return scores
