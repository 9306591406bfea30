"""What the declared operations do to images, one after the other: a figure of preprocess, where any are declared."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cotejo.data.collection import Collection
from cotejo.data.decoding import convert_color, decode_image
from cotejo.data.imaging import apply_operations
from cotejo.errors import DataError
from cotejo.operations import Operation
from cotejo.report.style import GREY, build_figure, hide_frame, save_figure, use_style

Pixels = NDArray[np.uint8]
#: Images that the figure follows, each of another class.
MAX_IMAGES = 6


def save_operations(
    collection: Collection, color: Literal["grey", "rgb"], operations: Sequence[Operation], folder: Path
) -> None:
    """Writes `operations.png`, what each operation does to an image of each class; nothing where none is declared.

    Args:
        collection: The images.
        color: What they are converted to first.
        operations: Those of `preprocess.operations`.
        folder: An existing folder.
    """
    if operations:
        images = _choose_images(collection, color)
        save_figure(figure_operations(images, operations), folder / "operations.png")


def _choose_images(collection: Collection, color: Literal["grey", "rgb"]) -> list[Pixels]:
    """Returns the first training image of each class that can be read, as it is before the first operation."""
    images: dict[int, Pixels] = {}
    for sample in collection.splits["train"]:
        if len(images) == min(MAX_IMAGES, len(collection.class_names)):
            break
        if sample.label in images:
            continue
        try:
            image = decode_image(sample.content) if isinstance(sample.content, Path) else sample.content
        except DataError:  # preprocess itself has said or counted it
            continue
        images[sample.label] = convert_color(image, color)
    return list(images.values())


def figure_operations(images: Sequence[Pixels], operations: Sequence[Operation]) -> Figure:
    """Shows images before and after each operation: a row per image, a column per operation, with its parameters.

    Args:
        images: uint8, each of shape (height, width, channels), 1 or 3 channels.
        operations: One or more.
    """
    titles = ["original", *(describe_operation(operation) for operation in operations)]
    with use_style():
        figure = build_figure(1.9 * len(titles), 1.8 * len(images) + 0.2 * max(title.count("\n") for title in titles))
        axes = figure.subplots(len(images), len(titles), squeeze=False)
        for row, image in zip(axes, images, strict=True):
            for ax, step in zip(row, list_steps(image, operations), strict=True):
                coloured = np.broadcast_to(step, (*step.shape[:2], 3))  # one channel spreads over three
                ax.imshow(coloured, interpolation="nearest")
                ax.set_xticks([])
                ax.set_yticks([])
                ax.set_xlabel(f"{step.shape[0]} x {step.shape[1]} x {step.shape[2]}", fontsize=8, color=GREY)
                hide_frame(ax)
        for ax, title in zip(axes[0], titles, strict=True):
            ax.set_title(title, fontsize=9, fontweight="normal")
        return figure


def list_steps(image: Pixels, operations: Sequence[Operation]) -> list[Pixels]:
    """Returns an image before the first operation and after each; the last is what a model is given."""
    steps = [image]
    for operation in operations:
        steps.append(apply_operations(steps[-1], [operation]))
    return steps


def describe_operation(operation: Operation) -> str:
    """Returns an operation's name and, a line each, its parameters."""
    values = operation.model_dump(exclude={"name"})
    return "\n".join([operation.name, *(f"{key} {value}" for key, value in values.items())])
