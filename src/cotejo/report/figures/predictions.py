"""Pictures with the classes that a model has given them: the figure of `cotejo predict`."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cotejo.report.style import GREY, build_figure, cut_label, hide_frame, use_style

#: Pictures that a figure shows; with more, their names couldn't be read.
MAX_SHOWN = 40
NUM_COLUMNS = 5
#: Longest name that fits above and below a picture.
LONGEST_NAME = 20


class ClassifiedPicture(NamedTuple):
    """A picture as the model was given it, and what the model says."""

    name: str
    pixels: NDArray[np.uint8]  # (height, width, channels)
    class_name: str
    confidence: float


def figure_predictions(shown: Sequence[ClassifiedPicture]) -> Figure:
    """Shows each picture under its class and confidence, with its name below; five in a row.

    Args:
        shown: At most `MAX_SHOWN`.
    """
    num_rows = -(-len(shown) // NUM_COLUMNS)
    with use_style():
        figure = build_figure(1.9 * NUM_COLUMNS, 2.2 * num_rows)
        axes = figure.subplots(num_rows, NUM_COLUMNS, squeeze=False).ravel()
        for ax in axes[len(shown) :]:
            ax.set_visible(False)
        for ax, picture in zip(axes, shown, strict=False):
            coloured = np.broadcast_to(picture.pixels, (*picture.pixels.shape[:2], 3))  # grey spreads over three
            ax.imshow(coloured, interpolation="nearest")
            ax.set_title(f"{cut_label(picture.class_name, LONGEST_NAME)}\n{picture.confidence:.1%}", fontsize=10)
            ax.set_xlabel(cut_label(picture.name, LONGEST_NAME), fontsize=8, color=GREY)
            ax.set_xticks([])
            ax.set_yticks([])
            hide_frame(ax)
        return figure
