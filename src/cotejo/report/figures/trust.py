"""How far a model's confidence can be trusted: reliability before and after scaling, risk by coverage."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from cotejo.report.style import (
    BLUE,
    GREY,
    INK,
    MODEL_COLOURS,
    MODEL_MARKERS,
    RULE,
    SKY,
    VERMILLION,
    build_figure,
    use_style,
)

Rows = Sequence[Mapping[str, Any]]


def figure_reliability(summary: Mapping[str, Any], title: str) -> Figure:
    """Shows accuracy by confidence before and after temperature scaling, and how many answers each bin holds.

    Args:
        summary: With `reliability`, `reliability_scaled`, `test_ece`, `test_ece_scaled` and `temperature`.
        title: Above the left panel.
    """
    panels = (
        (f"{title}: as trained", summary["reliability"], summary["test_ece"]),
        (f"temperature {summary['temperature']:.2f}", summary["reliability_scaled"], summary["test_ece_scaled"]),
    )
    with use_style():
        figure = build_figure(7.4, 4.9)
        axes = figure.subplots(2, 2, sharex=True, sharey="row", height_ratios=(3.4, 1))
        for (name, bins, error), ax, below in zip(panels, axes[0], axes[1], strict=True):
            draw_reliability(ax, bins)
            ax.set_title(name)
            ax.text(0.04, 0.95, f"calibration error {100 * error:.1f}", transform=ax.transAxes, va="top", color=INK)
            draw_counts(below, bins)
            below.set_xlabel("Confidence")
        axes[0, 0].set_ylabel("Right answers")
        axes[1, 0].set_ylabel("Answers")
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
        return figure


def draw_reliability(ax: Axes, bins: Rows) -> None:
    """Draws a bar per bin up to its accuracy, and the gap from there to its mean confidence.

    Args:
        ax: Where to draw.
        bins: Rows of low, high, count, confidence, accuracy.
    """
    ax.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=(0, (4, 3)), label="ideal", zorder=3)
    low = [each["low"] for each in bins]
    width = [each["high"] - each["low"] for each in bins]
    accuracy = [each["accuracy"] for each in bins]
    gap = [each["confidence"] - each["accuracy"] for each in bins]
    ax.bar(low, accuracy, width, align="edge", color=SKY, edgecolor="white", linewidth=0.8, label="right")
    # hatched as well as coloured: which way the gap goes must not hang on a colour
    for is_shown, colour, hatch, label in (
        ([value > 0 for value in gap], VERMILLION, "////", "too sure"),
        ([value <= 0 for value in gap], BLUE, "....", "not sure enough"),
    ):
        chosen = [index for index, shown in enumerate(is_shown) if shown]
        ax.bar(
            [low[index] for index in chosen], [gap[index] for index in chosen], [width[index] for index in chosen],
            bottom=[accuracy[index] for index in chosen], align="edge", facecolor="none", edgecolor=colour,
            hatch=hatch, linewidth=1, label=label,
        )  # fmt: skip
    ax.set(xlim=(0, 1), ylim=(0, 1))
    _use_percent(ax)


def draw_counts(ax: Axes, bins: Rows) -> None:
    """Draws how many answers each bin holds, as a share of all of them."""
    total = sum(each["count"] for each in bins)
    ax.bar(
        [each["low"] for each in bins], [each["count"] / total for each in bins],
        [each["high"] - each["low"] for each in bins], align="edge", color=RULE, edgecolor=GREY, linewidth=0.6,
    )  # fmt: skip
    ax.set(xlim=(0, 1), ylim=(0, 1))
    _use_percent(ax)


def figure_risk_coverage(curves: Mapping[str, Rows]) -> Figure:
    """Shows how often each model errs if it answers only the images that it is surest of.

    Args:
        curves: By model, rows of coverage and risk.
    """
    with use_style():
        figure = build_figure(6.4, 4.2)
        ax = figure.subplots()
        for name, points in curves.items():
            draw_risk_coverage(ax, name, points)
        ax.set(xlim=(0, 1.02), xlabel="Images answered, the surest first", ylabel="Wrong answers among them")
        ax.set_ylim(bottom=0)
        _use_percent(ax)
        ax.legend(loc="upper left")
        return figure


def draw_risk_coverage(ax: Axes, name: str, points: Rows) -> None:
    """Draws one model's risk by coverage in its colour and marker."""
    ax.plot(
        [point["coverage"] for point in points], [point["risk"] for point in points], label=name,
        color=MODEL_COLOURS.get(name), marker=MODEL_MARKERS.get(name), markersize=5, markevery=2, linewidth=1.8,
    )  # fmt: skip


def _use_percent(ax: Axes) -> None:
    ax.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=None))
