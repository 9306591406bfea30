"""The figures of the report: `draw_x(ax, ...)` draws, `figure_x(...)` composes.

Words and number formats follow `language`; what colour says, a shape, a line style or a word says too.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cotejo.comparison.records import ClassDifference, Comparison
from cotejo.report.axes import format_numbers
from cotejo.report.figures.certainty import figure_pairs, figure_seeds
from cotejo.report.figures.confusion import draw_confusion
from cotejo.report.figures.cost import figure_cost
from cotejo.report.figures.curves import figure_curves
from cotejo.report.figures.intervals import draw_intervals
from cotejo.report.figures.trust import figure_reliability, figure_risk, figure_robustness
from cotejo.report.style import build_figure, cut_label, use_style
from cotejo.report.wording import Wording

Ints = NDArray[np.integer[Any]]


def build_report_figures(
    comparison: Comparison, histories: Mapping[str, pd.DataFrame], language: str
) -> dict[str, Figure]:
    """Builds the report's figures by name: seeds, pairs, cost, reliability, risk, robustness, loss, accuracy, ...

    Args:
        comparison: The comparison.
        histories: By model the columns seed, epoch (from 1), cross_entropy, accuracy, val_cross_entropy,
            val_accuracy.
        language: en or es.
    """
    wording, models = Wording(language), comparison.models
    panels = [(wording.model(model.name), np.array(model.counts), model.class_names) for model in models]
    known = {model.name: histories[model.name] for model in models if model.name in histories}
    seeds = {model.name: model.seeds for model in models}
    return {
        "seeds": figure_seeds(comparison, language=language),
        "pairs": figure_pairs(comparison, language=language),
        "cost": figure_cost(comparison, language=language),
        "reliability": figure_reliability(models, language=language),
        "risk": figure_risk(models, language=language),
        "robustness": figure_robustness(models, language=language),
        "loss": figure_curves(known, metric="cross_entropy", language=language, seeds=seeds),
        "accuracy": figure_curves(known, metric="accuracy", language=language),
        "confusions": figure_confusions(panels, language=language),
        "f1": figure_f1_differences(
            comparison.differences, comparison.baseline, comparison.candidate, language=language
        ),
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
