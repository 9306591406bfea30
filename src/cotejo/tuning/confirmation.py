"""The gain of a search's winner over the declared values, from trainings with fresh seeds."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cotejo.estimation.estimates import estimate_differences, summarize_scores
from cotejo.schema.searches import Search


class Confirmation(NamedTuple):
    """The winner compared with the declared values, each trained with fresh seeds.

    Attributes:
        seeds: The seeds.
        present: The metric of the declared values, a number per seed; on held-out images where there are any.
        best: That of the winner.
        gain: By how much the winner is better on average; positive is better for either direction.
        low: Lower bound of its interval, for new images and new trainings.
        high: Upper bound.
        verdict: `real` (the interval is above 0), `worse` (below 0), or `not decided`.
        optimism: By how much the search's own value of the winner was better than `best` is on average.
    """

    seeds: list[int]
    present: list[float]
    best: list[float]
    gain: float
    low: float
    high: float
    verdict: str
    optimism: float


def estimate_gain(
    seeds: Sequence[int],
    present: Sequence[NDArray[Any]],
    best: Sequence[NDArray[Any]],
    searched: float,
    search: Search,
) -> Confirmation:
    """Estimates the winner's gain, with an interval for new images and new trainings.

    Args:
        seeds: Two or more.
        present: Scores of the declared values: for each seed an array of shape (num_images,).
        best: Those of the winner, with the same seeds on the same images.
        searched: The search's own value of the winner.
        search: The `search` section.
    """
    sign = 1 if search.direction == "maximize" else -1
    # of a loss, less is better: its sign is flipped, and more is better for both
    scores = sign * np.asarray([present, best], dtype=np.float64)  # shape (2, num_seeds, num_images)
    if search.metric == "val_accuracy":
        unit = 1.0
        middle = 0.5
        bound = 1.0
    else:
        unit, middle, bound = float(scores.std()), float(scores.mean()), math.inf
    pair = tuple(summarize_scores(values, unit=unit, middle=middle) for values in scores)
    estimates = estimate_differences([(pair[0], pair[1])], low=-bound, high=bound)
    low, high = (float(bounds[0]) for bounds in estimates.compute_intervals(search.confidence))
    return Confirmation(
        seeds=list(seeds),
        present=(sign * pair[0].by_seed).tolist(),
        best=(sign * pair[1].by_seed).tolist(),
        gain=float(estimates.value[0]),
        low=low,
        high=high,
        verdict="real" if low > 0 else "worse" if high < 0 else "not decided",
        optimism=sign * searched - pair[1].value,
    )
