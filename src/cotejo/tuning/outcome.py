"""How a trial ends: what a worker tells the driver."""

from typing import Any, NamedTuple

#: Kinds of failure that are the machine's.
DYING, MEMORY = "dying workers", "too little memory"


class Outcome(NamedTuple):
    """How a trial ended.

    Attributes:
        state: `COMPLETE`, `PRUNED` or `FAIL`.
        value: The metric of the epoch that is kept; None for a trial that didn't end.
        rows: What each of its epochs measured.
        cost: Arithmetic of the training, in operations.
        marks: What the pruner has noted at the trial, for the trials after it.
        reason: Why it failed.
        kind: The kind of failure, in a word.
        times_s: When it began and ended, in seconds since 1970.
    """

    state: str
    value: float | None
    rows: list[dict[str, float]]
    cost: float
    marks: dict[str, Any]
    reason: str
    kind: str
    times_s: tuple[float, float]
