"""Intervals and p values of means that several images and several trainings went into.

A score of a model is a number for each of its trainings (seeds) and each image: whether the answer was correct, its
cross-entropy, and so on. All models are scored on the same images; seeds belong to one model. That is a two-way
analysis of variance: images are crossed with seeds, seeds are nested in models.

References:
    N. A. Obuchowski and H. E. Rockette (1995), Commun. Stat. Simul. Comput. 24(2), 285-308; B. D. Gallas (2006), Acad.
    Radiol. 13(3), 353-362; S. L. Hillis (2007), Stat. Med. 26(3), 596-619: readers and cases, here seeds and images.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

Floats = NDArray[np.float64]

#: Pseudo-images each way in a difference.
PSEUDO_IN_DIFFERENCE = 1.0
#: Least share of what belongs to an image and a seed together that counts as the seeds' own in a difference: below it a
#: variance between few seeds can't be told from 0, and taking it for 0 gives a test of 5% up to 7% of false alarms.
LEAST_SHARE = 0.25
#: Share of the false alarms that belongs to the comparison that `params.yaml` declares.
DECLARED_SHARE = 0.8
#: Logarithms of the upper tails between which a p value is interpolated, from 1/2 down: to six digits above 1e-8.
LOG_TAILS = np.log(np.concatenate([np.geomspace(0.5, 1e-8, 2000), np.geomspace(1e-8, 1e-150, 700)[1:]]))


class Scores(NamedTuple):
    """A score of one model, summarized: all that an estimate needs.

    Attributes:
        by_image: Mean over the seeds for each image, shape (num_images,).
        by_seed: Mean over the images for each seed, shape (num_seeds,).
        seed_noise: Variance of a seed's mean that comes from what belongs to an image and a seed together; 0 with one
            seed.
        unit: Distance between the two pseudo-images of this model: 1 for what is correct or not.
        middle: Value halfway between them: 1/2 for what is correct or not.
    """

    by_image: Floats
    by_seed: Floats
    seed_noise: float
    unit: float
    middle: float

    @property
    def value(self) -> float:
        """The mean over images and seeds."""
        return float(self.by_seed.mean())

    @property
    def seed_variance(self) -> float:
        """Variance between seeds, without what images and seeds bring together; 0 with one seed."""
        return max(0.0, float(self.by_seed.var(ddof=1)) - self.seed_noise) if len(self.by_seed) > 1 else 0.0


def summarize_scores(values: NDArray[Any], *, unit: float = 1.0, middle: float = 0.5) -> Scores:
    """Summarizes the scores of one model.

    The variance of the seeds' means holds the seeds' own variance, and 1/num_images of what belongs to an image and
    a seed together. The latter is estimated by the residual mean square of the analysis of variance and taken off.

    Args:
        values: Shape (num_seeds, num_images).
        unit: See `Scores`.
        middle: See `Scores`.
    """
    num_seeds, num_images = values.shape
    by_seed = np.asarray(values.mean(axis=1, dtype=np.float64))
    by_image = np.asarray(values.mean(axis=0, dtype=np.float64))
    seed_noise = 0.0
    if num_seeds > 1 and num_images > 1:
        within = [float(np.square(row - mean).sum()) for row, mean in zip(values, by_seed, strict=True)]
        residual = sum(within) - num_seeds * float(np.square(by_image - by_image.mean()).sum())
        seed_noise = max(0.0, residual) / ((num_images - 1) * (num_seeds - 1) * num_images)
    return Scores(by_image, by_seed, seed_noise, unit, middle)


@dataclass(frozen=True)
class Estimates:
    """Estimated means or differences, any number of them.

    The half-width of a difference's interval is t* times the standard error, with t* = sum(t variance) / sum(variance):
    each component's own Student quantile, weighted by its variance (Cochran and Cox). Welch's and Satterthwaite's
    degrees of freedom exceed their level with few seeds. Of one model's own interval it is the square root of
    sum(t^2 variance), whose level is never exceeded (Banerjee); Cochran and Cox's is, where one component dominates.

    Attributes:
        value: Shape (num_estimates,).
        centre: Centre of the interval: the value drawn towards the middle by the pseudo-images.
        variances: Variances of the estimate, shape (num_estimates, num_components): first the images', then each
            model's seeds'.
        freedoms: Degrees of freedom of each component, of the same shape.
        file_variances: Variances of the estimate for these very trainings, shape (num_estimates,).
        seed_variances: Variances of the estimate, the seeds' part alone, shape (num_estimates,).
        low: Lowest possible value.
        high: Highest possible value.

    References:
        W. G. Cochran and G. M. Cox (1957), Experimental Designs, 2nd edition, section 4.14. S. K. Banerjee (1960),
        Approximate confidence interval for linear functions of means of k populations when the population variances
        are not equal, Sankhya 22, 357-358.
    """

    value: Floats
    centre: Floats
    variances: Floats
    freedoms: Floats
    file_variances: Floats
    seed_variances: Floats
    low: float
    high: float

    @property
    def standard_error(self) -> Floats:
        """Square root of the sum of the components, shape (num_estimates,)."""
        return np.asarray(np.sqrt(self.variances.sum(axis=1)))

    @property
    def image_share(self) -> Floats:
        """Share of the variance that isn't the seeds' alone, 0 to 1, shape (num_estimates,)."""
        return np.asarray(self.file_variances / (self.file_variances + self.seed_variances))

    def take(self, row: int) -> "Estimates":
        """Returns one of the estimates."""
        rows = slice(row, row + 1)
        return Estimates(
            self.value[rows],
            self.centre[rows],
            self.variances[rows],
            self.freedoms[rows],
            self.file_variances[rows],
            self.seed_variances[rows],
            self.low,
            self.high,
        )

    def compute_intervals(self, confidence: float | Floats) -> tuple[Floats, Floats]:
        """Returns the lower and the upper bounds, each of shape (num_estimates,).

        Args:
            confidence: Confidence of each interval, between 0 and 1; one for all, or one for each.
        """
        tail = np.broadcast_to(np.asarray((1 - np.asarray(confidence)) / 2, dtype=np.float64), self.value.shape)
        reach = combine(-stdtrit(self.freedoms, tail[:, None]), self.variances)
        return np.maximum(self.low, self.centre - reach), np.minimum(self.high, self.centre + reach)

    def compute_interval(self, confidence: float) -> tuple[float, float]:
        """Returns the bounds of the first estimate: of the only one, where there is one."""
        low, high = self.compute_intervals(confidence)
        return float(low[0]), float(high[0])

    def on_these_files(self) -> "Estimates":
        """Returns the estimates for new images and these very trainings."""
        variances, freedoms = self.file_variances[:, None], self.freedoms[:, :1]
        nothing = np.zeros_like(self.value)
        return Estimates(
            self.value, self.centre, variances, freedoms, self.file_variances, nothing, self.low, self.high
        )

    def compute_p_values(self, expected: float = 0.0) -> Floats:
        """Returns two-sided p values for a true value: the smallest 1 - confidence whose interval leaves it out.

        Args:
            expected: The true value to be tested.
        """
        return np.asarray(np.minimum(1.0, 2 * self._compute_tails(np.abs(self.centre - expected))), dtype=np.float64)

    def compute_equivalence_p_values(self, margin: float) -> Floats:
        """Returns p values for a true difference that isn't within a margin on either side of 0.

        Two one-sided tests: a p value below (1 - confidence) / 2 is the same as an interval within the margin.

        Args:
            margin: Largest difference that doesn't matter; with 0 nothing is equivalent.

        References:
            D. J. Schuirmann (1987), J. Pharmacokinet. Biopharm. 15(6), 657-680.
        """
        return self._compute_tails(margin - np.abs(self.centre))

    def _compute_tails(self, distance: Floats) -> Floats:
        """Returns the upper tails beyond a distance from the centre, which have no closed form."""
        tails = np.empty(len(distance))
        for row, (far, variances, freedoms) in enumerate(zip(distance, self.variances, self.freedoms, strict=True)):
            quantiles = np.stack([_tabulate_quantiles(freedom) for freedom in freedoms], axis=1)
            tail = float(np.exp(np.interp(abs(far), combine(quantiles, variances), LOG_TAILS)))
            tails[row] = tail if far >= 0 else 1 - tail
        return tails


def combine(quantiles: Floats, variances: Floats) -> Floats:
    """Returns half-widths from each component's quantile and variance, along the last axis."""
    if variances.shape[-1] > 2:  # two models
        return np.asarray((quantiles * variances).sum(axis=-1) / np.sqrt(variances.sum(axis=-1)))
    return np.asarray(np.sqrt((quantiles**2 * variances).sum(axis=-1)))


@cache
def _tabulate_quantiles(freedom: float) -> Floats:
    """Returns Student's quantiles for the upper tails of `LOG_TAILS`."""
    return np.asarray(-stdtrit(freedom, np.exp(LOG_TAILS)))


def estimate_mean(scores: Scores, confidence: float, *, low: float = 0.0, high: float = 1.0) -> Estimates:
    """Estimates a model's score on new images, by new trainings.

    Each way z^2 / 2 pseudo-images are added, as Agresti and Coull do for a proportion: with one training it is their
    interval with t in place of z. So no interval has width 0, however few the errors.

    Args:
        scores: The scores. With one seed the estimate covers new images only.
        confidence: For which the pseudo-images are chosen.
        low: Lowest possible value.
        high: Highest possible value.

    References:
        A. Agresti and B. A. Coull (1998), Approximate is better than "exact" for interval estimation of binomial
        proportions, Am. Stat. 52(2), 119-126.
    """
    pseudo = float(ndtri((1 + confidence) / 2)) ** 2 / 2
    images = _add_pseudo_images(scores.by_image, scores.middle, scores.unit / 2, pseudo)
    return _join([_build(scores.value, images, [scores])], low, high)


def estimate_differences(pairs: Sequence[tuple[Scores, Scores]], *, low: float = -1.0, high: float = 1.0) -> Estimates:
    """Estimates differences between models on new images, by new trainings: the second model minus the first.

    One pseudo-image is added on which only the one model is correct, and one on which only the other is: where few
    images tell two models apart, the plain interval is far too narrow.

    Args:
        pairs: Scores of two models on the same images each. Where one of them has one seed, the seeds' variance isn't
            known, and the estimate covers new images only.
        low: Lowest possible value.
        high: Highest possible value.

    References:
        D. G. Bonett and R. M. Price (2012), Adjusted Wald confidence interval for a difference of binomial proportions
        based on paired data, J. Educ. Behav. Stat. 37(4), 479-488.
    """
    parts = []
    for first, second in pairs:
        reach = (first.unit + second.unit) / 2
        images = _add_pseudo_images(second.by_image - first.by_image, 0.0, reach, PSEUDO_IN_DIFFERENCE)
        parts.append(_build(second.value - first.value, images, [first, second]))
    return _join(parts, low, high)


def adjust_holm(p_values: Floats) -> Floats:
    """Adjusts p values for having made several tests, so that any false alarm among all stays as rare as promised.

    Args:
        p_values: p values in any order, shape (num_tests,).

    Returns:
        The adjusted p values in the same order, at most 1.

    References:
        S. Holm (1979), A simple sequentially rejective multiple test procedure, Scand. J. Statist. 6(2), 65-70.
    """
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(p_values), 0, -1)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(factors * np.asarray(p_values)[order]))
    return adjusted


def adjust_declared(p_values: Floats) -> Floats:
    """Adjusts p values of which the first is of the comparison that was declared, the others of all the rest.

    Of the false alarms that a study may raise, `DECLARED_SHARE` belong to the declared comparison, so that it isn't
    weakened by however many others; the rest is shared out after Holm, as all of it is once the declared one has been
    decided (fallback procedure). With one comparison alone nothing changes.

    Args:
        p_values: Shape (num_tests,), at least one.

    Returns:
        The adjusted p values in the same order, at most 1.

    References:
        B. L. Wiens (2003), A fixed sequence Bonferroni procedure for testing multiple endpoints, Pharm. Stat. 2(3),
        211-215.
    """
    declared, others = float(p_values[0]), adjust_holm(p_values[1:])
    if not len(others):
        return np.array([declared])
    declared = min(1.0, declared / DECLARED_SHARE)
    shared = np.minimum(1.0, others / (1 - DECLARED_SHARE))
    return np.concatenate([[declared], np.minimum(shared, np.maximum(declared, others))])


class _Images(NamedTuple):
    """A mean over images and pseudo-images, its variance, and the part of it that the pseudo-images bring."""

    num_images: int
    centre: float
    variance: float
    pseudo_variance: float


def _add_pseudo_images(values: Floats, middle: float, reach: float, pseudo: float) -> _Images:
    """Adds `pseudo` images to values at each of middle ± reach."""
    num_images = len(values) + 2 * pseudo
    centre = (float(values.sum()) + 2 * pseudo * middle) / num_images
    added = 2 * pseudo * (reach**2 + (middle - centre) ** 2)
    squares = float(np.square(values - centre).sum()) + added
    return _Images(len(values), centre, squares / num_images**2, added / num_images**2)


class _Part(NamedTuple):
    value: float
    centre: float
    variances: list[float]
    freedoms: list[float]
    file_variance: float
    seed_variance: float


def _build(value: float, images: _Images, models: Sequence[Scores]) -> _Part:
    counts = [len(scores.by_seed) for scores in models]
    freedoms = [max(1.0, images.num_images - 1.0), *(max(1.0, count - 1.0) for count in counts)]
    if min(counts) == 1:
        return _Part(value, images.centre, [images.variance, *(0.0 for _ in models)], freedoms, images.variance, 0.0)
    pairs = list(zip(models, counts, strict=True))
    noises = [scores.seed_noise / count for scores, count in pairs]
    alone = [scores.seed_variance / count for scores, count in pairs]
    if len(models) > 1:
        of_seeds = [max(variance, LEAST_SHARE * noise) for variance, noise in zip(alone, noises, strict=True)]
        variances = [images.variance, *of_seeds]
    else:
        # what belongs to an image and a seed together is counted with the seeds, of which no estimate is then below 0
        of_images = max(images.pseudo_variance, images.variance - sum(noises))
        variances = [of_images, *(float(scores.by_seed.var(ddof=1)) / count for scores, count in pairs)]
    return _Part(value, images.centre, variances, freedoms, images.variance, sum(alone))


def _join(parts: Sequence[_Part], low: float, high: float) -> Estimates:
    value, centre, variances, freedoms, of_files, of_seeds = (np.array(column) for column in zip(*parts, strict=True))
    return Estimates(value, centre, variances, freedoms, of_files, of_seeds, low, high)
