"""Figure of one model's calibration, before and after temperature scaling."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from cotejo.report.style import BLUE, GREY, INK, RULE, SKY, VERMILLION, build_figure, use_style

Rows = Sequence[Mapping[str, Any]]

IDEAL: Any = {"color": GREY, "linewidth": 1, "linestyle": (0, (4, 3))}
#: Confidence above accuracy, and below it: hatched too, since which way a gap goes must not hang on a colour.
GAPS = (("too sure", VERMILLION, "////"), ("not sure enough", BLUE, "...."))


def figure_reliability(summary: Mapping[str, Any], title: str) -> Figure:
    """Shows accuracy by confidence before and after temperature scaling, and how many answers each bin holds.

    Args:
        summary: With `reliability`, `reliability_scaled`, `test_ece`, `test_ece_scaled`, `temperature`, `num_seeds`.
        title: Above the left panel.
    """
    panels = (
        (f"{title}: as trained", summary["reliability"], summary["test_ece"]),
        (f"temperature {summary['temperature']:.2f}", summary["reliability_scaled"], summary["test_ece_scaled"]),
    )
    # seeds that are wrong in opposite ways look right together, so the bars can look better than this number
    note = f"\n(mean of {summary['num_seeds']} seeds)" if summary["num_seeds"] > 1 else ""
    with use_style():
        figure = build_figure(7.4, 5.2)
        axes = figure.subplots(2, 2, sharex=True, sharey="row", height_ratios=(3.4, 1))
        for (name, bins, error), ax, below in zip(panels, axes[0], axes[1], strict=True):
            draw_reliability(ax, bins)
            text = f"calibration error {100 * error:.1f} points{note}"
            ax.set_title(name, pad=22 + 12 * text.count("\n"))
            ax.text(0, 1.03, text, transform=ax.transAxes, color=INK)
            draw_counts(below, bins)
            below.set_xlabel("Confidence")
        axes[0, 0].set_ylabel("Right answers")
        axes[1, 0].set_ylabel("Answers")
        handles = [
            Line2D([], [], label="ideal", **IDEAL),
            Patch(label="right", facecolor=SKY),
            *(Patch(label=label, facecolor="none", edgecolor=colour, hatch=hatch) for label, colour, hatch in GAPS),
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
        return figure


def draw_reliability(ax: Axes, bins: Rows) -> None:
    """Draws a bar per bin up to its accuracy, and the gap from there to its mean confidence.

    Args:
        ax: Where to draw.
        bins: Rows of low, high, count, confidence, accuracy.
    """
    ax.plot([0, 1], [0, 1], zorder=3, **IDEAL)
    low = np.array([each["low"] for each in bins])
    width = np.array([each["high"] for each in bins]) - low
    accuracy = np.array([each["accuracy"] for each in bins])
    gap = np.array([each["confidence"] for each in bins]) - accuracy
    ax.bar(low, accuracy, width, align="edge", color=SKY, edgecolor="white", linewidth=0.8)
    for shown, (_, colour, hatch) in zip((gap > 0, gap <= 0), GAPS, strict=True):
        ax.bar(
            low[shown],
            gap[shown],
            width[shown],
            bottom=accuracy[shown],
            align="edge",
            facecolor="none",
            edgecolor=colour,
            hatch=hatch,
            linewidth=1,
        )
    ax.set(xlim=(0, 1), ylim=(0, 1))
    _use_percent(ax.xaxis, ax.yaxis)


def draw_counts(ax: Axes, bins: Rows) -> None:
    """Draws how many answers each bin holds, by powers of ten: a bin of four says little, and has to be seen."""
    counts = [each["count"] for each in bins]
    ax.bar(
        [each["low"] for each in bins],
        counts,
        [each["high"] - each["low"] for each in bins],
        align="edge",
        color=RULE,
        edgecolor=GREY,
        linewidth=0.6,
        log=True,
    )
    # a bar of one answer has a height too; a panel that shares the axis may have a higher one
    ax.set(xlim=(0, 1), ylim=(0.5, max(ax.get_ylim()[1], 3 * max(counts))))
    ax.yaxis.set_major_locator(LogLocator(numticks=4))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda count, _: f"{count:,.0f}"))
    ax.yaxis.set_minor_locator(NullLocator())
    _use_percent(ax.xaxis)


def _use_percent(*axes: Axis) -> None:
    for axis in axes:
        axis.set_major_formatter(FuncFormatter(lambda share, _: f"{round(100 * share, 6):g}%"))
