"""The metric of a search in a language: its name, and its values."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from cotejo.report.wording import Wording


class Measure(NamedTuple):
    """Format of the search's metric.

    Attributes:
        metric: Its name in `search.metric`.
        is_share: Whether it is a fraction, written in percent.
        is_higher_better: Which values are better.
    """

    metric: str
    is_share: bool
    is_higher_better: bool

    def get_name(self, wording: Wording) -> str:
        """Returns its name in the middle of a sentence."""
        return str(wording.locale["search"]["metrics"][self.metric])

    def format(self, wording: Wording, value: float | None) -> str:
        """Formats a value."""
        return wording.percent(value, 2) if self.is_share else wording.number(value, 4)

    def format_difference(self, wording: Wording, value: float) -> str:
        """Formats a difference without its sign."""
        if not self.is_share:
            return wording.number(abs(value), 4)
        return f"{wording.points(abs(value))} {wording.locale['search']['points']}"

    def format_signed(self, wording: Wording, value: float) -> str:
        """Formats a difference with its sign, and without its unit."""
        return wording.signed_points(value) if self.is_share else wording.signed(value, 4)

    def list_filters(self, wording: Wording) -> dict[str, Callable[..., str]]:
        """Returns the filters by which the locales' texts write the metric's values."""
        return {
            "measured": partial(self.format, wording),
            "measured_difference": partial(self.format_difference, wording),
            "measured_signed": partial(self.format_signed, wording),
        }


def find_measure(metric: str) -> Measure:
    """Returns how a metric is written, by its name in `search.metric`."""
    is_accuracy = metric == "val_accuracy"
    return Measure(metric, is_share=is_accuracy, is_higher_better=is_accuracy)
