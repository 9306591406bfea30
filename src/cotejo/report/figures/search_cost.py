"""Figures of a search's costs: the front of accuracy against arithmetic, and the time of each trial."""

from collections.abc import Mapping
from heapq import heappop, heappush
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cotejo.report.axes import format_axis, format_numbers
from cotejo.report.figures.trials import (
    LOOKS,
    MOST_SHAPES,
    PRESENT,
    compute_window,
    format_measure,
    place_values,
    put_legend,
    style_marks,
)
from cotejo.report.measure import find_measure
from cotejo.report.searched import Floats, Searched
from cotejo.report.style import GREY, INK, build_figure, use_style
from cotejo.report.wording import Wording

#: A break in which no trial ran is drawn no wider than this share of the rest.
BREAK_SHARE = 0.03
#: Shorter breaks, in seconds, are those between two batches.
SHORTEST_BREAK_S = 30.0


class FrontInfo(NamedTuple):
    """Completed trials by cost and value.

    Attributes:
        others: Cost in giga-operations and value of those that another trial beats, of shape (trials, 2).
        front: Those that none beats, the cheapest first.
        present: That of the declared values, of shape (0 or 1, 2).
        window: The values that are shown.
    """

    others: Floats
    front: Floats
    present: Floats
    window: tuple[float, float]


class TimelineInfo(NamedTuple):
    """When each trial ran.

    Attributes:
        bars: By state the trials' beginning, end and lane, of shape (trials, 3).
        num_lanes: The most trials that ran at once.
        breaks: Where the search stood still, cut out of the axis.
        duration_s: The time from the first beginning to the last end, without the breaks.
    """

    bars: Mapping[str, Floats]
    num_lanes: int
    breaks: list[float]
    duration_s: float


def compute_front(searched: Searched) -> FrontInfo:
    """Computes the figure of a search with two aims."""
    measure, trials = find_measure(searched.search.metric), searched.trials
    completed = trials[trials["state"] == "COMPLETE"].sort_values("giga_operations")
    values = completed["value"].to_numpy(np.float64)
    on_front = completed["on_front"].astype(str).to_numpy() == "True"
    low, high = compute_window(values, measure)
    window = min(low, *values[on_front]), max(high, *values[on_front])
    points = np.column_stack([completed["giga_operations"], place_values(values, window, measure)]).astype(np.float64)
    return FrontInfo(points[~on_front], points[on_front], points[completed["number"].to_numpy() == 0], window)


def figure_front(searched: Searched, wording: Wording) -> Figure:
    """Draws the metric against arithmetic; those that no other trial beats in both are joined by a line."""
    with use_style():
        measure = find_measure(searched.search.metric)
        figure = build_figure(7.2, 3.8)
        ax = figure.subplots()
        draw_front(ax, compute_front(searched), wording)
        ax.set_xlabel(wording.locale["search"]["figures"]["operations"])
        ax.set_ylabel(measure.get_name(wording).capitalize())
        format_numbers(ax.xaxis, wording)
        format_measure(ax.yaxis, measure, wording)
        return figure


def draw_front(ax: Axes, info: FrontInfo, wording: Wording) -> None:
    """Draws a mark per trial and the front as steps."""
    look = next(look for look in LOOKS if look.state == "COMPLETE")
    words = wording.locale["search"]["figures"]
    count = len(info.others) + len(info.front)
    if len(info.others):
        marks = style_marks(look, count) | {"markerfacecolor": "white", "markeredgecolor": GREY, "markeredgewidth": 1}
        ax.plot(*info.others.T, label=words["beaten"], **marks)
    if len(info.front):
        ax.step(*info.front.T, where="post", color=look.colour, linewidth=1.2, alpha=0.6)
        ax.plot(*info.front.T, label=words["on_front"], **style_marks(look, 1))
    if len(info.present):
        ax.plot(*info.present.T, label=words["declared"], **PRESENT)
    ax.set_ylim(*info.window)
    put_legend(ax, 2)


def compute_timeline(searched: Searched) -> TimelineInfo:
    """Computes the figure of when each trial ran; time in which none ran, after a kill, is cut out."""
    times = searched.times.sort_values(["began_s", "number"])
    began, ended = (times[key].to_numpy(np.float64) for key in ("began_s", "ended_s"))
    last = np.maximum.accumulate(ended)
    idle = np.append(0.0, np.maximum(began[1:] - last[:-1], 0.0))
    busy = float(last[-1] - began[0] - idle.sum())
    shortest = max(SHORTEST_BREAK_S, BREAK_SHARE * busy)
    cut = np.where(idle > shortest, idle - BREAK_SHARE * busy, 0.0)
    shift = np.cumsum(cut) + began[0]
    bars = np.column_stack([began - shift, ended - shift, _find_lanes(began, ended)])
    states = times["state"].to_numpy()
    breaks = (began - shift)[cut > 0] - BREAK_SHARE * busy / 2
    return TimelineInfo(
        {look.state: bars[states == look.state] for look in LOOKS},
        int(bars[:, 2].max()) + 1,
        breaks.tolist(),
        float(bars[:, 1].max()),
    )


def _find_lanes(began: Floats, ended: Floats) -> list[int]:
    """Returns the lowest lane that is free when each trial begins; they come in the order of their beginning."""
    lanes: list[int] = []
    free: list[int] = []
    running: list[tuple[float, int]] = []
    for start, end in zip(began, ended, strict=True):
        while running and running[0][0] <= start:
            heappush(free, heappop(running)[1])
        lane = heappop(free) if free else len(running)
        heappush(running, (end, lane))
        lanes.append(lane)
    return lanes


def figure_timeline(searched: Searched, wording: Wording) -> Figure:
    """Draws when each trial ran, those at the same time one above the other."""
    with use_style():
        words = wording.locale["search"]["figures"]
        info = compute_timeline(searched)
        figure = build_figure(7.2, min(6.0, 1.4 + 0.32 * info.num_lanes))
        ax = figure.subplots()
        draw_timeline(ax, info, wording)
        ax.set_xlabel(words["time"])
        ax.set_ylabel(words["at_once"])
        ax.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 1.5, 2, 3, 6, 10]))
        ax.yaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
        format_axis(ax.xaxis, lambda value: wording.duration(value) if value else "0")
        return figure


def draw_timeline(ax: Axes, info: TimelineInfo, wording: Wording) -> None:
    """Draws a bar per trial, of the colour of its state."""
    count = sum(map(len, info.bars.values()))
    for look in LOOKS:
        bars = info.bars[look.state]
        if not len(bars):
            continue
        left, right, lane = bars.T
        low, high = lane + 0.6, lane + 1.4
        corners = np.stack([np.column_stack(pair) for pair in ((left, low), (right, low), (right, high), (left, high))])
        ax.add_collection(
            PolyCollection(
                list(corners.transpose(1, 0, 2)),
                facecolors=look.colour,
                edgecolors="white",
                linewidths=0.5 if count <= MOST_SHAPES else 0,
                hatch="////" if look.state == "FAIL" and count <= MOST_SHAPES else None,
                label=look.get_word(wording),
                rasterized=count > MOST_SHAPES,
            )
        )
    for place in info.breaks:
        ax.axvline(place, color=INK, linewidth=1, linestyle=":")
    ax.set_xlim(0, info.duration_s * 1.005 or 1.0)
    ax.set_ylim(0.4, info.num_lanes + 0.6)
    ax.grid(visible=False, axis="y")
    put_legend(ax, 3)
