"""An Optuna study that goes on after a kill and proposes what it would have proposed without it.

References:
    Akiba et al. (2019), Optuna, KDD 2019. Bergstra et al. (2011), Algorithms for hyper-parameter optimization,
    NeurIPS 24, section 4 (the TPE sampler).
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState
from ruamel.yaml import YAML

from cotejo.errors import ModelError
from cotejo.schema import Search
from cotejo.tracking.records import drop_torn_record
from cotejo.tuning.space import find_starting_point, suggest

#: Trains with the proposed values and returns what is maximised; may raise optuna.TrialPruned.
Objective = Callable[[optuna.Trial, dict[str, Any]], float]
#: Why a trial failed; one that a kill has ended has none, and is run again.
REASON = "reason"


def run_study(search: Search, present: Mapping[str, Any], objective: Objective, journal: Path) -> optuna.Study:
    """Runs a study to the declared number of trials, the first of them with the present values.

    Args:
        search: The `search` section.
        present: The model's present values, for the keys of the search space.
        objective: Called for each trial, one after the other.
        journal: The study's file; an unfinished study in it is gone on with.

    Returns:
        The study, with `search.num_trials` finished trials.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    journal.parent.mkdir(parents=True, exist_ok=True)
    if journal.exists():
        with journal.open("r+b") as file:
            drop_torn_record(file)  # Optuna would append to it
    study = optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(journal))),
        study_name="search",
        direction="maximize",
        pruner=optuna.pruners.MedianPruner() if search.pruner == "median" else optuna.pruners.NopPruner(),
        load_if_exists=True,
    )
    for killed in study.get_trials(states=(TrialState.RUNNING,)):
        study.tell(killed.number, state=TrialState.FAIL)
    while (number := len(finished_trials(study))) < search.num_trials:
        # a sampler's generator isn't kept in the file: seeded by trial, it proposes the same before and after a kill
        study.sampler = build_sampler(search.sampler, search.seed, number)
        if number == 0 and not study.get_trials(states=(TrialState.WAITING,)):
            study.enqueue_trial(find_starting_point(present, search.space))
        _run_trial(study, objective, search)
    return study


def _run_trial(study: optuna.Study, objective: Objective, search: Search) -> None:
    trial = study.ask()
    try:
        study.tell(trial, objective(trial, suggest(trial, search.space)))
    except optuna.TrialPruned:
        study.tell(trial, state=TrialState.PRUNED)
    except ModelError as error:  # a learning rate too high for this model is a result, not the end of the search
        trial.set_user_attr(REASON, str(error))
        study.tell(trial, state=TrialState.FAIL)


def build_sampler(name: str, seed: int, number: int) -> BaseSampler:
    """Builds the sampler of one trial, by its name in `search.sampler`.

    Args:
        name: `tpe` or `random`.
        seed: The study's seed.
        number: The trial's number; neighbouring seeds share no stream.
    """
    stream = int(np.random.SeedSequence((seed, number)).generate_state(1)[0])
    return TPESampler(seed=stream) if name == "tpe" else RandomSampler(seed=stream)


def finished_trials(study: optuna.Study) -> list[FrozenTrial]:
    """Lists the trials that count, in the order in which they ran: complete, pruned, or failed for a reason."""
    states = (TrialState.COMPLETE, TrialState.PRUNED)
    return [trial for trial in study.get_trials() if trial.state in states or REASON in trial.user_attrs]


def tabulate_trials(study: optuna.Study) -> pd.DataFrame:
    """Returns a row per finished trial: number, state, value, epochs run, and a column per parameter.

    The value of a trial that didn't end is the last one that it reported. No clock is in it: the same study gives
    the same table.
    """
    rows = [
        {
            "number": number,
            "state": trial.state.name,
            "value": trial.value if trial.value is not None else trial.intermediate_values.get(trial.last_step),
            "epochs_run": len(trial.intermediate_values),
            **{key: trial.params[key] for key in sorted(trial.params)},
        }
        for number, trial in enumerate(finished_trials(study))
    ]
    return pd.DataFrame(rows)


def compute_importances(study: optuna.Study, seed: int) -> dict[str, float]:
    """Returns the share of each parameter in the variance of the value; nothing where it can't be told.

    References:
        Hutter, Hoos and Leyton-Brown (2014), An efficient approach for assessing hyperparameter importance (fANOVA).
    """
    complete = study.get_trials(states=(TrialState.COMPLETE,))
    if len({trial.value for trial in complete}) < 2:
        return {}
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=seed)
    return dict(optuna.importance.get_param_importances(study, evaluator=evaluator))


def find_best(study: optuna.Study) -> FrozenTrial:
    """Returns the complete trial with the highest value.

    Raises:
        ModelError: Every trial was pruned or failed.
    """
    try:
        return study.best_trial
    except ValueError:
        reasons = [trial.user_attrs[REASON] for trial in finished_trials(study) if REASON in trial.user_attrs]
        num_pruned = len(finished_trials(study)) - len(reasons)
        raise ModelError(
            f"search: expected at least one trial to end. Received: {num_pruned} pruned, {len(reasons)} failed. "
            "Set search.pruner to none in params.yaml, narrow search.space, or raise search.num_trials."
            + "".join(f"\n  The first that failed: {reason}" for reason in reasons[:1])
        ) from None


def save_study(study: optuna.Study, search: Search, folder: Path) -> None:
    """Writes `trials.csv` and `best_params.yaml`, the latter in the form of the section that it would change.

    Raises:
        ModelError: Every trial was pruned or failed.
    """
    best = find_best(study)
    tabulate_trials(study).to_csv(folder / "trials.csv", index=False)
    with (folder / "best_params.yaml").open("w", encoding="utf-8") as file:
        file.write(f"# validation accuracy {best.value:.4f}, the best of {search.num_trials} trials\n")
        YAML().dump({search.model: dict(sorted(best.params.items()))}, file)
