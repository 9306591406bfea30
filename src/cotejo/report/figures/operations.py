"""Figure of preprocess: what the declared operations do to images, one after the other."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cotejo.data.collection import Collection
from cotejo.data.decoding import convert_color, decode_image
from cotejo.data.imaging import apply_operations
from cotejo.errors import DataError
from cotejo.report.style import GREY, build_figure, hide_frame, save_figure, use_style
from cotejo.schema.operations import Operation, say_size

Pixels = NDArray[np.uint8]
#: Images that the figure follows, each of another class.
MAX_IMAGES = 6
#: Pixels of a drawn step's longest side: matplotlib takes 50 times what a photo itself takes.
DRAWN_SIDE = 400


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


def _choose_images(collection: Collection, color: Literal["grey", "rgb"]) -> Iterator[Pixels]:
    """Returns the first training image of each class that can be read, as it is before the first operation."""
    done: set[int] = set()
    for sample in collection.splits["train"]:
        if len(done) == min(MAX_IMAGES, len(collection.class_names)):
            break
        if sample.label in done:
            continue
        try:
            image = decode_image(sample.content) if isinstance(sample.content, Path) else sample.content
        except DataError:  # preprocess itself has said or counted it
            continue
        done.add(sample.label)
        yield convert_color(image, color)


def figure_operations(images: Iterable[Pixels], operations: Sequence[Operation]) -> Figure:
    """Shows images before and after each operation: a row per image, a column per operation, with its parameters.

    Args:
        images: uint8, each of shape (height, width, channels), 1 or 3 channels; taken one by one.
        operations: One or more.
    """
    titles = ["original", *(describe_operation(operation) for operation in operations)]
    rows = [[(_shrink(step), say_size(step.shape)) for step in list_steps(image, operations)] for image in images]
    with use_style():
        figure = build_figure(1.9 * len(titles), 1.8 * len(rows) + 0.2 * max(title.count("\n") for title in titles))
        axes = figure.subplots(len(rows), len(titles), squeeze=False)
        for row, steps in zip(axes, rows, strict=True):
            for ax, (drawn, size) in zip(row, steps, strict=True):
                coloured = np.broadcast_to(drawn, (*drawn.shape[:2], 3))  # one channel spreads over three
                ax.imshow(coloured, interpolation="nearest")
                ax.set_xticks([])
                ax.set_yticks([])
                ax.set_xlabel(size, fontsize=8, color=GREY)
                hide_frame(ax)
        for ax, title in zip(axes[0], titles, strict=True):
            ax.set_title(title, fontsize=9, fontweight="normal")
        return figure


def list_steps(image: Pixels, operations: Sequence[Operation]) -> Iterator[Pixels]:
    """Returns an image before the first operation and after each; the last is a model's input."""
    yield image
    for operation in operations:
        image = apply_operations(image, [operation])
        yield image


def _shrink(image: Pixels) -> Pixels:
    """Returns an image as it is drawn: at most 400 pixels a side; a smaller one as it is."""
    scale = DRAWN_SIDE / max(image.shape[:2])
    if scale >= 1:
        return image
    height, width = (max(round(side * scale), 1) for side in image.shape[:2])
    shrunk: Pixels = np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
    return shrunk.reshape(height, width, -1)


def describe_operation(operation: Operation) -> str:
    """Returns an operation's name and, a line each, its parameters."""
    values = operation.model_dump(exclude={"name"})
    return "\n".join([operation.name, *(f"{key} {value}" for key, value in values.items())])
