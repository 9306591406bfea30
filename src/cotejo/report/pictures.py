"""The figures that show images themselves: samples of a data set, and predictions."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cotejo.report.style import INK, VERMILLION, build_figure, cut_label, hide_frame, use_style
from cotejo.report.wording import Wording

Images = NDArray[np.uint8]
Ints = NDArray[np.integer[Any]]


def figure_samples(
    images: Images,
    labels: Ints,
    class_names: Sequence[str],
    per_class_counts: Mapping[str, int],
    *,
    columns: int = 8,
    language: str = "en",
) -> Figure:
    """Shows the first images of every class, a row per class, with the class's name and count.

    Args:
        images: uint8, shape (num_samples, height, width, channels), 1 or 3 channels.
        labels: Classes, shape (num_samples,).
        class_names: Names in class order.
        per_class_counts: Images of each class by name.
        columns: Images per class.
        language: en or es.
    """
    with use_style():
        wording = Wording(language)
        figure = build_figure(0.75 * columns + 1.9, 0.75 * len(class_names) + 0.2)
        ax = figure.subplots()
        draw_mosaic(ax, images, labels, len(class_names), columns)
        size = images.shape[1] + 2
        ax.set_yticks([size * (row + 0.5) for row in range(len(class_names))])
        ax.set_yticklabels(
            [f"{cut_label(name)}\n{wording.integer(per_class_counts.get(name, 0))}" for name in class_names]
        )
        return figure


def draw_mosaic(ax: Axes, images: Images, labels: Ints, num_classes: int, columns: int) -> None:
    """Draws a row of images per class, two pixels apart; a class with fewer images leaves white."""
    _, height, width, _ = images.shape
    canvas = np.full((num_classes * (height + 2), columns * (width + 2), 3), 255, dtype=np.uint8)
    for row in range(num_classes):
        for column, index in enumerate(np.flatnonzero(labels == row)[:columns]):
            top, left = row * (height + 2) + 1, column * (width + 2) + 1
            canvas[top : top + height, left : left + width] = images[index]  # one channel spreads over three
    extent = (0, canvas.shape[1], canvas.shape[0], 0)
    ax.imshow(canvas, interpolation="nearest", aspect="equal", extent=extent)
    ax.set_xticks([])
    hide_frame(ax)


def figure_predictions(
    images: Images,
    y_true: Ints,
    y_prob: NDArray[np.floating[Any]],
    class_names: Sequence[str],
    *,
    language: str = "en",
) -> Figure:
    """Shows images with the predicted class and its confidence; wrong ones have a cross, a frame and the true class.

    Args:
        images: uint8, shape (num_samples, height, width, channels).
        y_true: True classes, shape (num_samples,).
        y_prob: Probabilities, shape (num_samples, num_classes).
        class_names: Names in class order.
        language: en or es.
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
            draw_prediction(ax, image, int(true), prob, class_names, Wording(language))
        return figure


def draw_prediction(
    ax: Axes, image: Images, true: int, prob: NDArray[np.floating[Any]], class_names: Sequence[str], wording: Wording
) -> None:
    """Draws an image under its predicted class and confidence."""
    predicted = int(prob.argmax())
    is_right = predicted == true
    ax.set_axis_on()
    ax.imshow(image.squeeze(), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    ax.set(xticks=[], yticks=[])
    hide_frame(ax)
    title = (
        f"{'✓' if is_right else '✗'} {cut_label(class_names[predicted])} {wording.percent(float(prob[predicted]), 0)}"
    )
    ax.set_title(title, fontsize=8.5, fontweight="normal" if is_right else "bold", pad=3,
                 color=INK if is_right else VERMILLION)  # fmt: skip
    # every image has the line, so that the rows are even
    note = "" if is_right else f"{wording.locale['figures']['true_label']}: {cut_label(class_names[true])}"
    ax.set_xlabel(note or " ", fontsize=8.5, color=INK, loc="left", labelpad=3)
    if not is_right:
        for spine in ax.spines.values():
            spine.set(visible=True, color=VERMILLION, linewidth=3)
