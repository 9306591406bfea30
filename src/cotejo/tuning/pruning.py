"""When a trial is stopped: a function of the trials before its batch and of its own curve, and of nothing else.

References:
    Golovin et al. (2017), Google Vizier, KDD 2017, section 3.2.1 (median). Li et al. (2020), A system for massively
    parallel hyperparameter tuning, MLSys 2 (successive halving). Li et al. (2018), Hyperband, JMLR 18 (185).
"""

from collections.abc import Mapping, Sequence
from copy import copy
from datetime import datetime
from typing import Any

import optuna
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.trial import FrozenTrial, TrialState, create_trial

from cotejo.schema.searches import IntDimension, Search

#: No pruner asks when a trial was run.
NO_DATE = datetime(1970, 1, 1)


class Judge:
    """Optuna's pruner, in a study of its own that holds what the trial may know.

    Args:
        search: The `search` section.
        max_epochs: The most epochs that a trial can have.
        number: The trial's number; Hyperband draws its bracket from it.
        known: The trials before its batch; what `lighten` leaves of them is enough.
    """

    def __init__(self, search: Search, max_epochs: int, number: int, known: Sequence[FrozenTrial]) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.study = optuna.create_study(
            study_name="search", direction=search.direction, pruner=build_pruner(search.pruner, max_epochs)
        )
        self.study.add_trials(known)
        # those of its own batch, of which it may know nothing
        self.study.add_trials([create_trial(state=TrialState.FAIL)] * (number - len(known)))
        self.trial = self.study.ask()

    def should_prune(self, epoch: int, value: float) -> bool:
        """Returns whether the trial is to be stopped after an epoch."""
        self.trial.report(value, epoch)
        return bool(self.trial.should_prune())

    def read_marks(self) -> Mapping[str, Any]:
        """Returns what the pruner has noted at the trial, for the trials after it."""
        return dict(self.study.get_trials(deepcopy=False)[-1].system_attrs)


def build_pruner(name: str, max_epochs: int) -> BasePruner:
    """Builds a pruner by its name in `search.pruner`."""
    if name == "median":
        return MedianPruner()
    if name == "hyperband":
        return HyperbandPruner(min_resource=1, max_resource=max_epochs, reduction_factor=3)
    if name == "successive_halving":
        return SuccessiveHalvingPruner(min_resource=1, reduction_factor=3)
    return NopPruner()


def find_max_epochs(search: Search, present: int) -> int:
    """Returns the most epochs that a trial can have.

    Args:
        search: The `search` section.
        present: The epochs of the model's section.
    """
    dimension = search.space.get("epochs")
    if dimension is None:
        return search.epochs or present
    most = dimension.high if isinstance(dimension, IntDimension) else max(map(int, dimension.points or ()))
    return max(present, most)


class _Known(FrozenTrial):
    """A trial that a study in memory holds as it is: nobody changes it, and thousands take long to copy deeply."""

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Known":
        return copy(self)


def lighten(trials: Sequence[FrozenTrial], pruner: str) -> list[FrozenTrial]:
    """Leaves of trials what a pruner asks for: they are sent to every worker.

    Args:
        trials: Trials in the order of their numbers.
        pruner: Its name in `search.pruner`: median compares the curves of complete trials, the others what they have
            noted at trials themselves.
    """
    nothing = _describe_known()
    if pruner == "median":
        return [
            _describe_known(TrialState.COMPLETE, 0.0, trial.intermediate_values)
            if trial.state == TrialState.COMPLETE
            else nothing
            for trial in trials
        ]
    marks = [
        {key: value for key, value in trial.system_attrs.items() if key.startswith("completed_rung_")}
        for trial in trials
    ]
    return [_describe_known(marks=noted) if noted else nothing for noted in marks]


def _describe_known(
    state: TrialState = TrialState.FAIL,
    value: float | None = None,
    curve: Mapping[int, float] | None = None,
    marks: Mapping[str, Any] | None = None,
) -> _Known:
    return _Known(
        number=-1,
        trial_id=-1,
        state=state,
        value=value,
        datetime_start=NO_DATE,
        datetime_complete=NO_DATE,
        params={},
        distributions={},
        user_attrs={},
        system_attrs=dict(marks or {}),
        intermediate_values=dict(curve or {}),
    )
