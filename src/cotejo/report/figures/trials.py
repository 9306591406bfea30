"""Marks and colours of a search's trials, the same in every figure."""

from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes

from cotejo.report.axes import format_numbers
from cotejo.report.measure import Measure
from cotejo.report.searched import Floats, Searched
from cotejo.report.style import BLUE, INK, ORANGE, VERMILLION
from cotejo.report.wording import Wording

#: More marks than this are drawn as pixels: as shapes, ten thousand would make a page of many megabytes.
MOST_SHAPES = 400
#: How far below the median the worst shown trial lies, in distances from the median to the best.
REACH = 2.0


class Look(NamedTuple):
    """The look of the trials that ended in a state: two of them differ in shape and lightness, not in colour alone."""

    state: str
    marker: str
    colour: str

    def get_word(self, wording: Wording) -> str:
        """Returns what a legend calls such trials."""
        return str(wording.locale["search"]["figures"]["states"][self.state])


LOOKS = (
    Look("COMPLETE", "o", BLUE),
    Look("PRUNED", "x", ORANGE),
    Look("FAIL", "v", VERMILLION),
)
BEST: Any = {"marker": "*", "color": INK, "markersize": 13, "markeredgecolor": "white", "linestyle": "", "zorder": 5}
PRESENT: Any = {
    "marker": "D",
    "color": "white",
    "markersize": 7,
    "markeredgecolor": INK,
    "markeredgewidth": 1.4,
    "linestyle": "",
    "zorder": 5,
}


def style_marks(look: Look, count: int) -> dict[str, Any]:
    """Returns the look of a number of marks: many are small and let each other shine through."""
    return {
        "marker": look.marker,
        "color": look.colour,
        "markersize": 6 if count <= 200 else 4 if count <= 2000 else 2.5,
        "markeredgewidth": 1.4 if look.marker == "x" else 0,
        "alpha": 0.85 if count <= 200 else 0.5 if count <= 2000 else 0.25,
        "linestyle": "",
        "rasterized": count > MOST_SHAPES,
        "zorder": 3.2 if look.state == "COMPLETE" else 3,  # what ended is seen above what was stopped
    }


def draw_marks(ax: Axes, look: Look, x: Floats, y: Floats, *, count: int, word: str) -> None:
    """Draws a mark per trial, and one for the legend, which stays readable where many are small and faint.

    Args:
        ax: The axes.
        look: The state's look.
        x: Places.
        y: Values.
        count: Marks in the whole figure.
        word: Name of these marks in the legend.
    """
    if len(x):
        ax.plot([], [], label=word, **style_marks(look, 1))
        ax.plot(x, y, clip_on=False, **style_marks(look, count))


def compute_window(values: Floats, measure: Measure) -> tuple[float, float]:
    """Returns the values between which trials can be told apart; a few hopeless ones must not squeeze the rest.

    Args:
        values: Those of the trials that have one; may be empty.
        measure: The metric.

    Returns:
        The lowest and the highest value to show; beyond them trials are drawn on the edge.
    """
    if not len(values):
        return 0.0, 1.0
    sign = 1 if measure.is_higher_better else -1
    best, median, worst = max(sign * values), float(np.median(sign * values)), min(sign * values)
    edge = max(worst, median - REACH * (best - median)) if best > median else worst
    pad = 0.06 * (best - edge) or 0.01
    low, high = sorted((sign * (edge - pad), sign * (best + pad)))
    return low, high


def place_values(values: Floats, window: tuple[float, float], measure: Measure) -> Floats:
    """Moves values beyond the window onto its edge; trials without a value are on the worse one."""
    worse = window[0] if measure.is_higher_better else window[1]
    return np.clip(np.where(np.isfinite(values), values, worse), *window)


def find_rows(searched: Searched) -> tuple[int | None, int]:
    """Returns the numbers of the best trial and of the one with the declared values."""
    return searched.summary["best"]["number"], 0


def format_measure(axis: Any, measure: Measure, wording: Wording) -> None:  # noqa: ANN401 - matplotlib's
    """Writes an axis's ticks in the metric's unit."""
    if measure.is_share:
        format_numbers(axis, wording, scale=100, unit=wording.locale["number"]["percent"])
    else:
        format_numbers(axis, wording)


def put_legend(ax: Axes, columns: int) -> None:
    """Draws the legend above the axes, where it hides no trial."""
    ax.legend(
        loc="lower left",
        bbox_to_anchor=(0, 1.0),
        ncols=columns,
        fontsize=10,
        borderaxespad=0.2,
        markerscale=1,
        handletextpad=0.4,
        columnspacing=1.4,
    )
