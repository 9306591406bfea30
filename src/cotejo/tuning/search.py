"""A search from its first trial to the confirmed gain: asks, sends out, watches, writes down."""

import json
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from optuna.trial import FrozenTrial
from ruamel.yaml import YAML

from cotejo.execution.executor import Died, Executor
from cotejo.execution.messages import Setup
from cotejo.files import digest_json
from cotejo.schema.searches import Search
from cotejo.schema.trainings import Net
from cotejo.tracking.children import Child, Children
from cotejo.tracking.journal import Run
from cotejo.tuning.confirmation import Confirmation, estimate_gain
from cotejo.tuning.holdout import Holdout
from cotejo.tuning.outcome import DYING, Outcome
from cotejo.tuning.progress import Board
from cotejo.tuning.pruning import find_max_epochs, lighten
from cotejo.tuning.space import find_present, settle
from cotejo.tuning.study import REASON, Ended, Proposal, derive_seeds, find_best, run_study
from cotejo.tuning.tables import compute_importances, tabulate_curves, tabulate_times, tabulate_trials
from cotejo.tuning.tasks import TrialTask, run_trial

#: Optuna's words for how a trial ended, in MLflow's; only what ran to its end has finished.
RUN_STATES = {"COMPLETE": "FINISHED", "PRUNED": "KILLED", "FAIL": "FAILED"}


class Confirmed(NamedTuple):
    """Result of the trainings with fresh seeds.

    Attributes:
        confirmation: None where there were none, or where fewer than two seeds could be trained with.
        failures: Why trainings failed; a seed of which either one did isn't in the confirmation.
    """

    confirmation: Confirmation | None
    failures: list[str]


class Searcher:
    """Runs the trainings of a search on an executor, each with a tracked run below the stage's.

    Args:
        search: The `search` section.
        present: The model's section.
        precision: Precision of each training: `base.precision`.
        run: The stage's run.
        executor: Runs them.
        folder: A folder that outlives a kill, of this search with these inputs.
    """

    def __init__(
        self, search: Search, present: Net, precision: str, run: Run, executor: Executor, folder: Path
    ) -> None:
        self.search = search
        self.present = present
        self.run = run
        self.executor = executor
        self.folder = folder
        split_batch = not (present.batch_normalization or "batch_normalization" in search.space)
        self.setup = Setup(search.threads, precision, split_batch, executor.memory_bytes)
        self.max_epochs = find_max_epochs(search, present.epochs)
        self.children = Children(run, folder)

    def search_and_confirm(self, board: Board) -> tuple[Ended, Confirmed]:
        """Runs the study, and confirms what it has found; raises `ModelError` as both of them do."""
        ended = self.search_best(board)
        return ended, self.confirm(find_best(ended.study), board)

    def search_best(self, board: Board) -> Ended:
        """Runs the study, or resumes it.

        Raises:
            ModelError: Three trials in a row have failed in the same way, or none came to its end.
        """
        pruner = self.search.pruner

        def run_batch(proposals: Sequence[Proposal], known: Sequence[FrozenTrial]) -> Sequence[Outcome]:
            self._forget(len(known))
            board.recall(known)
            light = lighten(known, pruner) if pruner != "none" else None
            tasks = [
                self._describe(f"trial {number}", number, values, derive_seeds(self.search.seed, number)[1], light)
                for number, values in proposals
            ]
            return self._run(tasks, board)

        ended = run_study(self.search, self.present.model_dump(), run_batch, self.folder / "study.log")
        for trial in ended.study.get_trials(deepcopy=False):
            reason = trial.user_attrs.get(REASON, "")
            self.children.adopt(f"trial {trial.number}", RUN_STATES[trial.state.name], reason)
        return ended

    def confirm(self, best: FrozenTrial, board: Board) -> Confirmed:
        """Trains the winner and the declared values with fresh seeds, and compares them on the held-out images.

        Nothing is trained where no seeds are declared, or where the declared values have won.
        """
        seeds = self.search.confirm_seeds
        if not seeds or best.number == 0:
            return Confirmed(None, [])
        budget = {"epochs": self.search.epochs} if self.search.epochs else {}
        values = {"present": budget, "best": {**budget, **settle(best.params, self.search.space)}}
        tasks = [
            self._describe(f"confirm {which} seed {seed}", 0, values[which], seed, None)._replace(confirms=True)
            for seed in seeds
            for which in values
        ]
        outcomes = self._run(tasks, board)
        scores = [
            (seed, before.scores, after.scores)
            for seed, before, after in zip(seeds, outcomes[0::2], outcomes[1::2], strict=True)
            if before.scores is not None and after.scores is not None
        ]
        failures = [outcome.reason for outcome in outcomes if outcome.value is None]
        for reason in failures:
            print(f"search: this seed confirms nothing: {reason}", file=sys.stderr, flush=True)
        if len(scores) < 2:
            return Confirmed(None, failures)
        trained, present, winner = zip(*scores, strict=True)
        confirmation = estimate_gain(trained, present, winner, best.values[0], self.search)
        # values that some seeds can't be trained with are no gain
        return Confirmed(confirmation._replace(verdict="not decided") if failures else confirmation, failures)

    def _forget(self, num_known: int) -> None:
        """Removes the checkpoints of trials that are written down."""
        for path in self.folder.glob("trial-*"):
            if int(path.name.split("-")[1]) < num_known:
                # a worker that was cut off may still write into it, and the next batch finds it again
                shutil.rmtree(path, ignore_errors=True)

    def _describe(
        self, name: str, number: int, values: dict[str, Any], seed: int, known: Sequence[FrozenTrial] | None
    ) -> TrialTask:
        # a worker's own disk may hold a checkpoint of this name from another search's values
        digest = digest_json([values, seed])[:8]
        folder = (self.folder / f"{name.replace(' ', '-')}-{digest}").resolve()
        return TrialTask(
            name, number, self.search, self.present, values, seed, self.max_epochs, known, str(folder), self.setup
        )

    def _run(self, tasks: Sequence[TrialTask], board: Board) -> list[Outcome]:
        outcomes: list[Outcome | None] = [None] * len(tasks)
        with self.children.closing():
            children = [self.children.open(task.name, self._list_params(task)) for task in tasks]
            for task in tasks:
                board.begin(task.name, task.values)

            def report(place: int, row: Mapping[str, float]) -> None:
                children[place].log_row(row)
                board.show(tasks[place].name, row)

            for place, result in self.executor.run(run_trial, tasks, self.setup, report):
                outcome = _give_up(tasks[place], result) if isinstance(result, Died) else result
                outcomes[place] = outcome
                _finish(children[place], outcome)
                board.end(tasks[place].name, outcome)
        return [outcome for outcome in outcomes if outcome is not None]

    def _list_params(self, task: TrialTask) -> dict[str, Any]:
        """Returns a trial's searched parameters, spelled as in `params.yaml`, and its seed."""
        values = {**find_present(self.present.model_dump(), self.search.space), **task.values}
        return {f"{self.search.model}.{key}": value for key, value in values.items()} | {"seed": task.seed}


def count_tasks(search: Search) -> int:
    """Returns how many trainings of a search can run in parallel."""
    return max(search.parallel_trials, 2 * len(search.confirm_seeds))


def _finish(child: Child, outcome: Outcome) -> None:
    """Records what has come with the result alone, and how the training ended."""
    for row in outcome.rows:
        child.log_row(row)
    if not child.run.has_ended():
        child.run.log_tags({"trial_state": outcome.state})
        if outcome.value is not None:
            child.run.log_metrics({"value": outcome.value, "giga_operations": outcome.cost / 1e9})
    child.finish(RUN_STATES[outcome.state], outcome.reason)


def save_search(
    ended: Ended,
    confirmed: Confirmed,
    search: Search,
    present: Mapping[str, Any],
    holdout: Holdout,
    folder: Path,
) -> dict[str, Any]:
    """Writes `trials.csv`, `curves.csv`, `best_params.yaml` and `summary.json`, without a clock in any of them.

    Args:
        ended: The study.
        confirmed: What `Searcher.confirm` returned.
        search: The `search` section.
        present: The model's section.
        holdout: The validation images that chose, and those held out.
        folder: An existing folder.

    Returns:
        The content of `summary.json`.

    Raises:
        ModelError: Every trial was pruned or failed.
    """
    best = find_best(ended.study)
    trials = tabulate_trials(ended.study, search, present)
    trials.to_csv(folder / "trials.csv", index=False)
    tabulate_curves(ended.study).to_csv(folder / "curves.csv", index=False)
    winner = settle(best.params, search.space) if best.number else find_present(present, search.space)
    first = trials.iloc[0]
    summary = {
        "model": search.model,
        "metric": search.metric,
        "direction": search.direction,
        "sampler": search.sampler,
        "pruner": search.pruner,
        "epochs": search.epochs,
        "num_trials": len(trials),
        "num_by_state": {state: int((trials["state"] == state).sum()) for state in RUN_STATES},
        "epochs_run": int(trials["epochs_run"].sum()),
        "ended_by": ended.by,
        "best": {"number": best.number, "value": best.values[0], "values": winner},
        "present": {
            "value": float(first["value"]) if first["state"] == "COMPLETE" else None,
            "values": find_present(present, search.space),
        },
        "importances": compute_importances(ended.study, search.seed),
        "confirmation": confirmed.confirmation and confirmed.confirmation._asdict(),
        "confirm_failures": confirmed.failures,
        "confidence": search.confidence,
        "num_selecting": len(holdout.selecting),
        "num_held_out": len(holdout.held_out),
    }
    (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    with (folder / "best_params.yaml").open("w", encoding="utf-8") as file:
        metric = search.metric.removeprefix("val_").replace("_", " ")
        file.write(f"# validation {metric} {best.values[0]:.4f}, the best of {len(trials)} trials\n")
        YAML().dump({search.model: nest(winner)}, file)
    return summary


def save_times(ended: Ended, path: Path) -> None:
    """Writes what a clock measured, apart from the rest, which is the same on every run."""
    times = {"stage": "search", "trials": tabulate_times(ended.study)}
    path.write_text(json.dumps(times, indent=2) + "\n", encoding="utf-8")


def nest(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns `{"optimizer": {"name": ...}}` for `{"optimizer.name": ...}`, sorted by name."""
    tree: dict[str, Any] = {}
    for key, value in sorted(values.items()):
        *path, name = key.split(".")
        branch = tree
        for part in path:
            branch = branch.setdefault(part, {})
        branch[name] = value
    return tree


def _give_up(task: TrialTask, died: Died) -> Outcome:
    reason = f"{task.name}: expected a worker to live through it. Received: {died.reason}. It may need more memory."
    return Outcome("FAIL", None, [], 0.0, {}, reason, DYING, (time.time(), time.time()))
