"""An Optuna study whose every trial is a function of what is declared: the same on one worker or many, killed or not.

Trials are proposed in batches of `search.parallel_trials`, each from what was known when its batch began, and written
down in the order of their numbers. The study's file thus holds finished trials only, and whoever resumes it
proposes what would have been proposed without the kill.

References:
    Akiba et al. (2019), Optuna, KDD 2019. Bergstra et al. (2011), Algorithms for hyper-parameter optimization,
    NeurIPS 24, section 4 (TPE). Hansen (2016), The CMA evolution strategy: a tutorial. Deb et al. (2002), NSGA-II,
    IEEE Transactions on Evolutionary Computation 6 (2).
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import optuna
from optuna.samplers import BaseSampler, CmaEsSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState, create_trial

from cotejo.errors import ModelError
from cotejo.files import drop_torn_line
from cotejo.schema.searches import Search
from cotejo.tuning import gaussian
from cotejo.tuning.outcome import DYING, MEMORY, Outcome
from cotejo.tuning.space import (
    build_distribution,
    draw_quasi_random,
    find_starting_point,
    has_all,
    list_grid,
    settle,
    suggest,
)
from cotejo.tuning.tables import measure_busy_s
from cotejo.upstream import remove_study_lock

#: The study's name, from which Hyperband draws as well.
NAME = "search"
#: Key of a trial's own record in the study's file: why it failed.
REASON = "reason"
#: Key of the same: in a word what kind of failure it was.
KIND = "kind"
#: What to do about failures, by their kind.
MEND = "Change search.space or the model's section in params.yaml."
MENDS = dict.fromkeys(
    (DYING, MEMORY),
    "Set runtime.workers lower and remove .cotejo/checkpoints/search-* to begin anew, or change the space.",
)
#: Failures of one kind, one after the other, that end the search: it isn't the trials that are at fault.
MOST_FAILURES = 3


class Proposal(NamedTuple):
    """A trial to be run: its number, and what it changes in the model's section."""

    number: int
    values: dict[str, Any]


#: Runs the trials of a batch, given all trials before it, and returns their outcomes in the same order.
RunBatch = Callable[[Sequence[Proposal], Sequence[FrozenTrial]], Sequence[Outcome]]


class Ended(NamedTuple):
    """A study that has ended, and by what: `num_trials`, `grid` (all its points are done) or `timeout_s`."""

    study: optuna.Study
    by: str


def run_study(search: Search, present: Mapping[str, Any], run_batch: RunBatch, journal: Path) -> Ended:
    """Runs a study to the declared number of trials, the first of them with the declared values.

    Args:
        search: The `search` section.
        present: The model's section.
        run_batch: Runs a batch.
        journal: The study's file; an unfinished study in it is resumed.

    Raises:
        ModelError: Three trials in a row have failed in the same way, and there are others to come.
    """
    study = open_study(search, journal)
    told = study.get_trials(deepcopy=False)
    grid = list_grid(search.space) if search.sampler == "grid" else []
    budget = 1 + len(grid) if grid else search.num_trials
    proposer = _Proposer(search, present, grid, told[: len(told) - len(told) % search.parallel_trials])
    while len(told) < budget:
        # a kill may have come while a batch was written down; it is decided and proposed from what was known before it
        known, done = told[: proposer.number], told[proposer.number :]
        if search.timeout_s and measure_busy_s(known) > search.timeout_s:
            return Ended(study, "timeout_s")
        check_failures(known)
        asked = proposer.ask(min(search.parallel_trials, budget - len(known)))
        left = asked[len(done) :]
        outcomes = run_batch([proposer.settle(trial) for trial in left], known)
        for trial, outcome in zip(left, outcomes, strict=True):
            told.append(proposer.freeze(trial, outcome))
            study.add_trial(told[-1])
        proposer.tell(asked, told[len(known) :])
    return Ended(study, "grid" if grid else "num_trials")


def open_study(search: Search, journal: Path) -> optuna.Study:
    """Opens a study's file, or makes it."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    journal.parent.mkdir(parents=True, exist_ok=True)
    remove_study_lock(journal)  # the stage's own lock keeps other processes out
    if journal.exists():
        with journal.open("r+b") as file:
            drop_torn_line(file)  # Optuna would append to it
    storage = JournalStorage(JournalFileBackend(str(journal)))
    if storage.get_all_studies():  # load_if_exists would write it down once more
        return optuna.load_study(storage=storage, study_name=NAME)
    return optuna.create_study(storage=storage, study_name=NAME, directions=list_directions(search))


def list_directions(search: Search) -> list[str]:
    """Returns the direction of each aim: the metric's, and less arithmetic where that is an aim too."""
    return [search.direction, "minimize"] if search.sampler == "nsga2" else [search.direction]


class _Proposer:
    """Asks Optuna for trials, in a study of its own, in memory: the file's would keep trials that a kill has ended."""

    def __init__(
        self, search: Search, present: Mapping[str, Any], grid: Sequence[dict[str, Any]], told: Sequence[FrozenTrial]
    ) -> None:
        self.search = search
        self.present = present
        self.grid = grid
        self.study = optuna.create_study(study_name=NAME, directions=list_directions(search))
        self.study.add_trials(trial if self._teaches(trial) else create_trial(state=TrialState.FAIL) for trial in told)
        self.number = len(told)
        self.common: Any = None
        self.model: gaussian.Surrogate | None = None

    def ask(self, count: int) -> list[optuna.Trial]:
        """Proposes a batch."""
        if self.search.sampler == "gp" and self.number + count > gaussian.NUM_EVEN:
            seed, _ = derive_seeds(self.search.seed, self.number)
            self.model = gaussian.fit(self.search, self.study.get_trials(deepcopy=False), seed)
        asked: list[optuna.Trial] = []
        for _ in range(count):
            asked.append(self._ask([trial.params for trial in asked]))
        return asked

    def settle(self, trial: optuna.Trial) -> Proposal:
        """Returns what a trial changes; the first changes nothing."""
        budget = {"epochs": self.search.epochs} if self.search.epochs else {}
        return Proposal(trial.number, {**budget, **(settle(trial.params, self.search.space) if trial.number else {})})

    def freeze(self, trial: optuna.Trial, outcome: Outcome) -> FrozenTrial:
        """Returns a trial as it is written down."""
        state = TrialState[outcome.state]
        # samplers keep what they know at the trials, and so do pruners
        marks = {**self.study.get_trials(deepcopy=False)[trial.number].system_attrs, **outcome.marks}
        marks.pop("fixed_params", None)  # its params once more
        values = [outcome.value, outcome.cost][: len(self.study.directions)] if state == TrialState.COMPLETE else None
        frozen = create_trial(
            state=state,
            values=values,
            params=trial.params,
            distributions=trial.distributions,
            user_attrs={"cost": outcome.cost, **({REASON: outcome.reason, KIND: outcome.kind} if outcome.kind else {})},
            system_attrs=marks,
            intermediate_values={int(row["epoch"]): row[self.search.metric] for row in outcome.rows},
        )
        frozen.number = trial.number
        frozen.datetime_start, frozen.datetime_complete = map(datetime.fromtimestamp, outcome.times_s)
        return frozen

    def tell(self, asked: Sequence[optuna.Trial], told: Sequence[FrozenTrial]) -> None:
        """Prints how a batch ended."""
        for trial, frozen in zip(asked, told, strict=True):
            if not self._teaches(frozen):
                self.study.tell(trial, state=TrialState.FAIL)
                continue
            if len(self.study.directions) == 1:
                for step, value in frozen.intermediate_values.items():
                    trial.report(value, step)
            values = frozen.values if frozen.state == TrialState.COMPLETE else None
            self.study.tell(trial, values, frozen.state)

    def _teaches(self, trial: FrozenTrial) -> bool:
        """Returns whether a sampler may learn from a trial.

        Not from the first, where the declared values lie outside the space: samplers would take those dimensions for
        ones that aren't always searched, and draw them by chance from then on.
        """
        return has_all(trial.params, self.search.space)

    def _ask(self, running: Sequence[Mapping[str, Any]]) -> optuna.Trial:
        # a sampler's generator isn't kept in any file: seeded by trial, it proposes the same before and after a kill
        self.study.sampler = build_sampler(self.search, self.number)
        self._share_common_space(self.study.sampler)
        fixed = self._fix(running)
        if fixed is not None:
            self.study.enqueue_trial(fixed)
        if self.number:
            trial = self.study.ask()
            suggest(trial, self.search.space)
        else:
            trial = self.study.ask({key: build_distribution(self.search.space[key]) for key in fixed or {}})
        self.number += 1
        return trial

    def _share_common_space(self, sampler: BaseSampler) -> None:
        """Spares a sampler to find anew what all trials have searched: that takes longer the more there are."""
        if hasattr(sampler, "_search_space"):
            self.common = self.common or sampler._search_space
            sampler._search_space = self.common

    def _fix(self, running: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
        """Returns the values of a trial that no sampler of Optuna's proposes, beside those of its batch so far."""
        if self.number == 0:
            return find_starting_point(self.present, self.search.space)
        if self.grid:
            return self.grid[self.number - 1]
        if self.search.sampler == "gp" and self.model and self.number >= gaussian.NUM_EVEN:
            return gaussian.propose(self.model, running, derive_seeds(self.search.seed, self.number)[0])
        if self.search.sampler in ("gp", "qmc"):
            return draw_quasi_random(self.search.space, self.search.seed, self.number - 1)
        return None


class _OrderedNSGAII(NSGAIISampler):
    """Orders parents by their numbers, as Optuna does when it reads them from a study that isn't new."""

    def select_parent(self, study: optuna.Study, generation: int) -> list[FrozenTrial]:
        return sorted(super().select_parent(study, generation), key=lambda trial: trial.number)


def derive_seeds(seed: int, number: int) -> tuple[int, int]:
    """Returns the seeds of a trial's sampler and of its training; neighbouring numbers and seeds share no stream.

    A training has a seed of its own: with one for all, values are found that suit that seed.

    References:
        Bouthillier et al. (2021), Accounting for variance in machine learning benchmarks, MLSys 3.
    """
    sampler, training = np.random.SeedSequence((seed, number)).generate_state(2)
    return int(sampler), int(training)


def build_sampler(search: Search, number: int) -> BaseSampler:
    """Builds the sampler of one trial.

    Args:
        search: The `search` section.
        number: The trial's number.
    """
    seed, _ = derive_seeds(search.seed, number)
    if search.sampler == "tpe":
        return TPESampler(seed=seed)
    if search.sampler == "cmaes":
        return CmaEsSampler(seed=seed, independent_sampler=RandomSampler(seed=seed), warn_independent_sampling=False)
    if search.sampler == "nsga2":
        # Optuna's 50 would be a random search of the first 50 trials
        return _OrderedNSGAII(population_size=max(4, search.num_trials // 5), seed=seed)
    return RandomSampler(seed=seed)


def check_failures(trials: Sequence[FrozenTrial]) -> None:
    """Stops a search in which three trials in a row have failed in the same way.

    Raises:
        ModelError: Names the cause.
    """
    kinds = [trial.user_attrs.get(KIND) for trial in trials]
    for end, trial in enumerate(trials[MOST_FAILURES - 1 :], start=MOST_FAILURES):
        kind = kinds[end - 1]
        if kind and kinds[end - MOST_FAILURES : end] == [kind] * MOST_FAILURES:
            raise ModelError(
                f"search: expected trials that can be trained. Received: {MOST_FAILURES} in a row with {kind}; the "
                f"last: {trial.user_attrs[REASON]} {MENDS.get(kind, MEND)}"
            )


def find_best(study: optuna.Study) -> FrozenTrial:
    """Returns the complete trial with the best metric, the first of those that share it.

    Raises:
        ModelError: Every trial was pruned or failed.
    """
    trials = study.get_trials(deepcopy=False)
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    if complete:
        sign = 1 if study.directions[0] == optuna.study.StudyDirection.MINIMIZE else -1
        return min(complete, key=lambda trial: (sign * trial.values[0], trial.number))
    reasons = [trial.user_attrs[REASON] for trial in trials if REASON in trial.user_attrs]
    raise ModelError(
        f"search: expected at least one trial to end. Received: {len(trials) - len(reasons)} pruned, {len(reasons)} "
        "failed. Set search.pruner to none in params.yaml, narrow search.space, or raise search.num_trials."
        + "".join(f"\n  The first that failed: {reason}" for reason in reasons[:1])
    )
