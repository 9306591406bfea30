"""What the declared operations do to pictures, one after the other: tracked by preprocess, where any are declared."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cotejo.data.imaging import apply_operations
from cotejo.operations import Operation
from cotejo.report.style import GREY, build_figure, hide_frame, save_figure, use_style
from cotejo.tracking.journal import Run

Pixels = NDArray[np.uint8]
#: Pictures that the figure follows.
MAX_PICTURES = 6


def log_operations(run: Run, operations: Sequence[Operation], images: Sequence[Pixels], folder: Path) -> None:
    """Tracks a picture of what each operation does; nothing where none is declared.

    Args:
        run: The preprocess stage's run.
        operations: Those of `preprocess.operations`.
        images: Some images as they are before the first operation, of any sizes.
        folder: Where the picture is kept.
    """
    if not operations or not images:
        return
    path = folder / "operations.png"
    save_figure(figure_operations(images[:MAX_PICTURES], operations), path)
    run.log_artifact(path, "figures")


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
