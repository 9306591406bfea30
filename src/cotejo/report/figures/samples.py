"""Figure of preprocess: samples of each class."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cotejo.report.style import build_figure, cut_label, hide_frame, use_style

Images = NDArray[np.uint8]
Ints = NDArray[np.integer[Any]]
#: Pixels of an image's longer side that are drawn.
LARGEST = 128
#: Rows that are drawn.
MOST_CLASSES = 40


def figure_samples(
    images: Images,
    labels: Ints,
    class_names: Sequence[str],
    per_class_counts: Mapping[str, int],
    *,
    columns: int = 8,
) -> Figure:
    """Shows the first images of every class, a row per class, with the class's name and count.

    Of more than 40 classes the first 40, and large images by every so many pixels: a figure has no room for more.

    Args:
        images: uint8, shape (num_samples, height, width, channels), 1 or 3 channels.
        labels: Classes, shape (num_samples,).
        class_names: Names in class order.
        per_class_counts: Images of each class by name.
        columns: Images per class.
    """
    step = -(-max(images.shape[1:3]) // LARGEST)
    images, class_names = images[:, ::step, ::step], class_names[:MOST_CLASSES]
    with use_style():
        figure = build_figure(0.75 * columns + 1.9, 0.75 * len(class_names) + 0.2)
        ax = figure.subplots()
        draw_mosaic(ax, images, labels, len(class_names), columns)
        size = images.shape[1] + 2
        places = [size * (row + 0.5) for row in range(len(class_names))]
        ax.set_yticks(places, [f"{cut_label(name)}\n{per_class_counts.get(name, 0):,}" for name in class_names])
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
