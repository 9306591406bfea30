"""Figures of trust: confidences, what to leave to a person, and corrupted images."""

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator

from cotejo.comparison.records import Model
from cotejo.report.axes import format_axis, format_numbers
from cotejo.report.figures.intervals import build_model_legend
from cotejo.report.style import GREY, PAPER, build_figure, choose_looks, use_style
from cotejo.report.wording import Wording
from cotejo.schema.results import Bin, Corrupted


def figure_reliability(models: Sequence[Model], *, language: str = "en") -> Figure:
    """Shows a reliability diagram per model, before and after temperature scaling: how often right by how sure.

    Args:
        models: The models.
        language: en or es.

    References:
        Guo et al., On Calibration of Modern Neural Networks (2017), figure 4.
    """
    with use_style():
        wording = Wording(language)
        words = wording.locale["figures"]
        columns, rows = min(2, len(models)), math.ceil(len(models) / 2)
        figure = build_figure(3.9 * columns, 2.6 * rows + 0.3)
        axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
        looks = choose_looks([model.name for model in models])
        for ax in axes.flat[len(models) :]:
            ax.set_axis_off()
        for ax, model in zip(axes.flat, models, strict=False):
            ax.axline((0, 0), slope=1, color=GREY, linewidth=0.8)
            draw_bins(ax, model.reliability, GREY, "--", words["before_scaling"])
            draw_bins(ax, model.reliability_scaled, looks[model.name]["color"], "-", words["after_scaling"])
            ax.set_title(wording.model(model.name))
            ax.legend(loc="upper left", fontsize=9.5)
            ax.set(xlim=(0, 1.02), ylim=(0, 1.02))
            for axis in (ax.xaxis, ax.yaxis):
                axis.set_major_locator(MultipleLocator(0.25))
                format_numbers(axis, wording, scale=100, unit=wording.locale["number"]["percent"])
        for ax in axes[-1]:
            ax.set_xlabel(words["confidence"])
        for ax in axes[:, 0]:
            ax.set_ylabel(words["right_share"])
        return figure


def draw_bins(ax: Axes, bins: Sequence[Bin], colour: str, line: str, label: str) -> None:
    """Draws a dot per bin, the larger the more predictions it holds; hollow where the line is dashed."""
    confidences, accuracies = [item.confidence for item in bins], [item.accuracy for item in bins]
    most = max((item.count for item in bins), default=1)
    face = colour if line == "-" else PAPER
    ax.plot(confidences, accuracies, line, color=colour, linewidth=1.5, label=label)
    ax.scatter(
        confidences,
        accuracies,
        s=[14 + 60 * item.count / most for item in bins],
        facecolors=face,
        edgecolors=colour,
        linewidths=1.2,
        zorder=3,
    )


def figure_risk(models: Sequence[Model], *, language: str = "en") -> Figure:
    """Shows the share of errors when a model answers its surest images alone, against how many it answers.

    Args:
        models: The models.
        language: en or es.

    References:
        Geifman and El-Yaniv, Selective Classification for Deep Neural Networks (2017), figure 1.
    """
    with use_style():
        wording = Wording(language)
        figure = build_figure(7.2, 3.7)
        ax = figure.subplots()
        looks = choose_looks([model.name for model in models])
        for model in models:
            points = model.risk_coverage
            ax.plot(
                [point.coverage for point in points],
                [point.risk for point in points],
                markevery=4,
                markersize=6,
                **looks[model.name],
            )
        figure.legend(
            handles=build_model_legend(models, wording), loc="outside upper center", ncols=min(4, len(models))
        )
        ax.set_xlim(0, 1.02)
        ax.set_ylim(bottom=0)
        percent = wording.locale["number"]["percent"]
        for axis in (ax.xaxis, ax.yaxis):
            format_numbers(axis, wording, scale=100, unit=percent)
        ax.set_xlabel(wording.locale["figures"]["coverage"])
        ax.set_ylabel(wording.locale["figures"]["risk"])
        return figure


def figure_robustness(models: Sequence[Model], *, language: str = "en") -> Figure:
    """Shows accuracy against the severity of a corruption, a panel per corruption and a line per model.

    Args:
        models: The models; all have the same corruptions.
        language: en or es.

    References:
        Hendrycks and Dietterich, Benchmarking Neural Network Robustness to Common Corruptions (2019).
    """
    with use_style():
        wording = Wording(language)
        looks = choose_looks([model.name for model in models])
        corruptions = list_corruptions(models[0].robustness)
        columns = min(3, len(corruptions) + 1)
        rows = math.ceil((len(corruptions) + 1) / columns)
        figure = build_figure(2.75 * columns, 2.5 * rows + 0.2)
        axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
        for ax, corruption in zip(axes.flat, corruptions, strict=False):
            for model in models:
                draw_severities(ax, model, corruption, looks[model.name])
            ax.set_title(wording.locale["corruptions"][corruption])
            ax.xaxis.set_major_locator(MultipleLocator(1))
            format_axis(ax.xaxis, wording.integer)
            ax.tick_params(labelbottom=True)
            ax.set_xlabel(wording.locale["figures"]["severity"])
        # the last panel, which no corruption needs, says whose line is whose
        for ax in axes.flat[len(corruptions) :]:
            ax.set_axis_off()
        axes.flat[len(corruptions)].legend(handles=build_model_legend(models, wording), loc="center", fontsize=11)
        for ax in axes[:, 0]:
            format_numbers(ax.yaxis, wording, scale=100, unit=wording.locale["number"]["percent"])
            ax.set_ylabel(wording.locale["figures"]["accuracy"])
        return figure


def list_corruptions(rows: Sequence[Corrupted]) -> list[str]:
    """Returns the names of the corruptions in their order; severity 0 is none."""
    return list(dict.fromkeys(row.corruption for row in rows if row.severity))


def draw_severities(ax: Axes, model: Model, corruption: str, look: dict[str, Any]) -> None:
    """Draws one model's line from the uncorrupted images to the worst severity, in its Wilson intervals."""
    rows = sorted(
        (row for row in model.robustness if row.severity == 0 or row.corruption == corruption),
        key=lambda row: row.severity,
    )
    places = [row.severity for row in rows]
    ax.fill_between(
        places, [row.low for row in rows], [row.high for row in rows], color=look["color"], alpha=0.15, linewidth=0
    )
    ax.plot(places, [row.accuracy for row in rows], markersize=4.5, **look)
