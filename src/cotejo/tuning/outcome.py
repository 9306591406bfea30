"""Outcome of a trial, as a worker sends it to the driver."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

#: Kinds of failure that are the machine's.
DYING = "dying workers"
MEMORY = "too little memory"


class Outcome(NamedTuple):
    """Outcome of a trial.

    Attributes:
        state: `COMPLETE`, `PRUNED` or `FAIL`.
        value: The metric of the epoch that is kept; None for a trial that didn't end. Of a training that confirms, the
            mean of its scores.
        rows: What each of its epochs measured.
        cost: Arithmetic of the training, in operations.
        marks: What the pruner has noted at the trial, for the trials after it.
        reason: Why it failed.
        kind: The kind of failure, in a word.
        times_s: When it began and ended, in seconds since 1970.
        scores: For a training that confirms, the score of each image that confirms, shape (num_images,): bool for
            `val_accuracy`, float32 for `val_cross_entropy`; else None.
    """

    state: str
    value: float | None
    rows: list[dict[str, float]]
    cost: float
    marks: dict[str, Any]
    reason: str
    kind: str
    times_s: tuple[float, float]
    scores: NDArray[np.bool_] | NDArray[np.float32] | None = None
