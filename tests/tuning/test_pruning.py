"""The pruner: a function of the trials before the batch and of the trial's own curve, and of nothing else."""

import itertools
import pickle
import random

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState, create_trial

from cheap_search import LENET, SPACE, declare_search
from cotejo.tuning.pruning import Judge, build_pruner, find_max_epochs, lighten

PRUNERS = ["median", "hyperband", "successive_halving"]
MAX_EPOCHS = 9


def draw_curve(number):
    """Returns a noisy curve, of a trial that isn't much better than its neighbours."""
    generator = np.random.default_rng(number)
    return (generator.random() * (1 - 0.6 ** np.arange(1, MAX_EPOCHS + 1)) + generator.random(MAX_EPOCHS) / 10).tolist()


def judge_trial(search, number, known):
    """Returns the epochs of a trial, and the trial as it is written down."""
    judge = Judge(search, MAX_EPOCHS, number, known)
    reported = {}
    state = TrialState.COMPLETE
    for epoch, value in enumerate(draw_curve(number), start=1):
        reported[epoch] = value
        if judge.should_prune(epoch, value) and epoch < MAX_EPOCHS:
            state = TrialState.PRUNED
            break
    return create_trial(
        state=state,
        value=value if state == TrialState.COMPLETE else None,
        intermediate_values=reported,
        system_attrs=dict(judge.read_marks()),
    )


@pytest.mark.parametrize("metric", ["val_accuracy", "val_cross_entropy"])
@pytest.mark.parametrize("pruner", PRUNERS)
def test_trials_one_after_the_other_are_stopped_where_optuna_stops_them(pruner, metric):
    search = declare_search(pruner=pruner, metric=metric, parallel_trials=1)

    def objective(trial):
        for epoch, value in enumerate(draw_curve(trial.number), start=1):
            trial.report(value, epoch)
            if trial.should_prune() and epoch < MAX_EPOCHS:
                raise optuna.TrialPruned
        return value

    study = optuna.create_study(
        study_name="search", direction=search.direction, pruner=build_pruner(pruner, MAX_EPOCHS)
    )
    study.optimize(objective, n_trials=40)
    told = []
    for number in range(40):
        told.append(judge_trial(search, number, told))
    assert [trial.state for trial in told] == [trial.state for trial in study.trials]
    assert [trial.last_step for trial in told] == [trial.last_step for trial in study.trials]
    assert sum(trial.state == TrialState.PRUNED for trial in told) > 5, "the test needs some that are stopped"


@pytest.mark.parametrize("pruner", PRUNERS)
def test_neither_the_order_nor_the_process_of_a_batchs_trials_matters(pruner):
    search = declare_search(pruner=pruner)
    told = []
    while len(told) < 40:
        numbers = list(range(len(told), len(told) + 4))
        in_order = {number: judge_trial(search, number, told) for number in numbers}
        random.Random(len(told)).shuffle(numbers)  # noqa: S311 - an order, no secret
        sent = pickle.dumps(told)  # as to another process
        elsewhere = {number: judge_trial(search, number, pickle.loads(sent)) for number in numbers}  # noqa: S301
        for number, trial in in_order.items():
            assert (trial.state, trial.intermediate_values) == (
                elsewhere[number].state, elsewhere[number].intermediate_values
            )  # fmt: skip
            assert trial.system_attrs == elsewhere[number].system_attrs
        told += in_order.values()
    assert any(trial.state == TrialState.PRUNED for trial in told)


@pytest.mark.parametrize("pruner", PRUNERS)
def test_two_trials_that_take_turns_are_judged_as_one_after_the_other(pruner):
    search = declare_search(pruner=pruner)
    told = []
    for number in range(16):
        told.append(judge_trial(search, number, told))
    alone = [judge_trial(search, number, told) for number in (16, 17)]
    judges = [Judge(search, MAX_EPOCHS, number, told) for number in (16, 17)]
    verdicts = [
        [judge.should_prune(epoch, values[epoch - 1]) for judge, values in zip(judges, curves, strict=True)]
        for curves in [[draw_curve(16), draw_curve(17)]]
        for epoch in range(1, MAX_EPOCHS + 1)
    ]
    for place, trial in enumerate(alone):
        first = next((epoch for epoch, row in enumerate(verdicts[:-1], start=1) if row[place]), MAX_EPOCHS)
        assert first == trial.last_step


@pytest.mark.parametrize("pruner", PRUNERS)
def test_a_trial_that_is_resumed_after_a_kill_is_judged_as_if_there_had_been_none(pruner):
    search = declare_search(pruner=pruner)
    told = []
    for number in range(12):
        told.append(judge_trial(search, number, told))
    whole = judge_trial(search, 12, told)
    for _ in range(3):  # whoever resumes reports from the first epoch anew
        again = judge_trial(search, 12, told)
        assert (again.intermediate_values, again.system_attrs) == (whole.intermediate_values, whole.system_attrs)


@pytest.mark.parametrize("pruner", PRUNERS)
def test_what_is_sent_to_workers_is_all_that_a_pruner_asks_for(pruner):
    search = declare_search(pruner=pruner)
    whole, light = [], []
    for number in range(30):
        whole.append(judge_trial(search, number, whole))
        light.append(judge_trial(search, number, lighten(light, pruner)))
    assert [trial.intermediate_values for trial in light] == [trial.intermediate_values for trial in whole]


def test_the_first_batch_knows_of_no_other_and_is_never_stopped():
    for pruner, number in itertools.product(PRUNERS, range(4)):
        judge = Judge(declare_search(pruner=pruner), MAX_EPOCHS, number, [])
        assert not any(judge.should_prune(epoch, 0.0) for epoch in range(1, MAX_EPOCHS + 1))


EPOCHS = {"type": "int", "low": 2, "high": 12, "step": 5}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, LENET.epochs),
        ({"epochs": 4}, 4),
        ({"space": {"epochs": EPOCHS}}, 12),
        ({"space": {"epochs": EPOCHS | {"high": 7}}}, LENET.epochs),
        ({"space": {"epochs": {"type": "choice", "choices": [3, 20, 5]}}}, 20),
    ],
    ids=["the model's", "the budget", "the space's", "the first trial's", "choices"],
)
def test_the_most_epochs_are_those_that_any_trial_can_have(changes, expected):
    assert find_max_epochs(declare_search(**{"space": SPACE, **changes}), LENET.epochs) == expected
