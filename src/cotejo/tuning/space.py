"""The search space of `params.yaml`, in Optuna's terms."""

from collections.abc import Mapping
from typing import Any

import optuna

from cotejo.schema import ChoiceDimension, Dimension, IntDimension, SearchKey


def suggest(trial: optuna.Trial, space: Mapping[SearchKey, Dimension]) -> dict[str, Any]:
    """Returns the trial's value for each key of the search space."""
    values: dict[str, Any] = {}
    for key, dimension in space.items():
        if isinstance(dimension, ChoiceDimension):
            values[key] = trial.suggest_categorical(key, dimension.choices)
        elif isinstance(dimension, IntDimension):
            values[key] = trial.suggest_int(key, dimension.low, dimension.high, step=dimension.step)
        else:
            values[key] = trial.suggest_float(key, dimension.low, dimension.high, log=dimension.log)
    return values


def find_starting_point(present: Mapping[str, Any], space: Mapping[SearchKey, Dimension]) -> dict[str, Any]:
    """Returns the present values that the search space contains, for the first trial.

    A search that starts there never ends below where it began; a value outside the space is left to the sampler.
    """
    return {key: present[key] for key, dimension in space.items() if _contains(dimension, present[key])}


def _contains(dimension: Dimension, value: Any) -> bool:  # noqa: ANN401 - as the section declares it
    if isinstance(dimension, ChoiceDimension):
        return value in dimension.choices
    on_step = not isinstance(dimension, IntDimension) or (value - dimension.low) % dimension.step == 0
    return bool(dimension.low <= value <= dimension.high and on_step)
