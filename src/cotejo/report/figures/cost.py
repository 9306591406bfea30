"""Accuracy against what it costs, with the models that no other beats in both."""

import math
import re
from collections.abc import Callable, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from cotejo.comparison.records import Comparison, Model
from cotejo.report.axes import format_axis, format_numbers
from cotejo.report.figures.intervals import draw_model_legend
from cotejo.report.style import GREY, PAPER, build_figure, choose_looks, use_style
from cotejo.report.wording import Wording

#: Times from one second on that a log axis is marked at: the marks of a clock, not of a power of ten.
CLOCK_MARKS = (1, 3, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 43200, 86400, 172800)
MOST_MARKS = 3
ZEROS = re.compile(r"[.,]0+(?=\D)")


def figure_cost(comparison: Comparison, *, language: str = "en") -> Figure:
    """Shows test accuracy with its interval against every cost, a panel each, and the Pareto front as a line.

    Models on the front are filled. A cost that isn't known of every model has no panel.

    Args:
        comparison: The comparison.
        language: en or es.
    """
    with use_style():
        wording = Wording(language)
        models = comparison.models
        costs = [cost for cost in comparison.fronts if all(getattr(model, cost) is not None for model in models)]
        columns = min(3, len(costs))
        rows = math.ceil(len(costs) / columns)
        figure = build_figure(2.8 * columns, 2.55 * rows + 0.5)
        axes = figure.subplots(rows, columns, squeeze=False, sharey=True)
        for ax in axes.flat[len(costs) :]:
            ax.set_axis_off()
        for ax, cost in zip(axes.flat, costs, strict=False):
            draw_cost(ax, models, cost, comparison.fronts[cost])
            scale_costs(ax, [float(getattr(model, cost)) for model in models], cost, wording)
            ax.set_title(wording.locale["costs"][cost])
        for ax in axes[:, 0]:
            format_numbers(ax.yaxis, wording, scale=100, unit=wording.locale["number"]["percent"])
            ax.set_ylabel(wording.locale["figures"]["test_accuracy"])
        draw_model_legend(figure, models, wording)
        return figure


def draw_cost(ax: Axes, models: Sequence[Model], cost: str, front: Sequence[str]) -> None:
    """Draws the front as a staircase, from cheap to accurate, and every model with its interval."""
    corners = sorted((getattr(model, cost), model.test_accuracy) for model in models if model.name in front)
    ax.plot(*zip(*corners, strict=True), color=GREY, linewidth=1.2, drawstyle="steps-post", zorder=1)
    looks = choose_looks([model.name for model in models])
    for model in models:
        look = looks[model.name]
        ax.plot(
            [getattr(model, cost)] * 2,
            [model.test_accuracy_low, model.test_accuracy_high],
            color=look["color"],
            linewidth=1.8,
        )
        ax.plot(
            getattr(model, cost),
            model.test_accuracy,
            **look,
            markersize=8.5,
            markerfacecolor=look["color"] if model.name in front else PAPER,
            markeredgewidth=1.6,
        )


def scale_costs(ax: Axes, costs: Sequence[float], cost: str, wording: Wording) -> None:
    """Sets a logarithmic scale with a few round marks, in the unit of the cost."""
    is_time = cost.endswith("_s")
    low, high = min(costs) / 1.7, max(costs) * 1.7
    ax.set_xscale("log")
    ax.set_xlim(low, high)
    ax.set_xticks(choose_marks(low, high, is_time=is_time) or [costs[0]])
    ax.xaxis.set_minor_locator(NullLocator())
    say: Callable[[float], str] = wording.compact
    if is_time:
        say = wording.duration
    elif cost.endswith("_bytes"):
        say = wording.size
    # round marks need no decimals
    format_axis(ax.xaxis, lambda value: ZEROS.sub("", say(value)))


def choose_marks(low: float, high: float, *, is_time: bool) -> list[float]:
    """Chooses at most `MOST_MARKS` round marks between two values of a logarithmic axis."""
    powers = [10.0**power for power in range(-7, 16)]
    kinds = [[scale * power for power in powers for scale in scales] for scales in ((1, 2, 5), (1, 3), (1,))]
    if is_time:
        kinds = [[mark for mark in kind if mark < 1] + list(CLOCK_MARKS) for kind in kinds]
    marks = next((kind for kind in kinds if sum(low <= mark <= high for mark in kind) <= MOST_MARKS), kinds[-1])
    shown = [mark for mark in marks if low <= mark <= high]
    return shown[:: math.ceil(len(shown) / MOST_MARKS)] if shown else []
