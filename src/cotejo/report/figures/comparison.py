"""The figures of the report: `draw_x(ax, ...)` draws, `figure_x(...)` composes.

Words and number formats follow `language`; what colour says, a shape,
a line style or a word says too.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator
from numpy.typing import NDArray

from cotejo.comparison.records import ClassDifference, Comparison, Model
from cotejo.comparison.verdict import decide_pair
from cotejo.report.axes import format_axis, format_numbers
from cotejo.report.figures.confusion import draw_confusion
from cotejo.report.style import (
    BLUE,
    GREY,
    INK,
    MODEL_COLOURS,
    MODEL_MARKERS,
    build_figure,
    cut_label,
    use_style,
)
from cotejo.report.wording import Wording

#: Training times that a log axis is marked at, in seconds: the marks of a clock, not of a power of ten.
CLOCK_MARKS = (0.1, 1, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400)

Ints = NDArray[np.integer[Any]]
Metric = Literal["cross_entropy", "accuracy"]


def build_report_figures(
    comparison: Comparison, histories: Mapping[str, pd.DataFrame], language: str
) -> dict[str, Figure]:
    """Builds the report's figures by name: accuracy, loss, confusions, f1, pairs, cost.

    Args:
        comparison: The comparison.
        histories: By model the columns seed, epoch (from 1), cross_entropy, accuracy, val_cross_entropy,
            val_accuracy.
        language: en or es.
    """
    wording = Wording(language)
    panels = [(wording.model(model.name), np.array(model.counts), model.class_names) for model in comparison.models]
    known = {model.name: histories[model.name] for model in comparison.models if model.name in histories}
    return {
        "accuracy": figure_curves(known, metric="accuracy", language=language),
        "loss": figure_curves(known, metric="cross_entropy", language=language),
        "confusions": figure_confusions(panels, language=language),
        "f1": figure_f1_differences(
            comparison.differences, comparison.baseline, comparison.candidate, language=language
        ),
        "pairs": figure_pairs(comparison, language=language),
        "cost": figure_cost(comparison.models, language=language),
    }


def figure_confusions(panels: Sequence[tuple[str, Ints, Sequence[str]]], *, language: str = "en") -> Figure:
    """Shows confusion matrices side by side, each as percent of the true class.

    Args:
        panels: Title, counts (rows true, columns predicted) and class names of each.
        language: en or es.
    """
    with use_style():
        words = Wording(language).locale["figures"]
        labels = (words["predicted_class"], words["true_class"])
        columns = min(2, len(panels))
        rows = math.ceil(len(panels) / 2)
        figure = build_figure(4.4 * columns, 4.5 * rows)
        axes = figure.subplots(rows, columns, squeeze=False)
        for ax in axes.flat[len(panels) :]:
            ax.set_axis_off()
        for index, (title, counts, class_names) in enumerate(panels):
            ax = axes.flat[index]
            draw_confusion(ax, counts, class_names, normalized=True, fontsize=7.5, labels=labels)
            ax.set_title(title)
            # names once per row and column of panels: all share the classes
            if index % 2:
                ax.set_ylabel("")
                ax.set_yticklabels([])
            if index + columns < len(panels):
                ax.set_xlabel("")
                ax.set_xticklabels([])
        return figure


def figure_curves(histories: Mapping[str, pd.DataFrame], *, metric: Metric, language: str = "en") -> Figure:
    """Shows how cross-entropy or accuracy went, a panel per model: validation solid, training dashed, a line per seed.

    Args:
        histories: By model the columns seed, epoch (from 1), cross_entropy, accuracy, val_cross_entropy,
            val_accuracy.
        metric: What to show.
        language: en or es.
    """
    with use_style():
        wording = Wording(language)
        columns = min(2, len(histories)) or 1
        rows = max(1, math.ceil(len(histories) / 2))
        figure = build_figure(4.1 * columns, 2.7 * rows + 0.2)
        axes = figure.subplots(rows, columns, squeeze=False, sharey=True)
        for ax in axes.flat[len(histories) :]:
            ax.set_axis_off()
        for ax, (name, history) in zip(axes.flat, histories.items(), strict=False):
            draw_curves(ax, history, metric, MODEL_COLOURS.get(name, BLUE), wording)
            ax.set_title(wording.locale["models"].get(name, name))
        for row in axes:
            row[0].set_ylabel(wording.locale["figures"][metric])
            format_numbers(row[0].yaxis, wording)
        return figure


def draw_curves(ax: Axes, history: pd.DataFrame, metric: Metric, colour: str, wording: Wording) -> None:
    """Draws a line per seed for training (dashed) and validation (solid), and says which is which."""
    words = wording.locale["figures"]
    for number, (_, rows) in enumerate(history.sort_values(["seed", "epoch"]).groupby("seed")):
        # a single epoch has no line, so it gets a dot
        marker = "o" if len(rows) == 1 else ""
        labels = (words["training"], words["validation"]) if number == 0 else (None, None)
        ax.plot(rows["epoch"], rows[metric], "--", color=GREY, linewidth=1.1, marker=marker, label=labels[0])
        ax.plot(rows["epoch"], rows[f"val_{metric}"], "-", color=colour, linewidth=1.5, marker=marker, label=labels[1])
    ax.set_xlabel(words["epoch"])
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    format_axis(ax.xaxis, lambda value: wording.number(value, 0))
    if len(history):
        ax.legend(loc="upper right" if metric == "cross_entropy" else "lower right", fontsize=9.5)


def figure_f1_differences(
    differences: Sequence[ClassDifference], baseline: str, candidate: str, *, language: str = "en"
) -> Figure:
    """Shows the difference in F1 of every class with its interval; dots are filled where the interval excludes 0.

    Args:
        differences: In the order to show, from above.
        baseline: The model that is subtracted.
        candidate: The model that it is subtracted from.
        language: en or es.
    """
    with use_style():
        wording = Wording(language)
        figure = build_figure(7.2, 0.34 * len(differences) + 1.3)
        ax = figure.subplots()
        rows = [(cut_label(row.class_name, 24), row.value, row.low, row.high, row.is_clear) for row in differences]
        draw_intervals(ax, rows, (baseline, candidate), wording)
        format_numbers(ax.xaxis, wording)
        ax.set_xlabel(wording.locale["figures"]["f1_difference"])
        return figure


def draw_intervals(
    ax: Axes, rows: Sequence[tuple[str, float, float, float, bool]], sides: tuple[str, str] | None, wording: Wording
) -> None:
    """Draws a row per difference: name, value, low, high, and whether it is clear.

    Args:
        ax: The axes.
        rows: From above.
        sides: The models that lie left and right of 0.
        wording: The language.
    """
    for place, (_, value, low, high, is_clear) in enumerate(rows):
        colour = GREY if not is_clear or sides is None else MODEL_COLOURS[sides[value > 0]]
        if sides is None and is_clear:
            colour = BLUE
        ax.plot([low, high], [place, place], color=colour, linewidth=2, solid_capstyle="butt")
        ax.plot(value, place, "o", color=colour, markerfacecolor=colour if is_clear else "white", markersize=7)
    ax.axvline(0, color=INK, linewidth=1)
    ax.set_yticks(range(len(rows)), [row[0] for row in rows])
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    ax.grid(visible=False, axis="y")
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    if sides:
        draw_sides(ax, sides, wording)


def draw_sides(ax: Axes, sides: tuple[str, str], wording: Wording) -> None:
    """Says above the axes which model each side of 0 speaks for."""
    for name, x, align, text in ((sides[0], 0.0, "left", "← {}"), (sides[1], 1.0, "right", "{} →")):
        phrase = wording.locale["figures"]["better"].replace("{{ model | model }}", wording.model(name))
        ax.text(x, 1.02, text.format(phrase), transform=ax.transAxes, ha=align, va="bottom",
                color=GREY, fontsize=10)  # fmt: skip


def figure_pairs(comparison: Comparison, *, language: str = "en") -> Figure:
    """Shows the difference in test accuracy of every pair, first model minus second, with its interval.

    Dots are filled where the pair is decided, which takes more than an interval without 0: see `decide_pair`.

    Args:
        comparison: The comparison; its pairs are shown from above.
        language: en or es.
    """
    with use_style():
        wording = Wording(language)
        figure = build_figure(7.2, 0.38 * len(comparison.pairs) + 1.0)
        ax = figure.subplots()
        rows = [
            (f"{wording.model(pair.candidate)} – {wording.model(pair.baseline)}", pair.value, pair.low, pair.high,
             decide_pair(comparison, pair) is not None)
            for pair in comparison.pairs
        ]  # fmt: skip
        draw_intervals(ax, rows, None, wording)
        format_numbers(ax.xaxis, wording, scale=100)
        ax.set_xlabel(wording.locale["figures"]["accuracy_difference"])
        return figure


def figure_cost(models: Sequence[Model], *, language: str = "en") -> Figure:
    """Shows test accuracy with its interval against training time, or parameters where a time is missing.

    Args:
        models: The models.
        language: en or es.
    """
    with use_style():
        wording = Wording(language)
        figure = build_figure(7.2, 4.0)
        ax = figure.subplots()
        is_timed = all(model.train_time_s is not None for model in models)
        costs = [model.train_time_s or 0.0 if is_timed else float(model.parameters) for model in models]
        for model, cost in zip(models, costs, strict=True):
            draw_cost(ax, model, cost, wording)
        ax.set_xscale("log")
        ax.set_xlim(min(costs) / 1.6, max(costs) * 2.2)
        if is_timed:
            marks = [mark for mark in CLOCK_MARKS if min(costs) / 1.6 <= mark <= max(costs) * 2.2]
            ax.set_xticks(marks or [min(costs)])
            ax.xaxis.set_minor_locator(NullLocator())
        format_axis(ax.xaxis, wording.duration if is_timed else wording.integer)
        format_numbers(ax.yaxis, wording, scale=100, unit=wording.locale["number"]["percent"])
        ax.set_xlabel(wording.locale["figures"]["train_time" if is_timed else "parameters"])
        ax.set_ylabel(wording.locale["figures"]["test_accuracy"])
        return figure


def draw_cost(ax: Axes, model: Model, cost: float, wording: Wording) -> None:
    """Draws one model as a named dot with its interval."""
    colour = MODEL_COLOURS[model.name]
    ax.plot([cost, cost], [model.test_accuracy_low, model.test_accuracy_high], color=colour, linewidth=2)
    ax.plot(cost, model.test_accuracy, MODEL_MARKERS[model.name], color=colour, markersize=9)
    ax.annotate(wording.model(model.name), (cost, model.test_accuracy), xytext=(10, 0), textcoords="offset points",
                va="center", color=INK)  # fmt: skip
