"""A search of many trials: what its file costs to open, to resume, and to draw.

Its trials are made up: curves that rise to what the proposed values are worth, a third of them cut short.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from pickle import dumps, loads
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial

from cotejo.data.splits import Dataset
from cotejo.params import load_params
from cotejo.report.search_page import save_search_report
from cotejo.schema.searches import FloatDimension, Search
from cotejo.tuning.holdout import draw_holdout
from cotejo.tuning.outcome import Outcome
from cotejo.tuning.pruning import Judge, lighten
from cotejo.tuning.search import Confirmed, save_search, save_times
from cotejo.tuning.study import Ended, Proposal, open_study, run_study

NUM_EPOCHS = 10
#: Of how many trials one is cut short.
PRUNED = 3
#: A grid of 20,001 points, of a value that the other studies haven't searched.
FINE_STEPS = FloatDimension(type="float", low=0.0, high=0.02, step=1e-6)


class _EnoughError(Exception):
    """Ends a study where the measurement does."""


def write(path: str, num_trials: int, sampler: str) -> dict[str, Any]:
    """Writes a study of made-up trials; returns the seconds, all batches and all writing."""
    search, present = declare(sampler, num_trials)
    began_s = time.perf_counter()
    run_study(search, present, run_batch, Path(path))
    return {"total_time_s": time.perf_counter() - began_s, "size_bytes": Path(path).stat().st_size}


def resume(path: str, num_trials: int, sampler: str, num_batches: int) -> dict[str, Any]:
    """Opens and resumes a study, on a copy.

    Returns:
        The seconds until the first batch is proposed, and those of each further batch: written down, told, proposed.
    """
    search, present = declare(sampler, num_trials)
    search = search.model_copy(update={"num_trials": num_trials + (num_batches + 1) * search.parallel_trials})
    marks: list[float] = []

    def run_batch_and_count(proposals: Sequence[Proposal], known: Sequence[FrozenTrial]) -> list[Outcome]:
        marks.append(time.perf_counter())
        if len(marks) > num_batches:
            raise _EnoughError
        return run_batch(proposals, known)

    with TemporaryDirectory() as folder:
        copy = Path(folder) / "study.log"
        copy.write_bytes(Path(path).read_bytes())
        began_s = time.perf_counter()
        with suppress(_EnoughError):
            run_study(search, present, run_batch_and_count, copy)
    return {"total_time_s": marks[0] - began_s, "batches_s": np.diff(marks).tolist()}


def draw(path: str, num_trials: int) -> dict[str, Any]:
    """Opens a study and writes its tables, importances, figures and page; returns the seconds."""
    search, present = declare("random", num_trials)
    facts = {"dataset": Dataset("generated", ["a", "b"], (28, 28, 1), ""), "git_commit": None, "dirty": False}
    began_s = time.perf_counter()
    ended = Ended(open_study(search, Path(path)), "num_trials")
    with TemporaryDirectory() as name:
        folder = Path(name)
        holdout = draw_holdout(np.zeros(0, np.int64), 0.0, search.seed)
        save_search(ended, Confirmed(None, []), search, present, holdout, folder)
        save_times(ended, folder / "times.json")
        save_search_report(
            search, folder, folder / "times.json", facts, [folder / "en.html", folder / "es.html"], folder
        )
    return {"total_time_s": time.perf_counter() - began_s}


def judge(path: str, num_trials: int, pruner: str) -> dict[str, Any]:
    """Sends what a pruner knows to a worker, as the driver does for each trial, and asks it after each epoch.

    Returns:
        The seconds of preparing a batch, and of a trial; the bytes that are sent for each.
    """
    search, _ = declare("random", num_trials, pruner)
    known = open_study(search, Path(path)).get_trials(deepcopy=False)
    light, batch_s = clock(lambda: lighten(known, pruner))
    sent, sending_s = clock(lambda: dumps(light))

    def ask() -> None:
        judge = Judge(search, NUM_EPOCHS, num_trials + 1, loads(sent))  # noqa: S301 - our own
        for epoch in range(1, NUM_EPOCHS):
            judge.should_prune(epoch, 0.99)

    _, trial_s = clock(ask)
    return {"batch_s": batch_s, "trial_s": sending_s + trial_s, "sent_bytes": len(sent)}


def declare(sampler: str, num_trials: int, pruner: str = "none") -> tuple[Search, dict[str, Any]]:
    """Returns the declared search with another sampler, and LeNet's declared values."""
    params = load_params(["search", "lenet"])
    changes: dict[str, Any] = {"sampler": sampler, "num_trials": num_trials, "pruner": pruner}
    if sampler == "grid":
        changes["space"] = {"l2": FINE_STEPS}
    return params.search.model_copy(update=changes), params.lenet.model_dump()


def run_batch(proposals: Sequence[Proposal], known: Sequence[FrozenTrial]) -> list[Outcome]:
    """Stands in for training."""
    return [make_up(proposal) for proposal in proposals]


def make_up(proposal: Proposal) -> Outcome:
    """Makes up how a trial goes."""
    generator = np.random.default_rng(proposal.number)
    values = {"learning_rate": 1e-3, "dropout_rate": 0.0, "batch_size": 128, **proposal.values}
    worth = 0.9 - 0.03 * abs(np.log10(values["learning_rate"]) + 2.5) - 0.05 * values["dropout_rate"]
    worth += 0.002 * generator.normal() - 1e-5 * values["batch_size"]
    is_pruned = proposal.number % PRUNED == 1
    epochs = range(1, 1 + (NUM_EPOCHS // 3 if is_pruned else NUM_EPOCHS))
    rows = [{"epoch": epoch, "val_accuracy": float(worth - 0.2 / epoch)} for epoch in epochs]
    marks = {f"completed_rung_{rung}": rows[3**rung - 1]["val_accuracy"] for rung in range(1 if is_pruned else 3)}
    now_s = 1e9 + proposal.number
    return Outcome("PRUNED" if is_pruned else "COMPLETE", None if is_pruned else rows[-1]["val_accuracy"], rows,
                   1e9 * len(rows), marks, "", "", (now_s, now_s + 1))  # fmt: skip


def clock(call: Callable[[], Any]) -> tuple[Any, float]:
    """Returns what a call returns, and its seconds."""
    began_s = time.perf_counter()
    result = call()
    return result, time.perf_counter() - began_s
