"""The search space of `params.yaml`, in Optuna's terms."""

from collections.abc import Iterator, Mapping
from functools import reduce
from operator import getitem
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from scipy.stats import qmc

from cotejo.schema.searches import ChoiceDimension, Dimension, FloatDimension, IntDimension

Space = Mapping[str, Dimension]


def build_distribution(dimension: Dimension) -> BaseDistribution:
    """Returns a dimension in Optuna's terms."""
    if isinstance(dimension, ChoiceDimension):
        return CategoricalDistribution(dimension.choices)
    if isinstance(dimension, IntDimension):
        return IntDistribution(dimension.low, dimension.high, log=dimension.log, step=dimension.step)
    return FloatDistribution(dimension.low, dimension.high, log=dimension.log, step=dimension.step)


def suggest(trial: optuna.Trial, space: Space) -> dict[str, Any]:
    """Returns the trial's value for each dimension that is searched beside the choices made before it."""
    values: dict[str, Any] = {}
    for key, dimension in space.items():
        if dimension.is_active(values):
            values[key] = _suggest(trial, key, dimension)
    return values


def _suggest(trial: optuna.Trial, key: str, dimension: Dimension) -> Any:  # noqa: ANN401 - as the section declares it
    if isinstance(dimension, ChoiceDimension):
        return trial.suggest_categorical(key, dimension.choices)
    if isinstance(dimension, IntDimension):
        return trial.suggest_int(key, dimension.low, dimension.high, step=dimension.step, log=dimension.log)
    return trial.suggest_float(key, dimension.low, dimension.high, step=dimension.step, log=dimension.log)


def settle(values: Mapping[str, Any], space: Space) -> dict[str, Any]:
    """Adds what the dimensions that aren't searched beside these values are instead; the rest stays as declared."""
    resting = {key: dimension.otherwise for key, dimension in space.items() if not dimension.is_active(values)}
    return {**{key: value for key, value in resting.items() if value is not None}, **values}


def find_present(present: Mapping[str, Any], space: Space) -> dict[str, Any]:
    """Returns the model's declared value for each dimension, within the space or not."""
    return {key: reduce(getitem, key.split("."), present) for key in space}


def find_starting_point(present: Mapping[str, Any], space: Space) -> dict[str, Any]:
    """Returns the declared values that lie within the space: what a sampler can learn from the first trial."""
    values: dict[str, Any] = {}
    for key, value in find_present(present, space).items():
        if space[key].is_active(values) and _contains(space[key], value):
            values[key] = value
    return values


def list_grid(space: Space) -> list[dict[str, Any]]:
    """Lists all combinations of the dimensions' points, the last dimension changing fastest."""
    grid: list[dict[str, Any]] = [{}]
    for key, dimension in space.items():
        grid = [
            {**values, **chosen}
            for values in grid
            for chosen in ([{key: point} for point in dimension.points or ()] if dimension.is_active(values) else [{}])
        ]
    return grid


def draw_quasi_random(space: Space, seed: int, number: int) -> dict[str, Any]:
    """Returns a point of a scrambled Sobol sequence, which fills the space more evenly than chance.

    Optuna's own sampler doesn't know choices and counts in the study, which a kill would set back.

    Args:
        space: The search space.
        seed: Seed of the scrambling.
        number: The point's place in the sequence, from 0.

    References:
        Owen (1998), Scrambling Sobol' and Niederreiter-Xing points, Journal of Complexity 14 (4).
    """
    sequence = qmc.Sobol(len(space), scramble=True, rng=seed)
    if number:
        sequence.fast_forward(number)
    (point,) = sequence.random(1)
    return place(point, space)


def place(point: NDArray[np.float64], space: Space) -> dict[str, Any]:
    """Returns the values at a point whose coordinates are places from 0 to 1, each value having an equal share."""
    values = {key: _place(dimension, float(u)) for (key, dimension), u in zip(space.items(), point, strict=True)}
    return dict(_drop_resting(values, space))


def locate(values: Mapping[str, Any], space: Space, resting: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the point at which `place` has these values.

    Args:
        values: Values of the dimensions that are searched together.
        space: The search space.
        resting: The places of those that aren't.
    """
    places = zip(space.items(), resting, strict=True)
    return np.array([_locate(dimension, values[key]) if key in values else u for (key, dimension), u in places])


def encode(values: Mapping[str, Any], space: Space) -> NDArray[np.float64]:
    """Returns values as numbers from 0 to 1 whose distances say how alike they are.

    A number has one, and so have two choices and choices of numbers, by their order; else each choice has its own. What
    isn't searched beside the others is in the middle.
    """
    numbers: list[float] = []
    for key, dimension in space.items():
        if not isinstance(dimension, ChoiceDimension):
            numbers.append(_locate(dimension, values[key]) if key in values else 0.5)
            continue
        choices = dimension.choices
        are_numbers = all(isinstance(choice, int | float) and not isinstance(choice, bool) for choice in choices)
        ordered = sorted(choices) if are_numbers else choices
        is_one_number = are_numbers or len(choices) == 2
        if key not in values:
            numbers += [0.5] * (1 if is_one_number else len(choices))
            continue
        chosen = [_is_same(values[key], choice) for choice in ordered]
        numbers += [chosen.index(True) / max(len(choices) - 1, 1)] if is_one_number else map(float, chosen)
    return np.array(numbers)


def has_all(values: Mapping[str, Any], space: Space) -> bool:
    """Returns whether there is a value for each dimension that is searched beside the others."""
    return all(key in values or not dimension.is_active(values) for key, dimension in space.items())


def _place(dimension: Dimension, u: float) -> Any:  # noqa: ANN401 - as the section declares it
    """Returns the value at a place from 0 to 1 within a dimension, each value having an equal share."""
    if isinstance(dimension, FloatDimension | IntDimension) and dimension.log:
        low, high = _find_log_bounds(dimension)
        value = float(np.exp(low + u * (high - low)))
        if isinstance(dimension, IntDimension):
            value = round(value)
        return min(max(value, dimension.low), dimension.high)
    if dimension.points is None:
        return dimension.low + u * (dimension.high - dimension.low)
    return dimension.points[min(int(u * len(dimension.points)), len(dimension.points) - 1)]


def _locate(dimension: Dimension, value: Any) -> float:  # noqa: ANN401 - as the section declares it
    """Returns a place at which `_place` has a value."""
    if isinstance(dimension, FloatDimension | IntDimension) and dimension.log:
        low, high = _find_log_bounds(dimension)
        return float((np.log(value) - low) / (high - low))
    if dimension.points is None:
        return float((value - dimension.low) / (dimension.high - dimension.low))
    if isinstance(dimension, ChoiceDimension):
        index = next(index for index, point in enumerate(dimension.choices) if _is_same(value, point))
    else:
        index = round((value - dimension.low) / (dimension.step or 1))
    return (index + 0.5) / len(dimension.points)


def _find_log_bounds(dimension: FloatDimension | IntDimension) -> tuple[float, float]:
    # a whole number takes all that is rounded to it
    margin = 0.5 if isinstance(dimension, IntDimension) else 0.0
    return float(np.log(dimension.low - margin)), float(np.log(dimension.high + margin))


def _drop_resting(values: Mapping[str, Any], space: Space) -> Iterator[tuple[str, Any]]:
    active: dict[str, Any] = {}
    for key, value in values.items():
        if space[key].is_active(active):
            active[key] = value
            yield key, value


def _contains(dimension: Dimension, value: Any) -> bool:  # noqa: ANN401 - as the section declares it
    if isinstance(dimension, ChoiceDimension):
        return any(_is_same(value, point) for point in dimension.choices)
    if isinstance(dimension, FloatDimension) and dimension.points is None:
        return bool(dimension.low <= value <= dimension.high)
    return value in (dimension.points or ())


def _is_same(value: Any, choice: Any) -> bool:  # noqa: ANN401 - as the section declares it
    return bool(value == choice and isinstance(value, bool) is isinstance(choice, bool))  # 1 is True to Python
