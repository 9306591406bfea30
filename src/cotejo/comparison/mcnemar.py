"""McNemar's exact test of two trainings on the same test images."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats


class Discordance(NamedTuple):
    """Images that only one of two trainings classifies correctly, and the exact p value of McNemar's test."""

    only_baseline: int
    only_candidate: int
    p_value: float


def compare_trainings(correct_baseline: NDArray[np.bool_], correct_candidate: NDArray[np.bool_]) -> Discordance:
    """Tests whether each of two trainings is as often correct where the other one errs.

    The images that only the candidate classifies correctly are binomial with share 1/2 among those that only one does.

    Args:
        correct_baseline: Whether each answer of one training is correct, shape (num_samples,).
        correct_candidate: The same for the other one.

    Returns:
        Both counts and the two-sided p value, 1 where the two never differ.

    References:
        Q. McNemar (1947), Note on the sampling error of the difference between correlated proportions or
        percentages, Psychometrika 12(2), 153-157.
    """
    both = int(np.count_nonzero(correct_baseline & correct_candidate))
    only_baseline = int(np.count_nonzero(correct_baseline)) - both
    only_candidate = int(np.count_nonzero(correct_candidate)) - both
    discordant = only_baseline + only_candidate
    # with share 1/2 both tails are alike; the middle, where they overlap, is 1
    p_value = min(1.0, 2 * float(stats.binom.cdf(min(only_baseline, only_candidate), discordant, 0.5)))
    return Discordance(only_baseline, only_candidate, p_value)
