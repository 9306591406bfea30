"""Confusion matrices, for evaluate's figures and the report's."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cotejo.report.style import DEEP, INK, ON_DEEP, PAPER, build_figure, cut_label, hide_frame, use_style

Ints = NDArray[np.integer[Any]]


def figure_confusion(counts: Ints, class_names: Sequence[str], *, normalized: bool, title: str = "") -> Figure:
    """Shows a confusion matrix, as percent of the true class if `normalized`, else as counts.

    Args:
        counts: Shape (num_classes, num_classes), rows true, columns predicted.
        class_names: Names in class order.
        normalized: Whether to divide by the rows' sums; the row of an absent class stays empty.
        title: Above the matrix.
    """
    with use_style():
        side = 0.52 * len(class_names) + 1.9
        figure = build_figure(side, side)
        ax = figure.subplots()
        draw_confusion(ax, counts, class_names, normalized=normalized, fontsize=9)
        ax.set_title(title)
        return figure


def draw_confusion(
    ax: Axes,
    counts: Ints,
    class_names: Sequence[str],
    *,
    normalized: bool,
    fontsize: float,
    labels: tuple[str, str] = ("Predicted class", "True class"),
) -> None:
    """Draws a confusion matrix; the colour is always the share of the row, `labels` are those of x and y."""
    sums = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, sums, out=np.zeros(counts.shape), where=sums > 0)
    # opacity and no scale of colours: on a dark page a cell of few images is as dark as the page
    mesh = ax.pcolormesh(shares, cmap=ListedColormap([DEEP]), edgecolors=PAPER, linewidth=0.8, alpha=shares)
    mesh.set_edgecolor(PAPER)
    for row, column in np.argwhere(counts > 0):
        share = shares[row, column]
        # below 1% a cell is blank: ten in a thousand says nothing and hides what does
        if normalized and share < 0.01:
            continue
        text = f"{100 * share:.0f}" if normalized else f"{counts[row, column]:,}"
        ax.text(
            column + 0.5,
            row + 0.5,
            text,
            ha="center",
            va="center",
            fontsize=fontsize,
            color=ON_DEEP if share > 0.6 else INK,
        )
    ticks, names = np.arange(len(class_names)) + 0.5, [cut_label(name) for name in class_names]
    ax.set_xticks(ticks, names, fontsize=fontsize + 0.5)
    if max(map(len, names)) > 2:  # digits need no slant
        for label in ax.get_xticklabels():
            label.set(rotation=45, ha="right", rotation_mode="anchor")
    ax.set_yticks(ticks, names, fontsize=fontsize + 0.5)
    ax.invert_yaxis()
    ax.set_aspect("equal")
    ax.set_xlabel(labels[0])
    ax.set_ylabel(labels[1])
    hide_frame(ax)
