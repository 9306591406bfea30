"""Tables of an ended study: trials, curves, times, and how much each parameter matters."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna
import pandas as pd
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from cotejo.schema.searches import Search
from cotejo.tuning.space import (
    find_present,
)

#: Complete trials that the importances are computed from at most: the time grows faster than their number.
MOST_WEIGHED = 500


def tabulate_trials(study: optuna.Study, search: Search, present: Mapping[str, Any]) -> pd.DataFrame:
    """Returns a row per trial, without a clock in it: the same study gives the same table.

    Returns:
        The columns number, state, value (the metric of the epoch that is kept; the last one reported where a trial
        didn't end), epochs_run, giga_operations, on_front (of two aims: no other trial is as good in both and better
        in one), and a column per dimension, empty where a trial didn't search it.
    """
    trials = study.get_trials(deepcopy=False)
    front = {trial.number for trial in study.best_trials} if len(study.directions) > 1 else None
    rows = [
        {
            "number": trial.number,
            "state": trial.state.name,
            "value": trial.values[0] if trial.values else trial.intermediate_values.get(trial.last_step),
            "epochs_run": len(trial.intermediate_values),
            "giga_operations": round(trial.user_attrs["cost"] / 1e9, 3),
            **({} if front is None else {"on_front": trial.number in front}),
            # the first has the declared values, within the space or not
            **(trial.params if trial.number else find_present(present, search.space)),
        }
        for trial in trials
    ]
    leading = ["number", "state", "value", "epochs_run", "giga_operations", *([] if front is None else ["on_front"])]
    return pd.DataFrame(rows, columns=[*leading, *search.space])


def tabulate_curves(study: optuna.Study) -> pd.DataFrame:
    """Returns the metric of each trial by epoch: the columns number, epoch and value."""
    rows = [
        (trial.number, epoch, value)
        for trial in study.get_trials(deepcopy=False)
        for epoch, value in sorted(trial.intermediate_values.items())
    ]
    return pd.DataFrame(rows, columns=["number", "epoch", "value"])


def tabulate_times(study: optuna.Study) -> list[dict[str, Any]]:
    """Returns when each trial began and ended, in seconds from the first one's beginning."""
    trials = study.get_trials(deepcopy=False)
    began = min(trial.datetime_start for trial in trials)
    return [
        {
            "number": trial.number,
            "state": trial.state.name,
            "began_s": round((trial.datetime_start - began).total_seconds(), 3),
            "ended_s": round((trial.datetime_complete - began).total_seconds(), 3),
        }
        for trial in trials
    ]


def compute_importances(study: optuna.Study, seed: int) -> dict[str, float]:
    """Returns the share of each parameter in the variance of the metric; nothing where it can't be told.

    Of more than 500 complete trials, 500 drawn by the seed are weighed.

    References:
        Hutter, Hoos and Leyton-Brown (2014), An efficient approach for assessing hyperparameter importance (fANOVA).
    """
    complete = [trial for trial in study.get_trials(deepcopy=False) if trial.state == TrialState.COMPLETE]
    # declared values outside the space would leave out their dimensions
    searched = set.intersection(*(set(trial.params) for trial in complete[1:])) if len(complete) > 1 else set()
    complete = [trial for trial in complete if searched <= set(trial.params)]
    if len(complete) > MOST_WEIGHED:
        drawn = np.random.default_rng(seed).choice(len(complete), MOST_WEIGHED, replace=False)
        complete = [complete[place] for place in sorted(drawn)]
    if len({trial.values[0] for trial in complete}) < 2 or not searched:
        return {}
    told = optuna.create_study()
    told.add_trials(_straighten(trial) for trial in complete)
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=seed)
    shares = optuna.importance.get_param_importances(told, evaluator=evaluator, params=sorted(searched))
    return {key: float(share) for key, share in shares.items()}


def _straighten(trial: FrozenTrial) -> FrozenTrial:
    """Returns a trial with logarithms for what is searched on a log scale.

    Optuna's fANOVA weighs a value by its own size: nearly all of 1e-4 to 0.1 would be what lies above 0.01.
    """
    params, distributions = dict(trial.params), dict(trial.distributions)
    for key, distribution in trial.distributions.items():
        if isinstance(distribution, FloatDistribution | IntDistribution) and distribution.log:
            params[key] = math.log(params[key])
            distributions[key] = FloatDistribution(math.log(distribution.low), math.log(distribution.high))
    return create_trial(value=trial.values[0], params=params, distributions=distributions)


def measure_busy_s(trials: Sequence[FrozenTrial]) -> float:
    """Returns the time in which any trial ran: what lay between a kill and the next start isn't in it."""
    busy_s = 0.0
    until_s = 0.0
    # since 1970: the clock on the wall is put forward in spring
    for began_s, ended_s in sorted(
        (trial.datetime_start.timestamp(), trial.datetime_complete.timestamp()) for trial in trials
    ):
        busy_s += max(ended_s - max(began_s, until_s), 0.0)
        until_s = max(ended_s, until_s)
    return busy_s
