"""Formats the ticks of an axis."""

import itertools
from collections.abc import Sequence
from typing import Any

from matplotlib.ticker import FuncFormatter

from cotejo.report.wording import Wording


def format_axis(axis: Any, say: Any) -> None:  # noqa: ANN401 - matplotlib's axes have no common public type
    """Writes an axis's ticks through a function from value to text."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: say(value)))


def choose_digits(ticks: Sequence[float]) -> int:
    """Returns the decimals that tell neighbouring ticks apart."""
    step = min((b - a for a, b in itertools.pairwise(ticks) if b > a), default=1.0)
    return max(0, -int(f"{step:e}".split("e")[1]) + (f"{step:.1e}"[2] != "0"))


def format_numbers(axis: Any, wording: Wording, *, scale: float = 1.0, unit: str = "") -> None:  # noqa: ANN401
    """Writes an axis's ticks as the language writes numbers, multiplied by `scale`."""

    def say(value: float) -> str:
        # the layout settles the ticks last; while they are drawn the formatter has them, and asking again costs seconds
        ticks = axis.get_major_formatter().locs
        digits = choose_digits([tick * scale for tick in (ticks if len(ticks) else axis.get_majorticklocs())])
        return wording.number(value * scale, digits) + unit

    format_axis(axis, say)
