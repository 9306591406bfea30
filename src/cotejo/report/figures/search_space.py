"""Figures of a search's space: a panel per parameter, and all parameters side by side."""

import math
from typing import Any, NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from cotejo.report.figures.trials import (
    BEST,
    LOOKS,
    MOST_SHAPES,
    PRESENT,
    compute_window,
    find_rows,
    format_measure,
    place_values,
    style_marks,
)
from cotejo.report.measure import Measure, find_measure
from cotejo.report.searched import Floats, Scale, Searched, compute_scales
from cotejo.report.style import GREY, INK, RULE, build_figure, cut_label, hide_frame, use_style
from cotejo.report.wording import Wording

COLUMNS = 3
#: Light enough to be seen on white, dark enough to be told from the next; in order in grey too.
COLOURS: Any = colormaps["viridis_r"]


class SlicesInfo(NamedTuple):
    """The metric against each parameter.

    Attributes:
        scales: The parameters, with the place of each trial.
        values: The value of each trial, within the window.
        states: The state of each trial.
        best: The row of the best trial.
        present: The row of the trial with the declared values.
        window: The values that are shown.
    """

    scales: list[Scale]
    values: Floats
    states: list[str]
    best: int
    present: int
    window: tuple[float, float]


class ParallelInfo(NamedTuple):
    """All parameters of a trial as a line.

    Attributes:
        scales: The parameters, in the order of their axes; the metric's axis stands after them.
        lines: The heights of completed trials at each axis, of shape (trials, axes), 0 to 1, the worst trial first;
            NaN where it didn't search a parameter.
        pruned: Those of the pruned ones.
        present: The row of the declared values in `lines`; None if that trial didn't end.
        window: The values of the metric's axis.
    """

    scales: list[Scale]
    lines: Floats
    pruned: Floats
    present: int | None
    window: tuple[float, float]


def compute_slices(searched: Searched) -> SlicesInfo:
    """Computes the figure of the metric against each parameter."""
    measure, trials = find_measure(searched.search.metric), searched.trials
    values = trials["value"].to_numpy(np.float64)
    window = compute_window(values[np.isfinite(values)], measure)
    numbers = trials["number"].tolist()
    best, present = (numbers.index(number) for number in find_rows(searched))
    return SlicesInfo(
        compute_scales(searched),
        place_values(values, window, measure),
        trials["state"].tolist(),
        best,
        present,
        window,
    )


def figure_slices(searched: Searched, wording: Wording) -> Figure:
    """Draws the metric against each parameter, a panel per parameter, the most important first."""
    with use_style():
        measure = find_measure(searched.search.metric)
        info = compute_slices(searched)
        columns = min(COLUMNS, len(info.scales))
        rows = math.ceil(len(info.scales) / columns)
        figure = build_figure(7.2, 2.5 * rows + 0.4)
        axes = figure.subplots(rows, columns, squeeze=False, sharey=True)
        for ax in axes.flat[len(info.scales) :]:
            ax.set_axis_off()
        for ax, scale in zip(axes.flat, info.scales, strict=False):
            draw_slice(ax, info, scale, wording)
            format_scale(ax.xaxis, scale, wording)
            ax.set_title(cut_label(scale.key, 24), fontsize=10.5)
            ax.tick_params(labelsize=9.5)
        for row in axes:
            format_measure(row[0].yaxis, measure, wording)
        figure.supylabel(measure.get_name(wording).capitalize(), fontsize=11, color=INK)
        handles, words = axes.flat[0].get_legend_handles_labels()
        figure.legend(handles, words, loc="outside upper left", ncols=5, fontsize=10, columnspacing=1.4)
        return figure


def draw_slice(ax: Axes, info: SlicesInfo, scale: Scale, wording: Wording) -> None:
    """Draws a mark per trial; trials of a choice stand exactly above it, wide and flat, so that many stay readable."""
    states = np.array(info.states)
    for look in LOOKS:
        chosen = states == look.state
        marks = style_marks(look, len(states))
        if scale.labels:
            is_many = len(states) > MOST_SHAPES
            marks |= {"marker": "_", "markersize": 15, "markeredgewidth": 0.6 if is_many else 1.4}
        if chosen.any():
            # the first panel's marks are the legend's: a parameter of numbers and one of choices must look alike there
            ax.plot([], [], label=look.get_word(wording), **style_marks(look, 1))
            ax.plot(scale.places[chosen], info.values[chosen], clip_on=False, **marks)
    words = wording.locale["search"]["figures"]
    for row, key, look in ((info.present, "declared", PRESENT), (info.best, "best", BEST)):
        if not (row == info.best and key == "declared"):
            ax.plot(scale.places[row], info.values[row], label=words[key], clip_on=False, **look)
    if scale.is_log:
        ax.set_xscale("log")
        pad = (scale.high / scale.low) ** 0.05
        ax.set_xlim(scale.low / pad, scale.high * pad)
    else:
        pad = 0.5 if scale.labels else 0.05 * (scale.high - scale.low)
        ax.set_xlim(scale.low - pad, scale.high + pad)
    ax.set_ylim(*info.window)


def format_scale(axis: Any, scale: Scale, wording: Wording) -> None:  # noqa: ANN401 - matplotlib's
    """Writes the ticks of a parameter's axis."""
    if scale.labels:
        is_crowded = sum(map(len, scale.labels)) > 22
        axis.set_ticks(
            range(len(scale.labels)),
            [cut_label(label, 10) for label in scale.labels],
            rotation=40 if is_crowded else 0,
            ha="right" if is_crowded else "center",
        )
        axis.grid(visible=False)
    elif scale.is_log:
        axis.set_major_locator(LogLocator(numticks=4))
        axis.set_major_formatter(lambda value, _: say_number(value, wording))
        if scale.high / scale.low < 1e2:  # fewer than two powers of ten
            axis.set_minor_locator(LogLocator(subs=(3.0,), numticks=4))
            axis.set_minor_formatter(lambda value, _: say_number(value, wording))
        else:
            axis.set_minor_formatter(NullFormatter())
        axis.set_tick_params(which="minor", labelsize=9.5)
    else:
        axis.set_major_locator(MaxNLocator(3, steps=[1, 2, 5, 10]))
        axis.set_major_formatter(lambda value, _: say_number(value, wording))


def say_number(value: float, wording: Wording) -> str:
    """Formats a parameter's value in few characters: 0.001, 3e-5, 128."""
    text = f"{value:.3g}"
    return text.replace("e-0", "e-").replace("e+0", "e") if "e" in text else wording.exact(float(text))


def compute_parallel(searched: Searched) -> ParallelInfo:
    """Computes the figure of all parameters side by side."""
    measure, trials, scales = find_measure(searched.search.metric), searched.trials, compute_scales(searched)
    states = trials["state"].to_numpy()
    values = trials["value"].to_numpy(np.float64)
    completed = values[states == "COMPLETE"]
    window = compute_window(completed, measure)
    low, high = window
    heights = [place_on_axis(scale, scale.places) for scale in scales]
    table = np.column_stack([*heights, (place_values(values, window, measure) - low) / (high - low)])
    order = np.argsort(completed if measure.is_higher_better else -completed, kind="stable")
    numbers = trials["number"].to_numpy()[states == "COMPLETE"][order].tolist()
    lines = table[states == "COMPLETE"][order]
    return ParallelInfo(scales, lines, table[states == "PRUNED"], numbers.index(0) if 0 in numbers else None, window)


def place_on_axis(scale: Scale, places: Floats) -> Floats:
    """Returns the heights of places on an upright axis, from 0 to 1; a choice stands in the middle of its share."""
    if scale.labels:
        return (places + 0.5) / len(scale.labels)
    low, high = scale.low, scale.high
    if scale.is_log:
        places, low, high = np.log(places), math.log(low), math.log(high)
    heights: Floats = (places - low) / (high - low)
    return heights


def figure_parallel(searched: Searched, wording: Wording) -> Figure:
    """Draws each trial as a line through its parameters to its value; the best is dark and thick."""
    with use_style():
        info = compute_parallel(searched)
        figure = build_figure(max(7.2, 1.15 * (len(info.scales) + 1)), 4.0)
        ax = figure.subplots()
        draw_parallel(ax, info, find_measure(searched.search.metric), wording)
        return figure


def draw_parallel(ax: Axes, info: ParallelInfo, measure: Measure, wording: Wording) -> None:
    """Draws an upright axis per parameter, and a line per trial across them; the better, the darker."""
    count, num_axes = len(info.lines) + len(info.pruned), len(info.scales) + 1
    places = np.arange(num_axes)
    alpha = 0.8 if count <= 100 else 0.35 if count <= 1000 else 0.08
    look: Any = {"rasterized": count > MOST_SHAPES, "linewidths": 1.0}
    pruned, lines = (
        [np.column_stack([places, line])[np.isfinite(line)] for line in group] for group in (info.pruned, info.lines)
    )
    words = wording.locale["search"]["figures"]
    ax.add_collection(LineCollection(pruned, colors=RULE, alpha=alpha, **look))
    if pruned:
        ax.plot([], [], color=RULE, linewidth=1.4, label=words["states"]["PRUNED"])
    last = info.lines[:, -1] if measure.is_higher_better else 1 - info.lines[:, -1]
    ax.add_collection(LineCollection(lines, colors=COLOURS(0.1 + 0.8 * last), alpha=alpha, **look))
    if info.present is not None and info.present < len(lines) - 1:
        ax.plot(
            *lines[info.present].T,
            "--D",
            color=INK,
            linewidth=1.6,
            markerfacecolor="white",
            markersize=5,
            label=words["declared"],
        )
    if lines:
        ax.plot(*lines[-1].T, "-o", color=INK, linewidth=2.2, markersize=5, label=words["best"])
        ax.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3, fontsize=10)
    for place, scale in enumerate(info.scales):
        _draw_axis(ax, place, _list_marks(scale, wording))
    low, high = info.window
    say, digits = (wording.percent, 1) if measure.is_share else (wording.number, 3)
    marks = [(height, say(low + height * (high - low), digits)) for height in (0.0, 0.5, 1.0)]
    _draw_axis(ax, num_axes - 1, marks)
    names = [cut_label(scale.key, 18) for scale in info.scales]
    ax.set_xticks(places, [*names, measure.get_name(wording).replace(" ", "\n")], rotation=25, ha="right", fontsize=9.5)
    ax.set_yticks([])
    ax.set_xlim(-0.1, num_axes - 0.45)
    ax.set_ylim(-0.03, 1.03)
    hide_frame(ax)


def _list_marks(scale: Scale, wording: Wording) -> list[tuple[float, str]]:
    if scale.labels:
        return [((place + 0.5) / len(scale.labels), cut_label(label, 9)) for place, label in enumerate(scale.labels)]
    middle = math.sqrt(scale.low * scale.high) if scale.is_log else (scale.low + scale.high) / 2
    points = zip((0.0, 0.5, 1.0), (scale.low, middle, scale.high), strict=True)
    return [(height, say_number(float(f"{value:.2g}"), wording)) for height, value in points]


def _draw_axis(ax: Axes, place: int, marks: list[tuple[float, str]]) -> None:
    ax.plot([place, place], [0, 1], color=GREY, linewidth=0.8, zorder=2.5)
    for height, text in marks:
        ax.text(
            place + 0.05,
            height,
            text,
            fontsize=8.5,
            va="center",
            zorder=6,
            bbox={"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.8},
        )
