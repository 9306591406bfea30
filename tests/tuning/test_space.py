"""The search space: what it proposes, and what it leaves as declared."""

import itertools

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.stats import qmc

from cheap_search import PRESENT, SPACE, declare_search
from cotejo.tuning.space import (
    build_distribution,
    draw_quasi_random,
    encode,
    find_present,
    find_starting_point,
    list_grid,
    locate,
    place,
    settle,
    suggest,
)

NAMES = ["a", "b", "c", "d"]


@st.composite
def spaces(draw, *, is_grid):
    """Draws spaces of up to four dimensions, of which any may depend on choices before it."""
    space, choices = {}, {}
    for key in NAMES[: draw(st.integers(1, 4))]:
        low = draw(st.integers(1, 5))
        kind = draw(st.sampled_from(["choice", "int"] if is_grid else ["choice", "int", "log", "float", "step"]))
        dimension = {
            "choice": {"type": "choice", "choices": ["x", "y", "z"][: draw(st.integers(1, 3))]},
            "int": {"type": "int", "low": low, "high": low + 2 * draw(st.integers(1, 3)), "step": 2},
            "log": {"type": draw(st.sampled_from(["int", "float"])), "low": low, "high": low + 40, "log": True},
            "float": {"type": "float", "low": -low, "high": low / 7},
            "step": {"type": "float", "low": 0.1, "high": 0.7, "step": 0.2},
        }[kind]
        if choices and draw(st.booleans()):
            parent = draw(st.sampled_from(sorted(choices)))
            dimension |= {"when": {parent: draw(st.sampled_from([choices[parent][:1], choices[parent]]))}}
            dimension |= draw(st.sampled_from([{}, {"otherwise": 0}]))
        if kind == "choice":
            choices[key] = dimension["choices"]
        space[key] = dimension
    return declare_search(space=space).space


def contains(dimension, value):
    """What a reader of params.yaml would say."""
    if dimension.type == "choice":
        return value in dimension.choices
    if dimension.type == "float" and dimension.step:
        return value in (0.1, 0.3, 0.5, 0.7)
    is_stepped = dimension.type == "float" or (isinstance(value, int) and (value - dimension.low) % dimension.step == 0)
    return is_stepped and dimension.low <= value <= dimension.high


def test_nested_and_dotted_names_are_the_same_space():
    dimension = {"type": "choice", "choices": ["adam", "sgd"]}
    nested = declare_search(space={"optimizer": {"name": dimension}}).space
    assert nested == declare_search(space={"optimizer.name": dimension}).space
    assert list(nested) == ["optimizer.name"]


def test_a_dimension_is_optunas_own(tmp_path):
    space = declare_search().space
    assert build_distribution(space["learning_rate"]) == optuna.distributions.FloatDistribution(1e-4, 0.1, log=True)
    assert build_distribution(space["dropout_rate"]) == optuna.distributions.FloatDistribution(0.0, 0.5, step=0.1)
    assert build_distribution(space["schedule.interval_epochs"]) == optuna.distributions.IntDistribution(1, 8, log=True)
    trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0)).ask()
    suggest(trial, space)
    assert trial.distributions == {key: build_distribution(space[key]) for key in trial.params}


@pytest.mark.parametrize("choice", ["adam", "sgd"])
def test_a_conditional_dimension_is_suggested_beside_its_choice_only(choice):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.enqueue_trial({"optimizer.name": choice})
    values = suggest(study.ask(), declare_search().space)
    assert ("optimizer.momentum" in values) == (choice == "sgd")


def test_what_is_not_searched_is_what_otherwise_says_or_stays_as_declared():
    space = declare_search(
        space={
            "optimizer.name": {"type": "choice", "choices": ["adam", "sgd", "rmsprop"]},
            "optimizer.momentum": SPACE["optimizer.momentum"],
            "optimizer.nesterov": {"type": "choice", "choices": [False, True], "when": {"optimizer.name": ["sgd"]}},
        }
    ).space
    assert settle({"optimizer.name": "adam"}, space) == {"optimizer.name": "adam", "optimizer.momentum": 0.0}
    chosen = {"optimizer.name": "sgd", "optimizer.momentum": 0.7, "optimizer.nesterov": True}
    assert settle(chosen, space) == chosen


@given(spaces(is_grid=False), st.integers(0, 2**32 - 1), st.integers(0, 1000))
@settings(max_examples=60)
def test_settling_changes_no_searched_value_and_settles_all(space, seed, number):
    values = draw_quasi_random(space, seed, number)
    settled = settle(values, space)
    assert {key: settled[key] for key in values} == values
    for key in settled.keys() - values.keys():
        assert settled[key] == space[key].otherwise
        assert not space[key].is_active(values)
    assert all(key in settled for key, dimension in space.items() if dimension.otherwise is not None)


def test_the_present_values_are_found_in_groups_too():
    space = declare_search().space
    present = find_present(PRESENT, space)
    assert (present["learning_rate"], present["optimizer.name"]) == (1e-3, "adam")
    # momentum is searched beside sgd alone
    assert find_starting_point(PRESENT, space).keys() == space.keys() - {"optimizer.momentum"}


@pytest.mark.parametrize(
    ("key", "outside", "within"),
    [
        ("learning_rate", 0.2, 0.1),
        ("dropout_rate", 0.25, 0.3),
        ("batch_size", 48, 128),
        ("optimizer.name", "nadam", "sgd"),
        ("schedule.interval_epochs", 9, 8),
    ],
)
def test_a_sampler_learns_present_values_within_the_space_alone(key, outside, within):
    space = declare_search().space
    group, _, name = key.rpartition(".")
    for value, is_within in ((outside, False), (within, True)):
        present = PRESENT | ({group: PRESENT[group] | {name: value}} if group else {name: value})
        assert (key in find_starting_point(present, space)) == is_within


def test_true_is_no_one():
    space = declare_search(space={"batch_normalization": {"type": "choice", "choices": [True]}}).space
    assert find_starting_point({"batch_normalization": 1}, space) == {}


@given(spaces(is_grid=True))
@settings(max_examples=60)
def test_a_grid_has_every_combination_that_its_conditions_leave_once(space):
    grid = list_grid(space)
    every = [dict(zip(space, point, strict=True)) for point in itertools.product(*(d.points for d in space.values()))]
    reached = []
    for point in every:
        left = {}
        for key, value in point.items():
            if all(parent in left and left[parent] in allowed for parent, allowed in space[key].when.items()):
                left[key] = value
        if left not in reached:
            reached.append(left)
    assert grid == reached
    # and that many are what num_trials has to be
    raw = {key: dimension.model_dump(exclude_none=True) for key, dimension in space.items()}
    declare_search(sampler="grid", space=raw, num_trials=1 + len(grid))
    with pytest.raises(ValidationError, match=f"not {len(grid)} points in {len(grid)} trials"):
        declare_search(sampler="grid", space=raw, num_trials=len(grid))


def test_a_grids_steps_are_the_numbers_that_a_user_would_write_down():
    space = declare_search(sampler="grid", space={"dropout_rate": SPACE["dropout_rate"]}).space
    assert [values["dropout_rate"] for values in list_grid(space)] == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]


@given(spaces(is_grid=False), st.integers(0, 2**32 - 1), st.integers(0, 1000))
@settings(max_examples=60)
def test_a_quasi_random_point_is_within_the_space_and_the_same_again(space, seed, number):
    values = draw_quasi_random(space, seed, number)
    assert draw_quasi_random(space, seed, number) == values
    for key, dimension in space.items():
        is_active = all(parent in values and values[parent] in allowed for parent, allowed in dimension.when.items())
        assert (key in values) == is_active
        if is_active:
            assert contains(dimension, values[key])


@given(spaces(is_grid=False), st.integers(0, 2**32 - 1))
@settings(max_examples=60)
def test_a_point_is_found_again_from_its_values(space, seed):
    resting = np.full(len(space), 0.25)
    values = place(np.random.default_rng(seed).random(len(space)), space)
    point = locate(values, space, resting)
    assert ((point >= 0) & (point <= 1)).all()
    assert all(u == 0.25 for key, u in zip(space, point, strict=True) if key not in values)
    found = place(point, space)
    assert found.keys() == values.keys()
    for key, value in values.items():
        assert found[key] == (pytest.approx(value, rel=1e-9, abs=1e-12) if isinstance(value, float) else value)


def test_values_become_numbers_whose_distances_say_how_alike_they_are():
    space = declare_search(space={
        "batch_size": {"type": "choice", "choices": [64, 32, 256, 128]},
        "learning_rate": {"type": "float", "low": 1e-4, "high": 1e-2, "log": True},
        "activation": {"type": "choice", "choices": ["tanh", "relu", "swish"]},
        "batch_normalization": {"type": "choice", "choices": [False, True]},
        "optimizer.name": {"type": "choice", "choices": ["adam", "sgd"]},
        "optimizer.momentum": {"type": "float", "low": 0.0, "high": 0.9, "when": {"optimizer.name": ["sgd"]}},
    }).space  # fmt: skip
    values = {"batch_size": 128, "learning_rate": 1e-3, "activation": "relu", "batch_normalization": True}
    with_adam = encode({**values, "optimizer.name": "adam"}, space)
    assert with_adam == pytest.approx([2 / 3, 0.5, 0, 1, 0, 1, 0, 0.5])
    with_sgd = encode({**values, "optimizer.name": "sgd", "optimizer.momentum": 0.9}, space)
    assert with_sgd == pytest.approx([2 / 3, 0.5, 0, 1, 0, 1, 1, 1])


def find_places(space, values):
    """Returns where values lie within a space, each from 0 to 1."""
    rate = np.log(values["learning_rate"] / 1e-4) / np.log(1e-1 / 1e-4)
    return [rate, values["label_smoothing"] / 0.2]


def test_quasi_random_points_fill_the_space_more_evenly_than_chance():
    space = declare_search(space={key: SPACE[key] for key in ("learning_rate", "label_smoothing")}).space
    for seed in range(5):
        drawn = qmc.discrepancy([find_places(space, draw_quasi_random(space, seed, number)) for number in range(64)])
        chance = qmc.discrepancy(np.random.default_rng(seed).random((64, 2)))
        assert drawn < chance / 3


def test_quasi_random_points_give_each_value_its_share():
    space = declare_search(space={key: SPACE[key] for key in ("batch_size", "dropout_rate")}).space
    points = [draw_quasi_random(space, 3, number) for number in range(96)]
    shares = [[point["batch_size"] for point in points].count(size) for size in (32, 64, 128)]
    assert max(shares) - min(shares) <= 2
    rates = [[point["dropout_rate"] for point in points].count(rate) for rate in (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)]
    assert max(rates) - min(rates) <= 2
