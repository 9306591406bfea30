"""Figures of the accuracies and their differences, with intervals."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cotejo.comparison.records import Comparison, Model
from cotejo.comparison.verdict import decide_pair
from cotejo.report.axes import format_numbers
from cotejo.report.figures.intervals import draw_intervals
from cotejo.report.style import GREY, INK, PAPER, build_figure, choose_looks, use_style
from cotejo.report.wording import Wording

#: How far an interval may reach beyond everything else, as a share of that; with two seeds it may be so wide
#: that it would press all else into a dot.
MOST_REACH = 0.6
#: Where the two intervals lie below the dots of the seeds, in rows.
OWN_AT = 0.2
FILES_AT = 0.38


def figure_seeds(comparison: Comparison, *, language: str = "en") -> Figure:
    """Shows each model's accuracy: a dot per seed, the mean, its interval, and that of these very trainings.

    Args:
        comparison: The comparison; its models are shown from above.
        language: en or es.
    """
    with use_style():
        wording = Wording(language)
        models = comparison.models
        figure = build_figure(7.2, 0.72 * len(models) + 1.4)
        ax = figure.subplots()
        low, high = _find_limits(models)
        looks = choose_looks([model.name for model in models])
        for place, model in enumerate(models):
            _draw_model(ax, place, model, looks[model.name]["color"], (low, high))
        ax.set_xlim(low, high)
        ax.set_ylim(len(models) - 0.35, -0.45)
        ax.set_yticks(range(len(models)), [wording.model(model.name) for model in models])
        ax.tick_params(axis="y", length=0)
        ax.grid(visible=False, axis="y")
        ax.spines["left"].set_visible(False)
        format_numbers(ax.xaxis, wording, scale=100, unit=wording.locale["number"]["percent"])
        ax.set_xlabel(wording.locale["figures"]["test_accuracy"])
        figure.legend(
            handles=_build_legend(wording),
            loc="outside upper center",
            ncols=4,
            fontsize=9.5,
            handlelength=1.6,
            columnspacing=1.4,
        )
        return figure


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
            (
                wording.pair(pair.candidate, pair.baseline),
                pair.value,
                pair.low,
                pair.high,
                decide_pair(comparison, pair) is not None,
            )
            for pair in comparison.pairs
        ]
        draw_intervals(ax, rows, None, wording)
        format_numbers(ax.xaxis, wording, scale=100)
        ax.set_xlabel(wording.locale["figures"]["accuracy_difference"])
        return figure


def _find_limits(models: tuple[Model, ...]) -> tuple[float, float]:
    """Returns the ends of the axis: all dots and intervals of these trainings, and of the wider ones a bounded part."""
    lows = [min(model.test_accuracy_files_low, *(seed.test_accuracy for seed in model.seeds)) for model in models]
    highs = [max(model.test_accuracy_files_high, *(seed.test_accuracy for seed in model.seeds)) for model in models]
    low, high = min(lows), max(highs)
    reach = MOST_REACH * (high - low)
    low = max(low - reach, min(low, *(model.test_accuracy_low for model in models)))
    high = min(high + reach, max(high, *(model.test_accuracy_high for model in models)))
    rim = 0.03 * (high - low)
    return low - rim, high + rim


def _draw_model(ax: Axes, place: int, model: Model, colour: str, limits: tuple[float, float]) -> None:
    ax.plot(
        [seed.test_accuracy for seed in model.seeds],
        [place] * len(model.seeds),
        "o",
        color=colour,
        markerfacecolor=PAPER,
        markersize=7,
        markeredgewidth=1.5,
        zorder=3,
    )
    ax.plot([model.test_accuracy] * 2, [place - 0.2, place + FILES_AT + 0.06], color=INK, linewidth=1.4, zorder=4)
    low, high = model.test_accuracy_low, model.test_accuracy_high
    ends = (max(limits[0], low), min(limits[1], high))
    ax.plot(ends, [place + OWN_AT] * 2, color=colour, linewidth=4, solid_capstyle="butt")
    # an arrow where the interval continues beyond the axis
    for end, true_end, marker in ((ends[0], low, "<"), (ends[1], high, ">")):
        if end != true_end:
            ax.plot(end, place + OWN_AT, marker, color=colour, markersize=6, clip_on=False)
    files = (model.test_accuracy_files_low, model.test_accuracy_files_high)
    ax.plot(files, [place + FILES_AT] * 2, color=GREY, linewidth=1.6, marker="|", markersize=6, solid_capstyle="butt")


def _build_legend(wording: Wording) -> list[Line2D]:
    words = wording.locale["figures"]
    looks: list[tuple[str, dict[str, Any]]] = [
        (words["one_seed"], {"marker": "o", "linestyle": "", "markerfacecolor": PAPER, "markersize": 7}),
        (words["mean"], {"marker": "|", "linestyle": "", "color": INK, "markersize": 11, "markeredgewidth": 1.4}),
        (words["own_interval"], {"linewidth": 4, "solid_capstyle": "butt"}),
        (words["files_interval"], {"linewidth": 1.6, "marker": "|", "markersize": 6}),
    ]
    return [Line2D([], [], **{"color": GREY, **look}, label=label) for label, look in looks]
