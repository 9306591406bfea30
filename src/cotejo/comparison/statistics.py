"""Intervals and tests for the difference between two classifiers on the same test images."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from cotejo.errors import DataError

#: The share of studies that find a true difference of the size called detectable (J. Cohen's usual one).
POWER = 0.8

Floats = NDArray[np.float64]
Ints = NDArray[np.integer[Any]]


class Correctness(NamedTuple):
    """Which test images a model has right.

    Attributes:
        right: Boolean, shape (num_seeds, num_samples).
        num_right: For each image the number of seeds that have it right, shape (num_samples,).
    """

    right: NDArray[np.bool_]
    num_right: Ints

    @property
    def accuracies(self) -> Floats:
        """Accuracy of each seed, shape (num_seeds,)."""
        return np.asarray(np.count_nonzero(self.right, axis=1) / self.right.shape[1])


class Variance(NamedTuple):
    """A variance and its degrees of freedom."""

    value: float
    freedom: float


class Difference(NamedTuple):
    """A difference between two accuracies, candidate minus baseline.

    `value`, `low` and `high` are fractions (0.01 is one point of percent), from -1 to 1. `method` is `welch_t` (test
    images and training seeds) or `mcnemar` (one seed each: the p value is McNemar's, the interval covers the test
    images only). `image_share` is the share of the variance that the test images bring, the rest is the seeds'; None
    where one of the models has one seed, or nothing varies.
    """

    value: float
    low: float
    high: float
    p_value: float
    standard_error: float
    degrees_of_freedom: float
    image_share: float | None
    method: str


class SeedSpread(NamedTuple):
    """Standard deviation of the values of several seeds, and the t interval around their mean."""

    spread: float
    low: float
    high: float


class Discordance(NamedTuple):
    """Images that only one of two trainings has right, and the exact p value of McNemar's test."""

    only_baseline: int
    only_candidate: int
    p_value: float


def check_answers(y_true: Ints, predicted: Ints) -> Correctness:
    """Finds which images the trainings of a model have right.

    Args:
        y_true: True classes, shape (num_samples,).
        predicted: Predicted classes, shape (num_seeds, num_samples).

    Raises:
        DataError: The shapes don't agree, or there are fewer than two images.
    """
    if y_true.ndim != 1 or predicted.ndim != 2 or predicted.shape[1] != len(y_true) or not len(predicted):
        raise DataError(
            f"Expected predictions of shape (num_seeds, num_samples) and y_true of shape (num_samples,). "
            f"Received: predictions {predicted.shape}, y_true {y_true.shape}."
        )
    if len(y_true) < 2:
        raise DataError(f"Expected at least 2 test images to compare on. Received: {len(y_true)}.")
    right = predicted == y_true
    return Correctness(right, np.asarray(right.sum(axis=0, dtype=np.min_scalar_type(len(right)))))


def count_patterns(baseline: Correctness, candidate: Correctness) -> tuple[Floats, NDArray[np.int64]]:
    """Counts the images that bring the same difference: all that a difference of accuracies depends on.

    Args:
        baseline: Of k seeds.
        candidate: Of m seeds, on the same images.

    Returns:
        Differences in the share of seeds that are right, candidate minus baseline, and how many images have each:
        both of shape (num_patterns,), at most (k + 1)(m + 1), for each number of seeds that are right.

    Raises:
        DataError: The models answered different numbers of images.
    """
    if baseline.right.shape[1] != candidate.right.shape[1]:
        raise DataError(
            f"Expected the answers of both models to the same images. Received: {baseline.right.shape[1]} and "
            f"{candidate.right.shape[1]} answers."
        )
    num_baseline, num_candidate = len(baseline.right), len(candidate.right)
    codes = baseline.num_right.astype(np.intp) * (num_candidate + 1) + candidate.num_right
    sizes = np.bincount(codes, minlength=(num_baseline + 1) * (num_candidate + 1))
    right_baseline, right_candidate = np.divmod(np.flatnonzero(sizes), num_candidate + 1)
    return right_candidate / num_candidate - right_baseline / num_baseline, sizes[sizes > 0]


def compute_accuracy_difference(baseline: Correctness, candidate: Correctness, confidence: float) -> Difference:
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
        baseline: From `check_answers`.
        candidate: Likewise, on the same images; the number of seeds may differ.
        confidence: Of the interval, between 0 and 1.

    Returns:
        Candidate minus baseline, with a two-sided p value for a difference of 0.

    Raises:
        DataError: The models answered different numbers of images.

    References:
        Q. McNemar (1947), Psychometrika 12(2), 153-157. F. E. Satterthwaite (1946), Biometrics Bulletin 2(6),
        110-114. B. L. Welch (1947), Biometrika 34, 28-35. Both sources of variance and why one seed isn't enough:
        X. Bouthillier et al. (2021), Accounting for variance in machine learning benchmarks, MLSys 3.
    """
    images = _variance_over_images(*count_patterns(baseline, candidate))
    sides = [model.accuracies for model in (baseline, candidate)]
    seeds = [variance_of_mean(accuracies) for accuracies in sides if len(accuracies) > 1]
    value = float(sides[1].mean() - sides[0].mean())
    variance, freedom = add_variances([images, *seeds])
    half_width = compute_half_width(variance, freedom, confidence)
    if seeds:
        p_value, method = _test_t(value, variance, freedom), "welch_t"
    else:
        p_value, method = compare_trainings(baseline.right[0], candidate.right[0]).p_value, "mcnemar"
    return Difference(
        value=value,
        low=max(-1.0, value - half_width),
        high=min(1.0, value + half_width),
        p_value=p_value,
        standard_error=math.sqrt(variance),
        degrees_of_freedom=freedom,
        image_share=images.value / variance if len(seeds) == 2 and variance else None,
        method=method,
    )


def compare_trainings(right_baseline: NDArray[np.bool_], right_candidate: NDArray[np.bool_]) -> Discordance:
    """Tests whether each of two trainings is as often right where the other is wrong.

    McNemar's test, exact: the images that only the candidate has right are binomial with share 1/2 among those that
    only one has right.

    Args:
        right_baseline: Which images one training has right, shape (num_samples,).
        right_candidate: Likewise for the other one.

    Returns:
        Both counts and the two-sided p value, 1 where the two never differ.

    References:
        Q. McNemar (1947), Note on the sampling error of the difference between correlated proportions or
        percentages, Psychometrika 12(2), 153-157.
    """
    both = int(np.count_nonzero(right_baseline & right_candidate))
    only_baseline = int(np.count_nonzero(right_baseline)) - both
    only_candidate = int(np.count_nonzero(right_candidate)) - both
    discordant = only_baseline + only_candidate
    # with share 1/2 both tails are alike; the middle, where they overlap, is 1
    p_value = min(1.0, 2 * float(stats.binom.cdf(min(only_baseline, only_candidate), discordant, 0.5)))
    return Discordance(only_baseline, only_candidate, p_value)


def compute_welch_p_value(first: Sequence[float] | Floats, second: Sequence[float] | Floats) -> float:
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
    variance, freedom = add_variances([variance_of_mean(one), variance_of_mean(other)])
    return _test_t(float(one.mean() - other.mean()), variance, freedom)


def compute_t_p_value(values: Sequence[float]) -> float:
    """Tests whether the mean of several values is 0; raises nothing where they don't vary, as Welch's above.

    Args:
        values: Independent values, at least two.

    Returns:
        The two-sided p value of Student's t test.
    """
    one = np.asarray(values, dtype=np.float64)
    return _test_t(float(one.mean()), *variance_of_mean(one))


def compute_equivalence_p(difference: Difference, margin: float) -> float:
    """Tests whether a difference is, for practical purposes, none: whether it lies within a margin on either side.

    Two one-sided t tests, with the variance and degrees of freedom of the difference's own interval. A p value below
    0.05 is the same as an interval of 90% within the margin: "can't be told apart" is not the same as "equal".

    Args:
        difference: From `compute_accuracy_difference`.
        margin: The largest difference that doesn't matter, as a fraction. With 0 nothing is equivalent.

    Returns:
        The larger p value of the two tests.

    References:
        D. J. Schuirmann (1987), A comparison of the two one-sided tests procedure and the power approach for
        assessing the equivalence of average bioavailability, J. Pharmacokinet. Biopharm. 15(6), 657-680.
    """
    distance = margin - abs(difference.value)
    if difference.standard_error == 0:
        return 0.0 if distance > 0 else 1.0
    return float(stats.t.sf(distance / difference.standard_error, difference.degrees_of_freedom))


def compute_detectable(difference: Difference, confidence: float) -> float:
    """Computes the true difference that four in five studies of this size and spread would find.

    The usual approximation: standard error times the sum of the t quantiles of the test and of its power. With very
    few degrees of freedom it is a little too small (5% with 2).

    Args:
        difference: From `compute_accuracy_difference`.
        confidence: 1 minus the level of the two-sided test.

    References:
        J. Cohen (1988), Statistical Power Analysis for the Behavioral Sciences, 2nd edition, chapter 2.
    """
    freedom = difference.degrees_of_freedom
    quantiles = stats.t.ppf((1 + confidence) / 2, freedom) + stats.t.ppf(POWER, freedom)
    return min(1.0, float(quantiles) * difference.standard_error)


def compute_effect_size(baseline: float, candidate: float) -> float:
    """Computes Cohen's h of two accuracies: their distance on a scale on which all accuracies vary alike.

    From 97% to 98% is a larger step than from 50% to 51%. Cohen calls 0.2 small, 0.5 medium and 0.8 large.

    Args:
        baseline: An accuracy, 0 to 1.
        candidate: Likewise.

    Returns:
        Candidate's minus baseline's, from -pi to pi.

    References:
        J. Cohen (1988), Statistical Power Analysis for the Behavioral Sciences, 2nd edition, chapter 6.
    """
    return 2 * (math.asin(math.sqrt(candidate)) - math.asin(math.sqrt(baseline)))


def compute_seed_spread(values: Sequence[float], confidence: float) -> SeedSpread:
    """Computes how far the accuracies of several trainings lie apart.

    Args:
        values: Accuracies, one a seed, at least two.
        confidence: Of the interval around their mean, between 0 and 1; it ends at 0 and 1.
    """
    accuracies = np.asarray(values, dtype=np.float64)
    variance, freedom = variance_of_mean(accuracies)
    half_width = compute_half_width(variance, freedom, confidence)
    mean = float(accuracies.mean())
    return SeedSpread(math.sqrt(variance * len(values)), max(0.0, mean - half_width), min(1.0, mean + half_width))


def variance_of_mean(values: Floats) -> Variance:
    """Returns the variance of the mean of independent values, shape (num_values,), at least two."""
    # equal values whose mean isn't a float (thirds) would leave 1e-33 where 0 is meant
    if np.ptp(values) == 0:
        return Variance(0.0, len(values) - 1)
    return Variance(float(values.var(ddof=1)) / len(values), len(values) - 1)


def add_variances(sources: Sequence[Variance]) -> Variance:
    """Adds independent sources of variance; the degrees of freedom are Welch and Satterthwaite's.

    If nothing varies they are those of the first source.

    References:
        F. E. Satterthwaite (1946), Biometrics Bulletin 2(6), 110-114. B. L. Welch (1947), Biometrika 34, 28-35.
    """
    total = sum(source.value for source in sources)
    if total == 0:
        return Variance(0.0, sources[0].freedom)
    # shares first: variances this small underflow when squared
    return Variance(total, 1 / sum((source.value / total) ** 2 / source.freedom for source in sources))


def compute_half_width(variance: float, freedom: float, confidence: float) -> float:
    """Returns half of a t interval's width."""
    return float(stats.t.ppf((1 + confidence) / 2, freedom)) * math.sqrt(variance)


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


def _variance_over_images(values: Floats, sizes: NDArray[np.int64]) -> Variance:
    """Returns the variance of the mean over images, counted by the value they bring, and its degrees of freedom."""
    num_samples = int(sizes.sum())
    mean = float(sizes @ values) / num_samples
    # equal values whose mean isn't a float (thirds) would leave 1e-33 where 0 is meant
    variance = float(sizes @ (values - mean) ** 2) / (num_samples - 1) if np.ptp(values) else 0.0
    return Variance(variance / num_samples, num_samples - 1)


def _test_t(value: float, variance: float, freedom: float) -> float:
    if variance == 0:
        return 1.0 if value == 0 else 0.0
    return float(2 * stats.t.sf(abs(value) / math.sqrt(variance), freedom))
