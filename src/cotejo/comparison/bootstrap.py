"""Bootstrap intervals over the test images, exact and fast: images that bring the same are drawn by their number."""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cotejo.comparison.statistics import (
    Correctness,
    Floats,
    Ints,
    Variance,
    add_variances,
    check_answers,
    compute_half_width,
    count_patterns,
    variance_of_mean,
)

#: Resamples: at least so many, and on average so many beyond each end of an interval, which is noise if few; but at
#: most so many, which leave 25 beyond each end of an interval that holds for 100 classes at once.
MIN_RESAMPLES, RESAMPLES_BEYOND, MAX_RESAMPLES = 4000, 100, 100_000
#: Numbers that one block of resamples may hold: 32 MB of int64.
BLOCK_SIZE = 4_000_000


class F1Difference(NamedTuple):
    """The F1 score of one class for both models (means over seeds) and the difference, candidate minus baseline."""

    baseline: float
    candidate: float
    value: float
    low: float
    high: float


def choose_num_resamples(confidence: float) -> int:
    """Returns how many bootstrap resamples a percentile interval needs: the rarer what it leaves out, the more."""
    tail = (1 - confidence) / 2
    return min(MAX_RESAMPLES, max(MIN_RESAMPLES, math.ceil(RESAMPLES_BEYOND / tail)))


def bootstrap_accuracy_difference(
    baseline: Correctness, candidate: Correctness, confidence: float, *, seed: int = 0
) -> tuple[float, float]:
    """Computes a bootstrap interval of a difference of accuracies, paired: a drawn image brings both models' answers.

    Images that bring the same difference are interchangeable, so drawing images with replacement is drawing the
    counts of those groups from a multinomial distribution. That is the ordinary bootstrap exactly, in a fraction of
    the time and memory. The seeds are held fixed: the interval doesn't cover what other seeds would change.

    Args:
        baseline: From `check_answers`.
        candidate: Likewise, on the same images; the number of seeds may differ.
        confidence: Of the interval, between 0 and 1.
        seed: Seed of the resamples.

    Returns:
        Low and high of the percentile interval, candidate minus baseline.

    References:
        B. Efron and R. J. Tibshirani (1993), An Introduction to the Bootstrap, chapter 13 (percentile interval).
    """
    values, sizes = count_patterns(baseline, candidate)
    generator = np.random.default_rng(seed)
    num_samples = int(sizes.sum())
    counts = generator.multinomial(num_samples, sizes / num_samples, size=choose_num_resamples(confidence))
    low, high = np.quantile(counts @ values / num_samples, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


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
    """Compares the F1 scores of two models class by class.

    As in `compute_accuracy_difference`, other test images and other seeds could have given another difference, and
    both variances add up: that over images is the bootstrap's, the interval is t. With one seed each it is the
    bootstrap's percentile interval, which covers the test images only.

    An image enters the score of a class only by whether it is of that class and which trainings say that it is. So
    the images are counted by these patterns, and resamples drawn as in `bootstrap_accuracy_difference`, class by
    class.

    Args:
        y_true: True classes, shape (num_samples,), values 0 to `num_classes` - 1.
        predicted_baseline: Predicted classes, shape (num_seeds, num_samples).
        predicted_candidate: Likewise; the number of seeds may differ.
        num_classes: Number of classes.
        confidence: Of each interval, between 0 and 1.
        num_resamples: Bootstrap resamples; None: as many as `choose_num_resamples` says.
        seed: Seed of the resamples.

    Returns:
        One difference per class in class order. A class that is neither present nor predicted has F1 0.

    Raises:
        DataError: The shapes don't agree, or there are fewer than two images.
    """
    for predicted in (predicted_baseline, predicted_candidate):
        check_answers(y_true, predicted)
    num_resamples = num_resamples or choose_num_resamples(confidence)
    answers = np.vstack([y_true, predicted_baseline, predicted_candidate])
    # a seed of its own for each class, so that a class's resamples don't depend on how many others there are
    return [
        _compute_f1_difference(
            *_group_by_class(answers, label), len(predicted_baseline), confidence, num_resamples, (seed, label)
        )
        for label in range(num_classes)
    ]


def _group_by_class(answers: NDArray[Any], label: int) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Counts images by which of the true class and the predictions are the label.

    Args:
        answers: True and predicted classes, shape (1 + num_predictions, num_samples).
        label: The class.

    Returns:
        The patterns that occur, boolean of shape (1 + num_predictions, num_groups), and how many images have each.
    """
    # relabelled after each row, so that however many trainings there are, a code stays small
    codes = np.zeros(answers.shape[1], dtype=np.intp)
    patterns = np.zeros((0, 1), dtype=np.bool_)
    sizes = np.array([answers.shape[1]])
    for row in answers:
        codes = 2 * codes + (row == label)
        sizes = np.bincount(codes, minlength=2 * patterns.shape[1])
        present = np.flatnonzero(sizes)
        patterns = np.vstack([patterns[:, present // 2], present % 2 == 1])
        codes = np.searchsorted(present, codes) if len(present) < len(sizes) else codes
        sizes = sizes[present]
    return patterns, sizes


def _compute_f1_difference(
    patterns: NDArray[np.bool_],
    sizes: NDArray[np.int64],
    num_baseline: int,
    confidence: float,
    num_resamples: int,
    seed: tuple[int, int],
) -> F1Difference:
    """Compares the F1 scores of one class, given the patterns of its images."""
    observed = _compute_f1(sizes[None, :], patterns)
    baseline, candidate = float(observed[:num_baseline].mean()), float(observed[num_baseline:].mean())
    generator, num_samples = np.random.default_rng(seed), int(sizes.sum())
    resampled = np.empty(num_resamples)
    block = max(1, BLOCK_SIZE // len(sizes))
    for start in range(0, num_resamples, block):
        stop = min(start + block, num_resamples)
        scores = _compute_f1(generator.multinomial(num_samples, sizes / num_samples, size=stop - start), patterns)
        resampled[start:stop] = scores[num_baseline:].mean(axis=0) - scores[:num_baseline].mean(axis=0)
    value = candidate - baseline
    seeds = [variance_of_mean(side) for side in np.split(observed[:, 0], [num_baseline]) if len(side) > 1]
    if seeds:
        variance, freedom = add_variances([Variance(float(resampled.var(ddof=1)), num_samples - 1), *seeds])
        half_width = compute_half_width(variance, freedom, confidence)
        low, high = max(-1.0, value - half_width), min(1.0, value + half_width)
    else:
        low, high = map(float, np.quantile(resampled, [(1 - confidence) / 2, (1 + confidence) / 2]))
    return F1Difference(baseline, candidate, value, low, high)


def _compute_f1(counts: NDArray[np.int64], patterns: NDArray[np.bool_]) -> Floats:
    """Computes F1 scores of a class from how often each pattern was drawn.

    Args:
        counts: Shape (num_resamples, num_groups).
        patterns: Shape (1 + num_predictions, num_groups): whether true class and predictions are the class.

    Returns:
        Shape (num_predictions, num_resamples).
    """
    weights = counts.astype(np.float64)
    true, predicted = patterns[0], patterns[1:]
    found: Floats = (predicted & true).astype(np.float64) @ weights.T
    named = predicted.astype(np.float64) @ weights.T + weights @ true.astype(np.float64)
    scores: Floats = np.divide(2 * found, named, out=np.zeros_like(found), where=named > 0)
    return scores
