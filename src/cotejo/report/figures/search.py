"""Figures of a search: `compute_x` returns all numbers of a figure, `draw_x` only draws them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cotejo.report.axes import format_axis
from cotejo.report.figures.search_cost import figure_front, figure_timeline
from cotejo.report.figures.search_space import figure_parallel, figure_slices
from cotejo.report.figures.trials import (
    BEST,
    LOOKS,
    MOST_SHAPES,
    PRESENT,
    compute_window,
    draw_marks,
    find_rows,
    format_measure,
    place_values,
    put_legend,
)
from cotejo.report.measure import find_measure
from cotejo.report.searched import Floats, Searched
from cotejo.report.style import BLUE, INK, ORANGE, build_figure, cut_label, save_figure, use_style
from cotejo.report.wording import Wording

#: Figures that show what a clock measured: they are in the page alone, since files are the same on every run.
TIMED = {"timeline"}


class HistoryInfo(NamedTuple):
    """Trials in their order.

    Attributes:
        trials: By state the numbers and values, the latter within the window.
        best: The numbers at which the best value changes, and the values; ends at the last trial.
        window: The values that are shown.
    """

    trials: Mapping[str, tuple[Floats, Floats]]
    best: tuple[Floats, Floats]
    window: tuple[float, float]


class CurvesInfo(NamedTuple):
    """The metric by epoch.

    Attributes:
        completed: A curve per trial that ended, an array of shape (epochs, 2) with epoch and value.
        pruned: Those of the trials that were stopped.
        stops: The last points of the pruned ones, of shape (trials, 2), within the window.
        best: The best trial's curve.
        present: That of the declared values.
        window: The values that are shown.
        last_epoch: The longest curve's.
    """

    completed: list[Floats]
    pruned: list[Floats]
    stops: Floats
    best: Floats
    present: Floats
    window: tuple[float, float]
    last_epoch: int


def build_search_figures(searched: Searched, language: str) -> dict[str, Figure]:
    """Builds the figures of a search by name: history, curves, importances, slices, parallel, front, timeline.

    Args:
        searched: Its tables.
        language: en or es.

    Returns:
        Those that have something to show: importances need trials that differ, a front needs two aims.
    """
    with use_style():
        wording = Wording(language)
        figures = {"history": figure_history(searched, wording), "curves": figure_curves(searched, wording)}
        if searched.summary["importances"]:
            figures["importances"] = figure_importances(searched.summary["importances"], wording)
        figures |= {"slices": figure_slices(searched, wording), "parallel": figure_parallel(searched, wording)}
        if "on_front" in searched.trials:
            figures["front"] = figure_front(searched, wording)
        return {**figures, "timeline": figure_timeline(searched, wording)}


def save_search_figures(figures: Mapping[str, Figure], folder: Path) -> None:
    """Writes a `.png` per figure, except for those that show what a clock measured."""
    for name, figure in figures.items():
        if name not in TIMED:
            save_figure(figure, folder / f"{name}.png")


def compute_history(searched: Searched) -> HistoryInfo:
    """Computes the figure of the trials in their order."""
    trials, measure = searched.trials.sort_values("number"), find_measure(searched.search.metric)
    completed = trials[trials["state"] == "COMPLETE"]
    window = compute_window(trials["value"].dropna().to_numpy(np.float64), measure)
    best = completed["value"].cummax() if measure.is_higher_better else completed["value"].cummin()
    changes = best.diff().fillna(1.0) != 0
    numbers = np.append(completed["number"][changes], trials["number"].iloc[-1:])
    values = np.append(best[changes], best.iloc[-1:])
    by_state = {
        look.state: (
            rows["number"].to_numpy(np.float64),
            place_values(rows["value"].to_numpy(np.float64), window, measure),
        )
        for look in LOOKS
        for rows in [trials[trials["state"] == look.state]]
    }
    return HistoryInfo(by_state, (numbers[: len(values)].astype(np.float64), values), window)


def figure_history(searched: Searched, wording: Wording) -> Figure:
    """Draws the trials in their order and the best so far; pruned and failed ones have marks of their own."""
    with use_style():
        figure, ax = _build_frame(searched, "trial", 8, wording)
        draw_history(ax, compute_history(searched), wording)
        return figure


def draw_history(ax: Axes, info: HistoryInfo, wording: Wording) -> None:
    """Draws a mark per trial, and the best so far as steps."""
    count = sum(len(numbers) for numbers, _ in info.trials.values())
    for look in LOOKS:
        draw_marks(ax, look, *info.trials[look.state], count=count, word=look.get_word(wording))
    numbers, values = info.best
    word = wording.locale["search"]["figures"]["best_so_far"]
    ax.step(numbers, values, where="post", color=INK, linewidth=1.6, label=word, zorder=4)
    ax.set_ylim(*info.window)
    put_legend(ax, 4)


def compute_curves(searched: Searched) -> CurvesInfo:
    """Computes the figure of the metric by epoch."""
    measure = find_measure(searched.search.metric)
    # by array, not by group: ten thousand groups take seconds
    table = searched.curves.sort_values(["number", "epoch"]).dropna()
    numbers = table["number"].to_numpy()
    points = table[["epoch", "value"]].to_numpy(np.float64)
    cuts = np.flatnonzero(np.diff(numbers)) + 1
    curves = dict(zip(np.unique(numbers).tolist(), np.split(points, cuts), strict=False)) if len(points) else {}
    states = dict(zip(searched.trials["number"], searched.trials["state"], strict=True))
    completed, pruned = (
        [curve for number, curve in curves.items() if states[number] == state] for state in ("COMPLETE", "PRUNED")
    )
    nothing = np.empty((0, 2))
    best, present = (curves.get(number, nothing) for number in find_rows(searched))
    tops = np.array([curve[:, 1].max() if measure.is_higher_better else curve[:, 1].min() for curve in curves.values()])
    window = compute_window(tops, measure)
    stops = np.array([curve[-1] for curve in pruned]) if pruned else nothing
    stops[:, 1] = place_values(stops[:, 1], window, measure)
    last_epoch = int(points[:, 0].max()) if len(points) else 1
    return CurvesInfo(completed, pruned, stops, best, present, window, last_epoch)


def figure_curves(searched: Searched, wording: Wording) -> Figure:
    """Draws the metric of each trial by epoch; a pruned one ends in a cross where it was stopped."""
    with use_style():
        figure, ax = _build_frame(searched, "epoch", 10, wording)
        draw_curves(ax, compute_curves(searched), wording)
        return figure


def _build_frame(searched: Searched, key: str, most_ticks: int, wording: Wording) -> tuple[Figure, Axes]:
    """Returns a figure of the metric over whole numbers, and its axes, on which nothing is drawn yet."""
    words = wording.locale["figures"] | wording.locale["search"]["figures"]
    figure = build_figure(7.2, 3.8)
    ax = figure.subplots()
    ax.set_xlabel(words[key])
    measure = find_measure(searched.search.metric)
    ax.set_ylabel(measure.get_name(wording).capitalize())
    ax.xaxis.set_major_locator(MaxNLocator(most_ticks, integer=True, min_n_ticks=1))
    format_axis(ax.xaxis, wording.integer)
    format_measure(ax.yaxis, measure, wording)
    return figure, ax


def draw_curves(ax: Axes, info: CurvesInfo, wording: Wording) -> None:
    """Draws a thin line per trial; the best one and the declared values are thick."""
    words = wording.locale["search"]["figures"]
    count = len(info.completed) + len(info.pruned)
    alpha = 0.6 if count <= 100 else 0.25 if count <= 1000 else 0.06
    for curves, colour, word in ((info.completed, BLUE, words["states"]["COMPLETE"]), (info.pruned, ORANGE, None)):
        look: Any = {"colors": colour, "linewidths": 1.0, "alpha": alpha, "rasterized": count > MOST_SHAPES}
        ax.add_collection(LineCollection(curves, **look))
        if curves and word:
            ax.plot([], [], color=colour, linewidth=1.4, label=word)
    pruned = next(look for look in LOOKS if look.state == "PRUNED")
    draw_marks(ax, pruned, *info.stops.T, count=2 * count, word=words["pruned_here"])
    if len(info.present):
        ax.plot(*info.present.T, "--", color=INK, linewidth=1.8, label=words["declared"], zorder=4)
        ax.plot(*info.present[-1:].T, **PRESENT)
    if len(info.best) and not np.array_equal(info.best, info.present):
        ax.plot(*info.best.T, "-", color=INK, linewidth=1.8, label=words["best"], zorder=4)
        ax.plot(*info.best[-1:].T, **BEST)
    ax.set_xlim(1 - 0.02 * info.last_epoch, info.last_epoch + 0.03 * info.last_epoch)
    ax.set_ylim(*info.window)
    put_legend(ax, 4)


def figure_importances(importances: Mapping[str, float], wording: Wording) -> Figure:
    """Draws how much each searched parameter mattered, the most important above.

    Args:
        importances: Shares by parameter; they sum to 1.
        wording: The language.
    """
    with use_style():
        figure = build_figure(7.2, 0.42 * len(importances) + 0.9)
        ax = figure.subplots()
        names = sorted(importances, key=lambda name: (-importances[name], name))
        values = [importances[name] for name in names]
        ax.barh(range(len(names)), values, color=BLUE, height=0.62)
        for place, value in enumerate(values):
            ax.text(value, place, f" {wording.percent(value, 0)}", va="center")
        ax.set_yticks(range(len(names)), [cut_label(name, 28) for name in names])
        ax.set_ylim(len(names) - 0.4, -0.6)
        ax.set_xlim(0, 1.12 * max(values, default=1.0) or 1.0)
        ax.grid(visible=False, axis="y")
        ax.tick_params(axis="y", length=0)
        ax.set_xlabel(wording.locale["search"]["figures"]["share"])
        format_axis(ax.xaxis, lambda value: wording.percent(value, 0))
        return figure
