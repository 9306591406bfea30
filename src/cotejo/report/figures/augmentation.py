"""Figure of a training: what augmentation does to the images."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cotejo.data.readers import LabelledImages
from cotejo.report.style import build_figure, cut_label, hide_frame, save_figure, use_style
from cotejo.schema.trainings import Augmentation
from cotejo.tracking.journal import Run
from cotejo.training.augmentation import build_augmentation, draw_augmented

Images = NDArray[np.uint8]
Ints = NDArray[np.integer[Any]]

#: Versions of each image that the figure shows.
NUM_VERSIONS = 8
#: Pixels between the originals and the versions of them.
GAP = 4


def log_augmented(
    run: Run, settings: Augmentation, split: LabelledImages, class_names: Sequence[str], folder: Path
) -> None:
    """Tracks a picture of the first image of each class as a training sees it; nothing where it changes none.

    Args:
        run: The training stage's run.
        settings: What augmentation changes.
        split: Training images.
        class_names: Names in class order.
        folder: Where the picture is kept, under the run's name.
    """
    augmentation = build_augmentation(settings, split.images.shape[1:])
    if augmentation is None:
        return
    labels, first = np.unique(split.labels, return_index=True)
    images = split.images[first]
    versions = draw_augmented(augmentation, images, NUM_VERSIONS, seed=0)
    path = folder / f"{run.name}.png"
    save_figure(figure_augmented(images, versions, labels, class_names), path)
    run.log_artifact(path, "figures")


def figure_augmented(images: Images, augmented: Images, labels: Ints, class_names: Sequence[str]) -> Figure:
    """Shows images beside versions of them as a training saw them, a row per image, with its class's name.

    Args:
        images: uint8, shape (num_images, height, width, channels), 1 or 3 channels.
        augmented: uint8, shape (num_images, num_versions, height, width, channels).
        labels: Classes, shape (num_images,).
        class_names: Names in class order.
    """
    num_images, num_versions, height, width, _ = augmented.shape
    row, column = height + 2, width + 2
    with use_style():
        figure = build_figure(0.75 * (num_versions + 1) + 1.9, 0.75 * num_images + 0.5)
        ax = figure.subplots()
        originals, versions = tile(images[:, np.newaxis]), tile(augmented)
        gap = np.full((len(originals), GAP, 3), 255, dtype=np.uint8)
        canvas = np.concatenate([originals, gap, versions], axis=1)
        extent = (0, canvas.shape[1], canvas.shape[0], 0)
        ax.imshow(canvas, interpolation="nearest", aspect="equal", extent=extent)
        ax.set_xticks([column / 2, column + GAP + num_versions * column / 2], ["original", "as seen in training"])
        ax.xaxis.tick_top()
        ax.set_yticks([row * (number + 0.5) for number in range(num_images)])
        ax.set_yticklabels([cut_label(class_names[label]) for label in labels])
        hide_frame(ax)
        return figure


def tile(images: Images) -> Images:
    """Lays images out in rows and columns, two pixels apart.

    Args:
        images: Shape (num_rows, num_columns, height, width, channels), 1 or 3 channels.

    Returns:
        Shape (num_rows * (height + 2), num_columns * (width + 2), 3).
    """
    num_rows, num_columns, height, width, _ = images.shape
    coloured = np.broadcast_to(images, (*images.shape[:-1], 3))  # one channel spreads over three
    framed = np.pad(coloured, ((0, 0), (0, 0), (1, 1), (1, 1), (0, 0)), constant_values=255)
    return framed.swapaxes(1, 2).reshape(num_rows * (height + 2), num_columns * (width + 2), 3)
