"""Formats the ticks of an axis."""

import itertools
from collections.abc import Sequence
from typing import Any

from matplotlib.ticker import Formatter, FuncFormatter

from cotejo.report.wording import Wording


def format_axis(axis: Any, say: Any) -> None:  # noqa: ANN401 - matplotlib's axes have no common public type
    """Writes an axis's ticks through a function from value to text."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: say(value)))


def choose_digits(ticks: Sequence[float]) -> int:
    """Returns the decimals that tell neighbouring ticks apart."""
    step = min((b - a for a, b in itertools.pairwise(ticks) if b > a), default=1.0)
    return max(0, -int(f"{step:e}".split("e")[1]) + (f"{step:.1e}"[2] != "0"))


class _NumberFormatter(Formatter):
    """Writes numbers with as many decimals as tell the ticks apart, which are settled only when they are drawn."""

    def __init__(self, wording: Wording, scale: float, unit: str) -> None:
        self.wording, self.scale, self.unit = wording, scale, unit

    def format_ticks(self, values: Sequence[float]) -> list[str]:
        """Writes all ticks of the axis at once: asking the axis for them at each of them costs seconds."""
        return self._write(values, values)

    def __call__(self, value: float, pos: int | None = None) -> str:
        axis: Any = self.axis  # matplotlib sets it
        return self._write([value], axis.get_majorticklocs())[0]

    def _write(self, values: Sequence[float], ticks: Sequence[float]) -> list[str]:
        digits = choose_digits([tick * self.scale for tick in ticks])
        return [self.wording.number(value * self.scale, digits) + self.unit for value in values]


def format_numbers(axis: Any, wording: Wording, *, scale: float = 1.0, unit: str = "") -> None:  # noqa: ANN401
    """Writes an axis's ticks as the language writes numbers, multiplied by `scale`."""
    axis.set_major_formatter(_NumberFormatter(wording, scale, unit))
