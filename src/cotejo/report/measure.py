"""The metric of a search, in words."""

from typing import NamedTuple

from cotejo.report.wording import Wording


class Measure(NamedTuple):
    """Name and format of the search's metric.

    Attributes:
        name: In the middle of a sentence.
        is_share: Whether it is a fraction, said in percent.
        is_higher_better: Which values are better.
    """

    name: str
    is_share: bool
    is_higher_better: bool

    def say(self, wording: Wording, value: float | None) -> str:
        """Formats a value."""
        return wording.percent(value, 2) if self.is_share else wording.number(value, 4)

    def say_difference(self, wording: Wording, value: float) -> str:
        """Formats a difference without its sign, and without its unit."""
        return wording.points(abs(value)) if self.is_share else wording.number(abs(value), 4)

    def say_signed(self, wording: Wording, value: float) -> str:
        """Formats a difference with its sign."""
        return wording.signed_points(value) if self.is_share else wording.signed(value, 4)


def find_measure(metric: str) -> Measure:
    """Returns how a metric is said, by its name in `search.metric`."""
    if metric == "val_accuracy":
        return Measure("validation accuracy", is_share=True, is_higher_better=True)
    return Measure("validation cross-entropy", is_share=False, is_higher_better=False)
