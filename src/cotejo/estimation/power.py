"""True difference that a study like this one would find: a range, since the variances are themselves estimates."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

from cotejo.estimation.estimates import PSEUDO_IN_DIFFERENCE, Estimates, Scores, combine

#: Share of studies that find a difference of the size called detectable (J. Cohen's usual one).
POWER = 0.8
#: Probability that a variance is below its upper bound.
BOUND = 0.8


def compute_detectable(estimate: Estimates, models: Sequence[Scores], confidence: float) -> tuple[float, float]:
    """Computes the true difference that four in five studies of this size and spread would find.

    Args:
        estimate: One difference of accuracies.
        models: The scores of its two models.
        confidence: 1 minus the level of the two-sided test.

    Returns:
        With the variances as they were measured; and with the upper 80% bounds of the seeds' variances, which few
        seeds may have underestimated. With one seed each both are the same: the exact power for these trainings.

    References:
        J. Cohen (1988), Statistical Power Analysis for the Behavioral Sciences, 2nd edition, chapter 2. R. H. Browne
        (1995), On the use of a pilot sample for sample size determination, Stat. Med. 14(17), 1933-1940.
    """
    counts = [len(scores.by_seed) for scores in models]
    if min(counts) == 1:
        exact = _solve_exactly(estimate, len(models[0].by_image), confidence)
        return exact, exact
    factors = [1.0, *((count - 1) / float(stats.chi2.ppf(1 - BOUND, count - 1)) for count in counts)]
    upper = estimate.variances * np.array(factors)
    return _approximate(estimate, estimate.variances, confidence), _approximate(estimate, upper, confidence)


def _approximate(estimate: Estimates, variances: NDArray[np.float64], confidence: float) -> float:
    """Returns the half-width of the interval and the distance beyond it that the power asks for."""
    quantiles = stats.t.ppf((1 + confidence) / 2, estimate.freedoms)
    half_width = float(combine(quantiles, variances)[0])
    return min(estimate.high, half_width + float(stats.norm.ppf(POWER)) * math.sqrt(float(variances.sum())))


def _solve_exactly(estimate: Estimates, num_images: int, confidence: float) -> float:
    """Finds the difference whose exact power is `POWER`, if as many images as here tell the two trainings apart."""
    padded = num_images + 2 * PSEUDO_IN_DIFFERENCE
    # variance of the mean times its squared number: the images on which only one is correct, less the squared mean
    discordant = float(estimate.variances[0, 0]) * padded**2 + float(estimate.centre[0]) ** 2 * padded
    share = min(1.0, discordant / padded)
    quantile = float(stats.t.ppf((1 + confidence) / 2, num_images - 1))

    def lacks_power(difference: float) -> float:
        return _compute_power(difference, share, num_images, quantile) - POWER

    # beyond the share itself there is no difference
    return float(optimize.brentq(lacks_power, 0.0, share)) if lacks_power(share) > 0 else 1.0


def _compute_power(difference: float, share: float, num_images: int, quantile: float) -> float:
    """Returns the probability that the interval leaves out 0, over all outcomes of a trinomial distribution."""
    discordant = np.arange(num_images + 1)
    weights = stats.binom.pmf(discordant, num_images, share)
    likely = weights > 1e-12
    discordant, weights = discordant[likely], weights[likely]
    padded = num_images + 2 * PSEUDO_IN_DIFFERENCE
    # the interval leaves out 0 where (c - b)^2 > t^2 (b + c + 2 - (c - b)^2 / (n + 2))
    needed = quantile * np.sqrt((discordant + 2 * PSEUDO_IN_DIFFERENCE) / (1 + quantile**2 / padded))
    chance = (1 + difference / share) / 2
    above = stats.binom.sf(np.floor((discordant + needed) / 2), discordant, chance)
    below = stats.binom.cdf(np.ceil((discordant - needed) / 2) - 1, discordant, chance)
    return float(weights @ (above + below))
