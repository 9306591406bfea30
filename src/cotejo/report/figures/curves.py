"""Figure of the trainings: curves of training and validation, and where overfitting began."""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Literal

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cotejo.comparison.records import Seed
from cotejo.report.axes import format_axis, format_numbers
from cotejo.report.style import GREY, INK, build_figure, choose_looks, use_style
from cotejo.report.wording import Wording

Metric = Literal["cross_entropy", "accuracy"]


def figure_curves(
    histories: Mapping[str, pd.DataFrame],
    *,
    metric: Metric,
    language: str = "en",
    seeds: Mapping[str, Sequence[Seed]] | None = None,
) -> Figure:
    """Shows how cross-entropy or accuracy went, a panel per model: validation solid, training dashed, a line per seed.

    Args:
        histories: By model the columns seed, epoch (from 1), cross_entropy, accuracy, val_cross_entropy,
            val_accuracy.
        metric: What to show.
        language: en or es.
        seeds: By model its trainings, whose epoch of lowest validation cross-entropy gets a dot, and whose last
            epoch's gap is drawn and said; None marks nothing.
    """
    with use_style():
        wording = Wording(language)
        columns = min(2, len(histories)) or 1
        rows = max(1, math.ceil(len(histories) / 2))
        figure = build_figure(4.1 * columns, 2.7 * rows + 0.2)
        axes = figure.subplots(rows, columns, squeeze=False, sharey=True)
        for ax in axes.flat[len(histories) :]:
            ax.set_axis_off()
        looks = choose_looks(list(histories))
        for ax, (name, history) in zip(axes.flat, histories.items(), strict=False):
            colour = looks[name]["color"]
            draw_curves(ax, history, metric, colour, wording)
            if seeds:
                draw_overfitting(ax, history, seeds[name], colour, wording)
            ax.set_title(wording.model(name))
        for row in axes:
            row[0].set_ylabel(wording.locale["figures"][metric])
            percent = wording.locale["number"]["percent"]
            is_share = metric == "accuracy"
            format_numbers(row[0].yaxis, wording, scale=100 if is_share else 1, unit=percent if is_share else "")
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


def draw_overfitting(ax: Axes, history: pd.DataFrame, seeds: Sequence[Seed], colour: str, wording: Wording) -> None:
    """Marks on curves of cross-entropy the lowest validation point of each seed, and the gap where the curves end."""
    for seed in seeds:
        rows = history[history["seed"] == seed.seed].sort_values("epoch")
        lowest = rows[rows["epoch"] == seed.min_val_epoch]
        ax.plot(
            lowest["epoch"],
            lowest["val_cross_entropy"],
            "o",
            color=colour,
            markersize=7,
            markeredgecolor=INK,
            markeredgewidth=0.8,
            zorder=4,
        )
        last = rows.tail(1)
        ax.vlines(last["epoch"], last["cross_entropy"], last["val_cross_entropy"], color=GREY, linewidth=4, alpha=0.35)
    gap = wording.locale["figures"]["gap"].format(gap=wording.signed(fmean(seed.final_gap for seed in seeds), 2))
    ax.set_title(gap, loc="right", fontsize=10, fontweight="normal", color=GREY)
