"""The tables of a search: the values that it compared, and its trials."""

import math
from typing import Any

import pandas as pd

from cotejo.report.layout import Cell, Column, Row, Table
from cotejo.report.measure import find_measure
from cotejo.report.searched import Searched
from cotejo.report.sentences import Sentences
from cotejo.report.wording import MISSING, Wording, write_value
from cotejo.schema.searches import ChoiceDimension

#: Rows of the trials' table; more would make the page slow, and stand in `trials.csv`.
MOST_ROWS = 200


def build_values_table(searched: Searched, sentences: Sentences, wording: Wording) -> Table:
    """Builds the table of each dimension's declared and best value, the most important first."""
    words, summary = wording.locale["search"], searched.summary
    labels, best, shares = words["columns"], summary["best"]["values"], summary["importances"]
    rows = []
    for key in sorted(searched.search.space, key=lambda key: -shares.get(key, 0.0)):
        declared = summary["present"]["values"][key]
        value = best.get(key, declared)  # not searched beside the other values of the winner: as declared
        note = "" if key in best else words["not_searched"]
        cells = (
            Cell(write_short(declared)),
            Cell(write_short(value), note=note, is_clear=value != declared),
            Cell(wording.percent(shares.get(key), 0), shares.get(key)),
        )
        rows.append(Row(key, cells))
    code = {"is_number": False, "is_code": True}
    columns = (
        Column(sentences.render(labels["parameter"], model=summary["model"]), **code),
        Column(labels["declared"], **code),
        Column(labels["best"], **code),
        Column(labels["importance"]),
    )
    return Table(columns, tuple(rows))


def build_trials_table(searched: Searched, sentences: Sentences, wording: Wording) -> Table:
    """Builds the table of the best trials, then of those that ended early, with the time that each took."""
    labels, measure = wording.locale["search"]["columns"], find_measure(searched.summary["metric"])
    times = searched.times.set_index("number")
    trials = searched.trials.assign(
        is_over=searched.trials["state"] != "COMPLETE",
        worth=searched.trials["value"] * (-1 if measure.is_higher_better else 1),
        time_s=searched.trials["number"].map(times["ended_s"] - times["began_s"]),
    )
    best = trials.sort_values(["is_over", "worth", "number"]).head(MOST_ROWS)
    columns = (
        Column(labels["trial"], is_number=False),
        Column(labels["state"], is_number=False),
        Column(measure.get_name(wording).capitalize()),
        Column(wording.locale["columns"]["epochs"]),
        Column(labels["operations"]),
        Column(labels["time"]),
        *(Column(key, not _is_choice(searched, key)) for key in searched.search.space),
    )
    return Table(columns, tuple(_build_trial(row, searched, sentences, wording) for row in best.to_dict("records")))


def _build_trial(row: dict[Any, Any], searched: Searched, sentences: Sentences, wording: Wording) -> Row:
    words, number, measure = wording.locale["search"], row["number"], find_measure(searched.summary["metric"])
    value = None if pd.isna(row["value"]) else row["value"]
    cells = (
        Cell(words["states"][row["state"]]),
        Cell(measure.format(wording, value), value),
        Cell(wording.integer(row["epochs_run"]), row["epochs_run"]),
        Cell(wording.number(row["giga_operations"], 1), row["giga_operations"]),
        Cell(wording.duration(row["time_s"]), row["time_s"]),
        *(_build_cell(row[key], wording, is_choice=_is_choice(searched, key)) for key in searched.search.space),
    )
    head = str(number) if number else sentences.render(words["declared_trial"], number=number)
    return Row(head, cells, is_chosen=number == searched.summary["best"]["number"])


def _build_cell(value: Any, wording: Wording, *, is_choice: bool) -> Cell:  # noqa: ANN401 - any parameter
    value = None if pd.isna(value) or value == "" else value
    return Cell(format_value(value, wording), None if is_choice else value)


def _is_choice(searched: Searched, key: str) -> bool:
    return isinstance(searched.search.space[key], ChoiceDimension)


def write_short(value: Any) -> str:  # noqa: ANN401 - any parameter
    """Writes a parameter as `params.yaml` would, a number with four significant digits."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return MISSING
    return f"{value:.4g}" if isinstance(value, float) else write_value(value)


def format_value(value: Any, wording: Wording) -> str:  # noqa: ANN401
    """Formats a parameter's value as the language writes numbers, with four significant digits."""
    text = write_short(value)
    return wording.exact(float(text)) if isinstance(value, float) and text != MISSING and "e" not in text else text
