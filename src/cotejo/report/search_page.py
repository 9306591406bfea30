"""The page of a search: its winner, whether the gain is real, and its trials."""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import PackageLoader
from markupsafe import Markup
from matplotlib.figure import Figure

from cotejo.report.figures.search import build_search_figures, save_search_figures
from cotejo.report.figures.search_cost import compute_timeline
from cotejo.report.measure import find_measure
from cotejo.report.search_verdict import list_notes, list_warnings, say_luck, say_verdict
from cotejo.report.searched import Searched, load_searched
from cotejo.report.style import render_svg
from cotejo.report.wording import MISSING, Wording, build_environment
from cotejo.schema.searches import Search

#: Rows of the trials' table; more would make the page slow, and stand in `trials.csv`.
MOST_ROWS = 200
STATES = {"COMPLETE": "completed", "PRUNED": "pruned", "FAIL": "failed"}
SAMPLERS = {
    "gp": "a Gaussian process: models the metric, and looks where most is to be gained",
    "tpe": "tree-structured Parzen estimator: looks near what went well so far",
    "random": "chance: each trial on its own",
    "grid": "all combinations of the declared points",
    "cmaes": "CMA-ES: a cloud of trials that moves and shrinks towards the better ones",
    "qmc": "a Sobol sequence, which fills the space evenly",
    "nsga2": "NSGA-II: generations bred for two aims, a better metric and less arithmetic",
}
PRUNERS = {
    "none": "none: every trial ran to its end",
    "median": "stops a trial that is worse than the median of those before it at the same epoch",
    "hyperband": "Hyperband: brackets of successive halving, of which some stop early and some late",
    "successive_halving": "lets the best third go on at the epochs 1, 3, 9, ...",
}


def save_search_report(
    search: Search, reports: Path, timings: Path, facts: Mapping[str, Any], page: Path, folder: Path
) -> None:
    """Writes the page and the figures.

    Args:
        search: The `search` section.
        reports: The folder with the search's tables.
        timings: The file with the trials' times.
        facts: What the page says of its origin: dataset, git_commit and dirty.
        page: The HTML file.
        folder: Gets a `.png` per figure without a clock in it.
    """
    searched = load_searched(search, reports, timings)
    figures = build_search_figures(searched)
    save_search_figures(figures, folder)
    page.write_text(render_search_page(searched, facts, figures), encoding="utf-8")


def render_search_page(searched: Searched, facts: Mapping[str, Any], figures: Mapping[str, Figure]) -> str:
    """Renders the search as one self-contained page: no request leaves it.

    Args:
        searched: The search's tables.
        facts: What the page says of its origin: dataset, git_commit and dirty.
        figures: As `build_search_figures` builds them; one that is missing is left out.
    """
    wording, summary = Wording("en"), searched.summary
    environment = build_environment("en", autoescape=True)
    environment.loader = PackageLoader("cotejo.report")
    measure = find_measure(summary["metric"])
    environment.filters["measure"] = lambda value: measure.say(wording, value)
    environment.filters["short"] = lambda value: say_value(value, wording)
    return environment.get_template("search.html.j2").render(
        summary=summary,
        search=searched.search,
        facts=facts,
        measure=measure.name,
        verdict=say_verdict(summary, wording),
        luck=say_luck(summary, wording),
        warnings=list(list_warnings(summary, wording)),
        notes=list(list_notes(summary, wording)),
        sides=list_sides(searched),
        parameters=list(list_parameters(searched)),
        trials=list(list_trials(searched)),
        captions=describe_figures(searched, wording),
        figures={name: Markup(render_svg(figure, name)) for name, figure in figures.items()},  # noqa: S704 - our own
        timeline=compute_timeline(searched),
        max_epochs=int(searched.trials["epochs_run"].max()),
        samplers=SAMPLERS,
        pruners=PRUNERS,
    )


def list_sides(searched: Searched) -> list[dict[str, Any]]:
    """Lists the score of the declared values and the winner's: with fresh seeds if any, else the search's own."""
    summary = searched.summary
    confirmed = summary["confirmation"]
    sides = []
    for name, side in (("Declared values", "present"), (f"Best found, trial {summary['best']['number']}", "best")):
        scores = confirmed[side] if confirmed else []
        value = sum(scores) / len(scores) if scores else summary[side]["value"]
        sides.append({"name": name, "value": value, "scores": scores})
    return sides


def list_parameters(searched: Searched) -> Iterator[dict[str, Any]]:
    """Lists each dimension with its declared and its best value, the most important first."""
    best, shares = searched.summary["best"]["values"], searched.summary["importances"]
    for key in sorted(searched.search.space, key=lambda key: -shares.get(key, 0.0)):
        present = searched.summary["present"]["values"][key]
        found = best.get(key, present)  # not searched beside the other values of the winner: as declared
        yield {
            "key": key,
            "present": present,
            "best": found,
            "is_changed": found != present,
            "is_searched": key in best,
            "share": shares.get(key),
        }


def list_trials(searched: Searched) -> Iterator[dict[str, Any]]:
    """Lists the best trials, then those that ended early, with the time that each took."""
    measure = find_measure(searched.summary["metric"])
    times = searched.times.set_index("number")
    table = searched.trials.assign(
        is_over=searched.trials["state"] != "COMPLETE",
        worth=searched.trials["value"] * (-1 if measure.is_higher_better else 1),
    )
    for row in table.sort_values(["is_over", "worth", "number"]).head(MOST_ROWS).to_dict("records"):
        number = row["number"]
        yield {
            "number": number,
            "state": STATES[row["state"]],
            "value": None if pd.isna(row["value"]) else row["value"],
            "epochs": row["epochs_run"],
            "giga_operations": row["giga_operations"],
            "time_s": times.loc[number, "ended_s"] - times.loc[number, "began_s"],
            "values": {key: None if pd.isna(row[key]) or row[key] == "" else row[key] for key in searched.search.space},
        }


def say_value(value: Any, wording: Wording) -> str:  # noqa: ANN401 - any parameter
    """Says a parameter's value, of a number with four significant digits."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return MISSING
    if isinstance(value, float):
        text = f"{value:.4g}"
        return text if "e" in text else wording.exact(float(text))
    return value if isinstance(value, str) else json.dumps(value)


def describe_figures(searched: Searched, wording: Wording) -> dict[str, str]:
    """Says what each figure shows, for the caption and for whoever can't see it."""
    summary, measure = searched.summary, find_measure(searched.summary["metric"])
    best = f"trial {summary['best']['number']} with {measure.say(wording, summary['best']['value'])}"
    top = sorted(summary["importances"].items(), key=lambda item: -item[1])[:3]
    important = wording.listing([f"{key} ({wording.percent(share, 0)})" for key, share in top])
    timeline = compute_timeline(searched)
    cut = " Dotted lines: the search had been stopped there." if timeline.breaks else ""
    return {
        "history": f"The {measure.name} of each trial in the order of their numbers; the best is {best}. Marks on the "
        "edge have no value or lie beyond it.",
        "curves": f"The {measure.name} by epoch, a line per trial. A cross marks where the pruner stopped a trial "
        f"({wording.integer(summary['num_by_state']['PRUNED'])} of {wording.integer(summary['num_trials'])}).",
        "importances": f"Which parameters made the difference between the completed trials, most of all {important}.",
        "slices": f"The {measure.name} against each parameter, a mark per trial. Where the best ones stand at an end "
        "of an axis, the space may be too narrow there.",
        "parallel": "A line per completed trial through its parameters to its value on the right: the better, the "
        "darker. Pruned ones are grey.",
        "front": f"The {measure.name} against the arithmetic of the training. Trials on the line are those that no "
        "other trial equals for less.",
        "timeline": f"When each trial ran: up to {timeline.num_lanes} at once, "
        f"{wording.duration(timeline.duration_s)} in all.{cut}",
    }
