"""Loads what a search has written, for its figures and its page."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cotejo.schema.searches import ChoiceDimension, Dimension, Search

Floats = NDArray[np.float64]


class Searched(NamedTuple):
    """A search's tables.

    Attributes:
        search: The `search` section.
        trials: `trials.csv`; the columns of choices are text, empty where a trial didn't search them.
        curves: `curves.csv`.
        summary: `summary.json`.
        times: A row per trial with the columns number, state, began_s and ended_s.
    """

    search: Search
    trials: pd.DataFrame
    curves: pd.DataFrame
    summary: Mapping[str, Any]
    times: pd.DataFrame


class Scale(NamedTuple):
    """A dimension as an axis shows it.

    Attributes:
        key: The parameter.
        places: The place of each trial's value along the axis; NaN for one that has none.
        labels: The choices, at the places 0, 1, ...; None for numbers, whose place is their value.
        is_log: Whether the axis is logarithmic.
        low: The lowest place.
        high: The highest.
    """

    key: str
    places: Floats
    labels: list[str] | None
    is_log: bool
    low: float
    high: float


def load_searched(search: Search, reports: Path, timings: Path) -> Searched:
    """Reads what `save_search` and `save_times` have written.

    Args:
        search: The `search` section.
        reports: The folder with `trials.csv`, `curves.csv` and `summary.json`.
        timings: The file with the trials' times.
    """
    choices = {key: str for key, dimension in search.space.items() if isinstance(dimension, ChoiceDimension)}
    # a choice may be named None or NA
    numbers = {"value", *search.space} - set(choices)
    trials = pd.read_csv(
        reports / "trials.csv", dtype=choices, keep_default_na=False, na_values=dict.fromkeys(numbers, "")
    )
    return Searched(
        search,
        trials,
        pd.read_csv(reports / "curves.csv"),
        json.loads((reports / "summary.json").read_text(encoding="utf-8")),
        pd.DataFrame(json.loads(timings.read_text(encoding="utf-8"))["trials"]),
    )


def compute_scales(searched: Searched) -> list[Scale]:
    """Returns the axis of each dimension, the most important first."""
    shares = searched.summary["importances"]
    keys = sorted(searched.search.space, key=lambda key: -shares.get(key, 0.0))
    return [_compute_scale(searched.trials[key], key, searched.search.space[key]) for key in keys]


def _compute_scale(column: pd.Series, key: str, dimension: Dimension) -> Scale:
    if isinstance(dimension, ChoiceDimension):
        return _scale_choices(column, key, dimension)
    places = column.to_numpy(np.float64)
    if dimension.log:
        places = np.where(places > 0, places, np.nan)  # a present 0 has no place on a log axis
    known = places[np.isfinite(places)].tolist()
    low, high = min([dimension.low, *known]), max([dimension.high, *known])
    return Scale(key, places, None, dimension.log, float(low), float(high))


def _scale_choices(column: pd.Series, key: str, dimension: ChoiceDimension) -> Scale:
    labels = [str(choice) for choice in dimension.choices]
    places: list[float] = []
    for text in column:
        place = find_choice(text, dimension.choices)
        if place is None and text:
            # the declared value may be none of the choices; it stands after them
            labels += [] if text in labels else [text]
            place = labels.index(text)
        places.append(math.nan if place is None else place)
    return Scale(key, np.array(places), labels, is_log=False, low=0.0, high=len(labels) - 1.0)


def find_choice(text: str, choices: Sequence[Any]) -> int | None:
    """Returns the place of a choice by what a table says of it: beside empty cells, 64 is written as 64.0."""
    for place, choice in enumerate(choices):
        if text == str(choice):
            return place
    for place, choice in enumerate(choices):
        if not isinstance(choice, bool | str) and text.removesuffix(".0") == str(choice):
            return place
    return None
