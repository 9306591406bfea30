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

    The interval is centre ± t* times the standard error, with t* = sum(variances * t) / sum(variances): each
    component's own Student quantile weighted by its share (Cochran and Cox). With few seeds it keeps its level in the
    tail too, where Welch's and Satterthwaite's degrees of freedom don't.

    Attributes:
        value: Shape (num_estimates,).
        centre: Of the interval: the value drawn towards the middle by the pseudo-images.
        variances: Of the estimate, shape (num_estimates, num_components): the images' first, then each model's seeds.
        freedoms: Degrees of freedom of each component, of the same shape; 1 where the variance is 0 for want of seeds.
        low: Lowest possible value.
        high: Highest possible value.

    References:
        W. G. Cochran and G. M. Cox (1957), Experimental Designs, 2nd edition, section 4.14. W. G. Cochran (1964),
        Approximate significance levels of the Behrens-Fisher test, Biometrics 20(1), 191-195.
    """

    value: Floats
    centre: Floats
    variances: Floats
    freedoms: Floats
    low: float
    high: float

    @property
    def standard_error(self) -> Floats:
        """Square root of the sum of the components, shape (num_estimates,)."""
        return np.asarray(np.sqrt(self.variances.sum(axis=1)))

    @property
    def image_share(self) -> Floats:
        """Share of the variance that the images bring, 0 to 1."""
        total = self.variances.sum(axis=1)
        return np.asarray(np.divide(self.variances[:, 0], total, out=np.ones_like(total), where=total > 0))

    def take(self, row: int) -> "Estimates":
        """Returns one of the estimates."""
        rows = slice(row, row + 1)
        return Estimates(
            self.value[rows], self.centre[rows], self.variances[rows], self.freedoms[rows], self.low, self.high
        )

    def compute_intervals(self, confidence: float | Floats) -> tuple[Floats, Floats]:
        """Returns the lower and the upper bounds, each of shape (num_estimates,).

        Args:
            confidence: Of each interval, between 0 and 1; one for all, or one for each.
        """
        tail = np.broadcast_to(np.asarray((1 - np.asarray(confidence)) / 2, dtype=np.float64), self.value.shape)
        reach = self._compute_quantiles(tail) * self.standard_error
        return np.maximum(self.low, self.centre - reach), np.minimum(self.high, self.centre + reach)

    def compute_interval(self, confidence: float) -> tuple[float, float]:
        """Returns the bounds of the first estimate: of the only one, where there is one."""
        low, high = self.compute_intervals(confidence)
        return float(low[0]), float(high[0])

    def on_these_files(self) -> "Estimates":
        """Returns the estimates for new images and these very trainings: the images' variance alone."""
        return Estimates(self.value, self.centre, self.variances[:, :1], self.freedoms[:, :1], self.low, self.high)

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

    def _compute_quantiles(self, tail: Floats) -> Floats:
        """Computes t* for an upper tail, shape (num_estimates,)."""
        quantiles = -stdtrit(self.freedoms, tail[:, None])
        total = self.variances.sum(axis=1)
        # nothing varies only without images, where any quantile will do
        weights = np.divide(self.variances, total[:, None], out=np.zeros_like(self.variances), where=total[:, None] > 0)
        return np.asarray((weights * quantiles).sum(axis=1), dtype=np.float64)

    def _compute_tails(self, distance: Floats) -> Floats:
        """Returns the upper tails beyond a distance from the centre; t* has no inverse in closed form."""
        error, total = self.standard_error, self.variances.sum(axis=1)
        tails = np.empty(len(distance))
        for row, (far, variances, freedoms) in enumerate(
            zip(np.abs(distance), self.variances, self.freedoms, strict=True)
        ):
            curve = sum(
                variance / total[row] * _tabulate_quantiles(freedom)
                for variance, freedom in zip(variances, freedoms, strict=True)
                if variance > 0
            )
            tails[row] = np.exp(np.interp(far / error[row], curve, LOG_TAILS)) if total[row] else 0.0
        return np.where(distance >= 0, tails, 1 - tails)


@cache
def _tabulate_quantiles(freedom: float) -> Floats:
    """Returns Student's quantiles for the upper tails of `LOG_TAILS`."""
    return np.asarray(-stdtrit(freedom, np.exp(LOG_TAILS)))


def estimate_mean(scores: Scores, confidence: float, *, low: float = 0.0, high: float = 1.0) -> Estimates:
    """Estimates a model's score on new images, by new trainings.

    Each way z^2 / 2 pseudo-images are added, as Agresti and Coull do for a proportion: with one training it is their
    interval but for t in place of z. So no interval has width 0, however few the errors.

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
    centre, image_variance = _add_pseudo_images(scores.by_image, scores.middle, scores.unit / 2, pseudo)
    return _build(scores.value, centre, image_variance, len(scores.by_image), [scores], low, high)


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
        differences = second.by_image - first.by_image
        reach = (first.unit + second.unit) / 2
        centre, image_variance = _add_pseudo_images(differences, 0.0, reach, PSEUDO_IN_DIFFERENCE)
        value = second.value - first.value
        parts.append(_build(value, centre, image_variance, len(differences), [first, second], low, high))
    return Estimates(
        np.concatenate([part.value for part in parts]),
        np.concatenate([part.centre for part in parts]),
        np.concatenate([part.variances for part in parts]),
        np.concatenate([part.freedoms for part in parts]),
        low,
        high,
    )


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


def _add_pseudo_images(values: Floats, middle: float, reach: float, pseudo: float) -> tuple[float, float]:
    """Returns mean and variance of the mean of values and of `pseudo` more at each of middle ± reach."""
    num_images = len(values) + 2 * pseudo
    centre = (float(values.sum()) + 2 * pseudo * middle) / num_images
    squares = float(np.square(values - centre).sum()) + 2 * pseudo * (reach**2 + (middle - centre) ** 2)
    return centre, squares / num_images**2


def _build(
    value: float,
    centre: float,
    image_variance: float,
    num_images: int,
    models: Sequence[Scores],
    low: float,
    high: float,
) -> Estimates:
    counts = [len(scores.by_seed) for scores in models]
    are_known = min(counts) > 1
    seeds = [scores.seed_variance / count if are_known else 0.0 for scores, count in zip(models, counts, strict=True)]
    freedoms = [max(1, num_images - 1), *(max(1, count - 1) for count in counts)]
    return Estimates(
        np.array([value]), np.array([centre]), np.array([[image_variance, *seeds]]), np.array([freedoms], dtype=float),
        low, high,
    )  # fmt: skip
