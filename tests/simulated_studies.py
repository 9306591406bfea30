"""Whole studies with known truths: how often intervals cover them, and how often a conclusion is false.

A training classifies an image correctly if its ability exceeds the image's difficulty: a part of the difficulty is
shared by all models, a part by all trainings of a model, and a part belongs to one training (probit). A training's
accuracy on all images of the world is drawn around its model's, with a standard deviation over seeds. What is counted
goes through the functions that write the report.
"""

import itertools
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.special import ndtri

from cotejo.comparison.pairs import estimate_pairs
from cotejo.comparison.verdict import DECIDED, choose_for_cost, judge_pair
from cotejo.estimation.estimates import estimate_mean, summarize_scores

CONFIDENCE, MARGIN = 0.95, 0.01
#: Accuracies of a training stay within these bounds.
LOWEST, HIGHEST = 0.02, 0.9995
#: Shares of the variance of an image's difficulty: of all models, of one model; the rest is of one training.
SHARED, OF_MODEL = 0.6, 0.15


class Cell(NamedTuple):
    """A setting of a study.

    Attributes:
        num_images: Test images.
        num_seeds: Trainings of each model.
        accuracies: Of each model, the mean over all seeds that could be.
        spreads: Standard deviation of the accuracy over seeds, of each model.
    """

    num_images: int
    num_seeds: int
    accuracies: tuple[float, ...]
    spreads: tuple[float, ...]


class Rates(NamedTuple):
    """What came of many studies of a setting, as shares of them.

    Attributes:
        own: Models whose own interval covers their accuracy (with one seed, the trained file's).
        best: Studies in which the interval of the best model, corrected for having been chosen, covers its accuracy.
        pairs: Pairs whose interval covers the difference.
        better: Studies with a "better" between two models that are equal.
        as_good: Studies with an "as good" between two models that differ by more than the margin.
        cost: Studies that recommend for cost a model that is worse than the best by more than the margin.
        found: Studies that call the better model of the first pair better.
        half_width: Median half-width of the first pair's interval.
        former_pairs: Studies in which the interval of versions before 2026-12 covers the first pair's difference.
        former_half_width: Median half-width of that interval.
    """

    own: float
    best: float
    pairs: float
    better: float
    as_good: float
    cost: float
    found: float
    half_width: float
    former_pairs: float
    former_half_width: float


def draw_study(generator: np.random.Generator, cell: Cell) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Draws a study.

    Returns:
        The accuracy of each training on all images of the world, shape (num_models, num_seeds), and which test images
        it classifies correctly, shape (num_models, num_seeds, num_images).
    """
    num_models, num_seeds, num_images = len(cell.accuracies), cell.num_seeds, cell.num_images
    deviations = np.array(cell.spreads)[:, None] * generator.standard_normal((num_models, num_seeds))
    abilities = np.clip(np.array(cell.accuracies)[:, None] + deviations, LOWEST, HIGHEST)

    def draw(share: float, *shape: int) -> NDArray[np.float32]:
        return np.sqrt(np.float32(share)) * generator.standard_normal((*shape, num_images), dtype=np.float32)

    difficulties = draw(SHARED, 1) + draw(OF_MODEL, num_models)
    own = draw(1 - SHARED - OF_MODEL, num_models, num_seeds)
    return abilities, difficulties[:, None] + own < ndtri(abilities)[:, :, None].astype(np.float32)


def simulate(cell: Cell, num_studies: int, seed: int = 0) -> Rates:
    """Draws studies of a setting and counts what the report would say of them."""
    generator = np.random.default_rng(seed)
    rows = [_conclude(cell, *draw_study(generator, cell)) for _ in range(num_studies)]
    columns = Rates(*zip(*rows, strict=True))
    medians = {name: float(np.median(getattr(columns, name))) for name in ("half_width", "former_half_width")}
    return Rates(*(float(np.mean(column)) for column in columns))._replace(**medians)


def _conclude(cell: Cell, abilities: NDArray[np.float64], correct: NDArray[np.bool_]) -> tuple[float, ...]:
    names = [f"model {number}" for number in range(len(correct))]
    scores = {name: summarize_scores(answers) for name, answers in zip(names, correct, strict=True)}
    # with one seed the report speaks of the trained files
    accuracies = abilities[:, 0] if cell.num_seeds == 1 else np.array(cell.accuracies)
    truths = dict(zip(names, accuracies.tolist(), strict=True))
    means = dict(zip(names, cell.accuracies, strict=True))
    are_files_equal = cell.num_seeds > 1 or not any(cell.spreads)
    own = {name: estimate_mean(scores[name], CONFIDENCE) for name in names}
    covered = [_covers(own[name].compute_interval(CONFIDENCE), truths[name]) for name in names]
    best = max(names, key=lambda name: scores[name].value)
    chosen = own[best].compute_interval(1 - (1 - CONFIDENCE) / len(names))
    pairs = estimate_pairs(scores, names[0], names[1], CONFIDENCE, MARGIN)
    gaps = [truths[pair.candidate] - truths[pair.baseline] for pair in pairs]
    judged = [judge_pair(pair, CONFIDENCE, MARGIN) for pair in pairs]
    is_better = [finding.key in DECIDED for finding in judged]
    is_equal = [are_files_equal and means[pair.candidate] == means[pair.baseline] for pair in pairs]
    is_as_good = [finding.key == "verdict.equivalent" for finding in judged]
    # the first is the cheapest
    cheapest = choose_for_cost(pairs, {name: 2.0**number for number, name in enumerate(names)}, MARGIN).chosen
    former = _compute_former_interval(correct[0], correct[1])
    loss = max(truths.values()) - truths[cheapest] if cheapest else 0.0
    return (
        float(np.mean(covered)),
        _covers(chosen, truths[best]),
        float(np.mean([_covers((pair.low, pair.high), gap) for pair, gap in zip(pairs, gaps, strict=True)])),
        any(better and equal for better, equal in zip(is_better, is_equal, strict=True)),
        any(good and abs(gap) > MARGIN for good, gap in zip(is_as_good, gaps, strict=True)),
        loss > MARGIN,
        is_better[0] and judged[0].values["winner"] == max(names[:2], key=truths.__getitem__),
        (pairs[0].high - pairs[0].low) / 2,
        abs(former[0] - gaps[0]) <= former[1],
        former[1],
    )


def _compute_former_interval(baseline: NDArray[np.bool_], candidate: NDArray[np.bool_]) -> tuple[float, float]:
    """Returns the difference and its half-width as versions before 2026-12 did.

    The variances over images and over seeds were added, each with what belongs to both; degrees of freedom after Welch
    and Satterthwaite, and no pseudo-images.
    """
    by_image = candidate.mean(axis=0) - baseline.mean(axis=0)
    parts = [(by_image.var(ddof=1) / len(by_image), len(by_image) - 1)]
    parts += [
        (side.mean(axis=1).var(ddof=1) / len(side), len(side) - 1) for side in (baseline, candidate) if len(side) > 1
    ]
    total = sum(variance for variance, _ in parts)
    if total == 0:
        return float(by_image.mean()), 0.0
    freedom = total**2 / sum(variance**2 / freedom for variance, freedom in parts)
    return float(by_image.mean()), float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom) * np.sqrt(total))


def _covers(interval: tuple[float, float], truth: float) -> bool:
    return interval[0] <= truth <= interval[1]


def list_cells(
    numbers_of_images: tuple[int, ...], numbers_of_seeds: tuple[int, ...], numbers_of_models: tuple[int, ...]
) -> list[tuple[str, Cell]]:
    """Lists settings with a name: equal models, and a cheapest one that is worse by just more than the margin."""
    cells = []
    for num_models, num_images, num_seeds, accuracy, spread, kind in itertools.product(
        numbers_of_models, numbers_of_images, numbers_of_seeds, (0.7, 0.9, 0.98), (0.0, 0.002, 0.005, None),
        ("equal", "worse"),
    ):  # fmt: skip
        accuracies = [accuracy] * num_models
        if kind == "worse":
            accuracies[0] -= 1.02 * MARGIN
        # None: some models vary six times as much as others
        spreads = [(0.001, 0.006)[number % 2] if spread is None else spread for number in range(num_models)]
        cells.append((kind, Cell(num_images, num_seeds, tuple(accuracies), tuple(spreads))))
    return cells
