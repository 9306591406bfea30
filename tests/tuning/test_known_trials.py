"""What a pruner is told of earlier trials: little enough for thousands of them, and all that it decides by."""

from pickle import dumps, loads

import numpy as np
import pytest
from optuna.trial import TrialState, create_trial

from cotejo.params import load_params
from cotejo.tuning.pruning import Judge, lighten

MAX_EPOCHS = 9
PRUNERS = ["median", "hyperband", "successive_halving"]


def declare_search(pruner):
    return load_params(["search"]).search.model_copy(update={"pruner": pruner})


@pytest.fixture
def curves():
    generator = np.random.default_rng(0)
    ends = generator.uniform(0.5, 0.95, (40, 1))
    return ends - 0.4 / np.arange(1, MAX_EPOCHS + 1) + generator.normal(0, 0.02, (40, MAX_EPOCHS))


def judge_one_after_the_other(curves, pruner, lighten_known):
    """Has each trial judged by all before it; returns after how many epochs each was stopped."""
    search, known, lengths = declare_search(pruner), [], []
    for number, curve in enumerate(curves):
        judge = Judge(search, MAX_EPOCHS, number, lighten_known(known))
        epochs = range(1, MAX_EPOCHS)
        stopped = next((epoch for epoch in epochs if judge.should_prune(epoch, curve[epoch - 1])), None)
        length = stopped or MAX_EPOCHS
        is_complete = stopped is None
        known.append(
            create_trial(
                state=TrialState.COMPLETE if is_complete else TrialState.PRUNED,
                value=float(curve[-1]) if is_complete else None,
                intermediate_values={epoch: float(curve[epoch - 1]) for epoch in range(1, length + 1)},
                system_attrs=dict(judge.read_marks()),
            )
        )
        lengths.append(length)
    return lengths


@pytest.mark.parametrize("pruner", PRUNERS)
def test_a_pruner_decides_by_the_known_trials_as_by_the_whole_trials(curves, pruner):
    whole = judge_one_after_the_other(curves, pruner, list)
    sent = judge_one_after_the_other(curves, pruner, lambda known: loads(dumps(lighten(known, pruner))))  # noqa: S301
    assert sent == whole
    assert 0 < sum(length < MAX_EPOCHS for length in whole) < len(curves)  # else nothing was decided


@pytest.mark.parametrize("pruner", PRUNERS)
def test_ten_thousand_trials_are_sent_in_two_megabytes(curves, pruner):
    epochs = dict(enumerate(curves[0].tolist(), 1))
    trial = create_trial(value=0.9, intermediate_values=epochs, system_attrs={"completed_rung_0": 0.7})
    assert len(dumps(lighten([trial] * 10_000, pruner))) < 2_000_000
