"""The sampler `gp`: few trials teach it where the good values lie, pruned and failed ones too."""

import math

import numpy as np
import optuna
import pytest
from scipy import integrate, stats

from cheap_search import PRESENT, declare_search, end
from cotejo.tuning import gaussian
from cotejo.tuning.space import build_distribution, encode, place
from cotejo.tuning.study import run_study

#: Of an optimizer alone, with the best values away from the declared ones.
SPACE = {
    "learning_rate": {"type": "float", "low": 1e-5, "high": 1e-1, "log": True},
    "dropout_rate": {"type": "float", "low": 0.0, "high": 0.5},
    "batch_size": {"type": "choice", "choices": [32, 64, 128, 256]},
    "activation": {"type": "choice", "choices": ["tanh", "relu", "swish"]},
    "pooling": {"type": "choice", "choices": ["max", "average"]},
}
ACTIVATIONS = {"tanh": 0.0, "relu": 0.02, "swish": 0.04}


def measure(values):
    """Returns an accuracy: the best has a learning rate of 2e-4, dropout of 0.4 and swish, and is 0.95."""
    away = (math.log10(values["learning_rate"]) - math.log10(2e-4)) / 2, (values["dropout_rate"] - 0.4) / 0.5
    return 0.91 - 0.3 * sum(distance**2 for distance in away) + ACTIVATIONS[values["activation"]]


def search_formula(tmp_path, sampler, seed, num_trials=25, metric="val_accuracy", space=SPACE):
    """Returns the values of a study's trials, whose accuracy or error is measured with noise."""
    search = declare_search(sampler=sampler, seed=seed, num_trials=num_trials, metric=metric, space=space)
    generator = np.random.default_rng(seed)

    def run_batch(proposals, known):
        full = [{**PRESENT, **values} for _, values in proposals]
        values = [measure(values) + 0.003 * generator.standard_normal() for values in full]
        if metric == "val_cross_entropy":
            values = [1 - value for value in values]
        return [end(number, value=value) for (number, _), value in zip(proposals, values, strict=True)]

    study = run_study(search, PRESENT, run_batch, tmp_path / f"{sampler}-{seed}-{metric}.log").study
    return [trial.params for trial in study.trials]


@pytest.mark.slow
def test_the_best_of_25_trials_is_nearer_to_the_optimum_than_chance_and_tpe_come(tmp_path):
    lost = {
        sampler: np.median([0.95 - max(map(measure, search_formula(tmp_path, sampler, seed))) for seed in range(10)])
        for sampler in ("gp", "tpe", "random")
    }
    assert lost["gp"] < lost["tpe"] / 5
    assert lost["gp"] < lost["random"] / 5


def test_an_error_that_is_minimised_has_the_trials_of_an_accuracy_that_is_maximised(tmp_path):
    by_error = search_formula(tmp_path, "gp", seed=0, num_trials=16, metric="val_cross_entropy")
    assert by_error == search_formula(tmp_path, "gp", seed=0, num_trials=16)


def test_where_all_is_countable_a_batch_has_no_values_twice(tmp_path):
    space = {
        "learning_rate": {"type": "float", "low": 0.0001, "high": 0.0004, "step": 0.0001},
        "dropout_rate": {"type": "float", "low": 0.0, "high": 0.5, "step": 0.25},
        "activation": SPACE["activation"],
    }
    trials = search_formula(tmp_path, "gp", seed=0, num_trials=40, space=space)
    for begin in range(gaussian.NUM_EVEN, 40, 4):
        batch = trials[begin : begin + 4]
        assert all(values not in batch[:place] for place, values in enumerate(batch))


def test_pruned_trials_teach_it(tmp_path):
    """All but every eighth are stopped at their first epoch; what they had by then is enough."""
    search = declare_search(sampler="gp", num_trials=32, space=SPACE)

    def run_batch(proposals, known):
        outcomes = []
        for number, values in proposals:
            accuracy = measure({**PRESENT, **values})
            rows = [{"epoch": epoch, "val_accuracy": accuracy - 0.1 / epoch} for epoch in range(1, 5)]
            ended = {"value": rows[-1]["val_accuracy"], "rows": rows} if number % 8 == 0 else {}
            outcomes.append(end(number, **(ended or {"state": "PRUNED", "rows": rows[:1]})))
        return outcomes

    study = run_study(search, PRESENT, run_batch, tmp_path / "study.log").study
    late = [measure(trial.params) for trial in study.trials[-12:]]
    assert np.median(late) > 0.93
    # a trial's last value alone would have made completed ones look better than pruned ones
    assert min(late) > 0.85


@pytest.mark.parametrize("limit", [3e-3, pytest.param(2e-4, marks=pytest.mark.slow)])
def test_it_keeps_away_from_values_that_fail(tmp_path, limit):
    search = declare_search(sampler="gp", num_trials=40, space=SPACE)

    def run_batch(proposals, known):
        outcomes = []
        for number, values in proposals:
            # the accuracy says nothing of it: what is near to the failures is as good as the rest
            fails = values.get("learning_rate", 1e-3) > limit
            kind = f"kind {number}"  # three of a kind in a row would end the search
            outcomes.append(end(number, "FAIL", kind=kind) if fails else end(number, value=0.9 + number % 3 / 100))
        return outcomes

    study = run_study(search, PRESENT, run_batch, tmp_path / "study.log").study
    failed = [trial.state == optuna.trial.TrialState.FAIL for trial in study.trials]
    share = (math.log10(0.1) - math.log10(limit)) / 4
    assert sum(failed[: gaussian.NUM_EVEN]) >= math.floor(share * gaussian.NUM_EVEN) - 1
    assert np.mean(failed[-20:]) < share / 2


@pytest.mark.parametrize(("mean", "spread"), [(0.0, 1.0), (-1.0, 0.5), (2.0, 0.7), (0.3, 1e-6)])
def test_the_expected_improvement_is_the_integral_that_defines_it(mean, spread):
    best = 0.25
    expected, _ = integrate.quad(
        lambda value: (best - value) * stats.norm.pdf(value, mean, spread), mean - 12 * spread, best, points=[mean]
    )
    found = gaussian.compute_improvement(best, np.array([mean]), np.array([spread]))
    assert found == pytest.approx([max(expected, 0)], abs=1e-8)


def build_trials(search, num_trials, seed=0):
    distributions = {key: build_distribution(dimension) for key, dimension in search.space.items()}
    points = np.random.default_rng(seed).random((num_trials, len(search.space)))
    drawn = [place(point, search.space) for point in points]
    values = [measure({"activation": "tanh", **values}) for values in drawn]
    return [
        optuna.trial.create_trial(value=value, params=values, distributions=distributions)
        for value, values in zip(values, drawn, strict=True)
    ]


@pytest.mark.parametrize("seed", range(6))
def test_a_running_trial_is_believed_so_that_the_next_one_goes_elsewhere(seed):
    search = declare_search(sampler="gp", space={key: SPACE[key] for key in ("learning_rate", "dropout_rate")})
    model = gaussian.fit(search, build_trials(search, 6, seed), seed)
    first = gaussian.propose(model, [], seed)
    assert gaussian.propose(model, [], seed) == first
    second = gaussian.propose(model, [first], seed)
    # without believing the first, the second would lie 0.056 from it at most
    assert np.linalg.norm(encode(second, search.space) - encode(first, search.space)) > 0.08


def test_of_many_trials_it_models_the_best_and_a_draw_of_the_rest():
    search = declare_search(sampler="gp", space=SPACE)
    trials = build_trials(search, 2 * gaussian.MOST_MODELLED)
    model = gaussian.fit(search, trials, seed=0)
    assert len(np.unique(model.points, axis=0)) == gaussian.MOST_MODELLED
    best = sorted(trials, key=lambda trial: -trial.value)[: gaussian.NUM_BEST]
    assert model.points[: gaussian.NUM_BEST].tolist() == [encode(trial.params, search.space).tolist() for trial in best]
    assert model.centres == [trial.params for trial in best[: gaussian.NUM_CENTRES]]


def test_among_more_best_trials_than_it_models_it_continues():
    search = declare_search(sampler="gp", space=SPACE)
    trials = build_trials(search, 2 * gaussian.MOST_MODELLED)
    for index, trial in enumerate(trials):
        trial.value = 1.0 if index else 0.9
    model = gaussian.fit(search, trials, seed=0)
    assert gaussian.propose(model, [], seed=0).keys() == SPACE.keys()


def test_where_most_trials_are_as_good_as_the_best_it_learns_from_the_others():
    search = declare_search(sampler="gp", space=SPACE)
    trials = build_trials(search, 24)
    for trial in trials:
        trial.value = 1.0 if trial.params["learning_rate"] < 1e-2 else 0.5
    model = gaussian.fit(search, trials, seed=0)
    assert [gaussian.propose(model, [], seed)["learning_rate"] < 1e-2 for seed in range(5)] == [True] * 5
