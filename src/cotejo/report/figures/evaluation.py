"""Figures of evaluate: one model's predictions."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cotejo.evaluation.metrics import draw_sample
from cotejo.evaluation.summary import Evaluation
from cotejo.report.figures.confusion import figure_confusion
from cotejo.report.figures.reliability import figure_reliability
from cotejo.report.style import INK, VERMILLION, build_figure, cut_label, hide_frame, save_figure, use_style
from cotejo.schema.groups import ModelName
from cotejo.schema.study import Evaluate

Images = NDArray[np.uint8]
Ints = NDArray[np.integer[Any]]


def save_evaluation_figures(
    evaluations: Mapping[ModelName, Evaluation],
    images: Images,
    class_names: Sequence[str],
    settings: Evaluate,
    folder: Path,
) -> None:
    """Draws the confusions, predictions and reliability of each model.

    Args:
        evaluations: The models on the test images by name; of several seeds, the predictions of the first are shown.
        images: The test images.
        class_names: Names in class order.
        settings: How many images to show with their predictions, and which.
        folder: Where to write to: also `confusion-{counts,normalized}-<name>.png`, `predictions-<name>.png` and
            `reliability-<name>.png`.
    """
    shown = draw_sample(len(images), settings.grid_size, settings.sample_seed)
    for name, evaluation in evaluations.items():
        for normalized, kind in ((False, "counts"), (True, "normalized")):
            figure = figure_confusion(evaluation.confusions, class_names, normalized=normalized, title=name)
            save_figure(figure, folder / f"confusion-{kind}-{name}.png")
        figure = figure_predictions(images[shown], evaluation.y_true[shown], evaluation.y_prob[0, shown], class_names)
        save_figure(figure, folder / f"predictions-{name}.png")
        save_figure(figure_reliability(evaluation.summary, name), folder / f"reliability-{name}.png")


def figure_predictions(
    images: Images,
    y_true: Ints,
    y_prob: NDArray[np.floating[Any]],
    class_names: Sequence[str],
) -> Figure:
    """Shows images with the predicted class and its confidence; wrong ones have a cross, a frame and the true class.

    Args:
        images: uint8, shape (num_samples, height, width, channels).
        y_true: True classes, shape (num_samples,).
        y_prob: Probabilities, shape (num_samples, num_classes).
        class_names: Names in class order.
    """
    with use_style():
        columns = max(1, math.isqrt(len(images) - 1) + 1) if len(images) else 1
        rows = max(1, math.ceil(len(images) / columns))
        figure = build_figure(1.75 * columns, 2.05 * rows)
        grid = list(figure.subplots(rows, columns, squeeze=False).flat)
        for ax in grid:
            ax.set_axis_off()
        # the grid has a place left over where the last row isn't full
        for ax, image, true, prob in zip(grid, images, y_true, y_prob, strict=False):
            draw_prediction(ax, image, int(true), prob, class_names)
        return figure


def draw_prediction(
    ax: Axes, image: Images, true: int, prob: NDArray[np.floating[Any]], class_names: Sequence[str]
) -> None:
    """Draws an image under its predicted class and confidence."""
    predicted = int(prob.argmax())
    is_right = predicted == true
    ax.set_axis_on()
    ax.imshow(image.squeeze(), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    ax.set(xticks=[], yticks=[])
    hide_frame(ax)
    title = f"{'✓' if is_right else '✗'} {cut_label(class_names[predicted])} {prob[predicted]:.0%}"
    ax.set_title(
        title, fontsize=8.5, fontweight="normal" if is_right else "bold", pad=3, color=INK if is_right else VERMILLION
    )
    # every image has the line, so that the rows are even
    note = "" if is_right else f"true: {cut_label(class_names[true])}"
    ax.set_xlabel(note or " ", fontsize=8.5, color=INK, loc="left", labelpad=3)
    if not is_right:
        for spine in ax.spines.values():
            spine.set(visible=True, color=VERMILLION, linewidth=3)
