"""A search whose trainings are a formula: what a worker would do, without TensorFlow."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from optuna.trial import FrozenTrial

from cotejo.params import override_group
from cotejo.schema.searches import Search
from cotejo.tuning.outcome import Outcome
from cotejo.tuning.pruning import Judge, find_max_epochs, lighten
from cotejo.tuning.study import Proposal
from declared import declare

LENET = declare("lenet", epochs=9, batch_size=64)
PRESENT = LENET.model_dump()
#: Every kind of dimension; the optimizer's are nested, named with a dot, and conditional.
SPACE: dict[str, Any] = {
    "learning_rate": {"type": "float", "low": 1e-4, "high": 1e-1, "log": True},
    "dropout_rate": {"type": "float", "low": 0.0, "high": 0.5, "step": 0.1},
    "batch_size": {"type": "choice", "choices": [32, 64, 128]},
    "label_smoothing": {"type": "float", "low": 0.0, "high": 0.2},
    "optimizer": {"name": {"type": "choice", "choices": ["adam", "sgd"]}},
    "optimizer.momentum": {
        "type": "float", "low": 0.5, "high": 0.9, "when": {"optimizer.name": ["sgd"]}, "otherwise": 0.0
    },
    "schedule.interval_epochs": {"type": "int", "low": 1, "high": 8, "log": True},
}  # fmt: skip
#: 3 x (1 + 2) points.
GRID: dict[str, Any] = {
    "batch_size": {"type": "choice", "choices": [32, 64, 128]},
    "optimizer.name": {"type": "choice", "choices": ["adam", "sgd"]},
    "optimizer.momentum": {
        "type": "float", "low": 0.5, "high": 0.9, "step": 0.4, "when": {"optimizer.name": ["sgd"]}, "otherwise": 0.0
    },
}  # fmt: skip


def declare_search(**changes: Any) -> Search:
    """Returns a `search` section with some keys changed."""
    values = {
        "model": "lenet", "num_trials": 14, "timeout_s": 0.0, "metric": "val_accuracy", "epochs": 0, "sampler": "tpe",
        "pruner": "none", "parallel_trials": 4, "threads": 1, "seed": 0, "holdout": 0.5, "confirm_seeds": [],
        "confidence": 0.95, "space": GRID if changes.get("sampler") == "grid" else SPACE,
    }  # fmt: skip
    return Search.model_validate({**values, **changes})


def train(search: Search, proposal: Proposal, known: Sequence[FrozenTrial]) -> Outcome:
    """Returns what a worker would: accuracy is best at a learning rate of 0.01, which above 0.08 diverges."""
    settings = override_group(LENET, proposal.values, "trial")
    judge = None
    if search.pruner != "none":
        judge = Judge(search, find_max_epochs(search, LENET.epochs), proposal.number, lighten(known, search.pruner))
    rows: list[dict[str, float]] = []
    best = 1 / (1 + abs(math.log10(settings.learning_rate) + 2)) - settings.dropout_rate / 10
    state, value, reason, kind = "COMPLETE", None, "", ""
    for epoch in range(1, settings.epochs + 1):
        if settings.learning_rate > 0.08:
            state, reason, kind = "FAIL", f"trial {proposal.number}: too high.", "a training that can't continue"
            break
        accuracy = best * (1 - 0.5**epoch)
        rows.append({"epoch": epoch, "val_accuracy": accuracy, "val_cross_entropy": 1 - accuracy})
        if judge and judge.should_prune(epoch, rows[-1][search.metric]) and epoch < settings.epochs:
            state = "PRUNED"
            break
    if state == "COMPLETE":
        value = rows[-1][search.metric]
    marks = dict(judge.read_marks()) if judge else {}
    cost = 1e9 * len(rows) / settings.batch_size
    times_s = (1e9 + 10 * proposal.number, 1e9 + 10 * proposal.number + 10)
    return Outcome(state, value, rows, cost, marks, reason, kind, times_s)


def run_batch_of(search: Search) -> Callable[[Sequence[Proposal], Sequence[FrozenTrial]], list[Outcome]]:
    """Returns the function that `run_study` runs batches with."""
    return lambda proposals, known: [train(search, proposal, known) for proposal in proposals]


def end_each(*outcomes: Mapping[str, Any]) -> Callable[[Sequence[Proposal], Sequence[FrozenTrial]], list[Outcome]]:
    """Returns a function that ends trial after trial as declared; what isn't is that of a trial that ended well."""

    def run_batch(proposals: Sequence[Proposal], known: Sequence[FrozenTrial]) -> list[Outcome]:
        return [end(number, **outcomes[number]) for number, _ in proposals]

    return run_batch


def end(number: int, state: str = "COMPLETE", value: float | None = None, kind: str = "", **changes: Any) -> Outcome:
    """Returns an outcome."""
    reason = f"trial {number}: {kind}." if kind else ""
    times_s = (1e9 + 10 * number, 1e9 + 10 * number + 10)
    return Outcome(state, value, [], 0.0, {}, reason, kind, times_s)._replace(**changes)
