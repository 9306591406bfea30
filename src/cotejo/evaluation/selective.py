"""Risk by coverage: how often a model errs if it leaves out the images that it is least sure of."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cotejo.schema.results import RiskPoint

Floats = NDArray[np.floating[Any]]

#: Share of the images, the surest ones, whose error rate a report names.
ANSWERED = 0.8
#: Coverages in a report: 1/20, 2/20 ... 20/20.
NUM_COVERAGES = 20


def compute_risks(confidence: Floats, is_right: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Computes the risk at every coverage.

    Images of equal confidence come in no order: the errors among them are spread evenly, which is the mean over all
    their orders. So the order of the images doesn't matter.

    Args:
        confidence: Shape (num_samples,); higher is surer.
        is_right: Shape (num_samples,).

    Returns:
        Shape (num_samples,): the share of wrong answers among the 1, 2 ... num_samples most confident ones.

    References:
        Y. Geifman and R. El-Yaniv (2017), Selective classification for deep neural networks, NeurIPS.
    """
    order = np.argsort(-confidence, kind="stable")
    ranked = confidence[order]
    starts = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]]))
    sizes = np.diff(np.append(starts, len(ranked)))
    errors = np.add.reduceat((~is_right[order]).astype(np.int64), starts)
    errors_before = np.repeat(np.cumsum(errors) - errors, sizes)
    rank = np.arange(1, len(ranked) + 1)
    expected = errors_before + (rank - np.repeat(starts, sizes)) * np.repeat(errors, sizes) / np.repeat(sizes, sizes)
    return np.asarray(expected / rank, dtype=np.float64)


def compute_aurc(risks: Floats) -> float:
    """Computes the area under the risk-coverage curve: the mean risk over all coverages, less is better.

    References:
        Y. Geifman, G. Uziel and R. El-Yaniv (2019), Bias-reduced uncertainty estimation for deep neural classifiers,
        ICLR.
    """
    return float(risks.mean())


def select_risks(risks: Floats) -> list[RiskPoint]:
    """Returns the risks at coverages 0.05, 0.10 ... 1.00, each of at least that share of the images."""
    # whole numbers, rounded up: 0.15 of 20 images would be 4 in floating point
    ranks = [-(-step * len(risks) // NUM_COVERAGES) for step in range(1, NUM_COVERAGES + 1)]
    return [RiskPoint(step / NUM_COVERAGES, float(risks[rank - 1])) for step, rank in enumerate(ranks, start=1)]
