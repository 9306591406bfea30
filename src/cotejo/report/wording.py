"""The words and number formats of a language."""

import json
from collections.abc import Callable, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined

from cotejo.errors import ParamsError
from cotejo.params import parse_yaml

MINUS = "\u2212"
#: Stands for a number that isn't there, in every language.
MISSING = "\u2013"
LANGUAGES = ("en", "es")


@cache
def load_locale(language: str) -> dict[str, Any]:
    """Reads the words of a language; those of the page of a search stand below `search`.

    Args:
        language: en or es.

    Raises:
        ParamsError: There is no such language.
    """
    if language not in LANGUAGES:
        raise ParamsError(where="compare.language", expected=f"one of {', '.join(LANGUAGES)}", received=f"{language!r}")
    folder = files("cotejo.report").joinpath("locales")
    shared, search = (
        parse_yaml(folder.joinpath(f"{name}{language}.yaml").read_text(encoding="utf-8")) for name in ("", "search.")
    )
    findings = {**shared["findings"], **search.pop("findings")}
    return {**shared, "search": search, "findings": findings}


class Wording:
    """Formats numbers as a language writes them. Every method is a filter of the templates, under its own name."""

    def __init__(self, language: str) -> None:
        self.locale = load_locale(language)
        self._format = self.locale["number"]

    def number(self, value: float | None, digits: int = 2) -> str:
        """Formats a number with a fixed count of decimals; a missing number is a dash."""
        if value is None:
            return MISSING
        text = f"{abs(value):,.{digits}f}"
        whole, _, decimals = text.partition(".")
        if self._format["group_from"] > len(whole.replace(",", "")):
            whole = whole.replace(",", "")
        whole = whole.replace(",", self._format["thousands"])
        # what rounds to 0 has no sign: "-0.0" reads like a finding
        sign = MINUS if value < 0 and text.strip("0.,") else ""
        return sign + whole + (self._format["decimal"] + decimals if decimals else "")

    def integer(self, value: float | None) -> str:
        """Formats a whole number."""
        return self.number(value, 0)

    def average(self, value: float) -> str:
        """Formats a mean of whole numbers: 7, or 7.3."""
        return self.number(value, 0 if value == round(value) else 1)

    def percent(self, fraction: float | None, digits: int = 1) -> str:
        """Formats a fraction as a percentage."""
        return MISSING if fraction is None else self.number(100 * fraction, digits) + self._format["percent"]

    def exact(self, value: float) -> str:
        """Formats a number that was set, not measured, with all its decimals (of up to ten)."""
        # 1 - 0.995 is 0.0050000000000000044
        return self.number(value, len(f"{value:.10f}".rstrip("0").partition(".")[2]))

    def confidence(self, fraction: float) -> str:
        """Formats a confidence as a percentage with all its decimals: 95%, 99.5%."""
        return self.exact(100 * fraction) + str(self._format["percent"])

    def points(self, fraction: float, digits: int = 2) -> str:
        """Formats a difference of two fractions in points of percent."""
        return self.number(100 * fraction, digits)

    def signed_points(self, fraction: float, digits: int = 2) -> str:
        """Formats a difference in points of percent with its sign."""
        return self._sign(self.points(fraction, digits))

    def signed(self, value: float, digits: int = 3) -> str:
        """Formats a difference with its sign."""
        return self._sign(self.number(value, digits))

    def ratio(self, value: float) -> str:
        """Formats a ratio with as many decimals as it can bear."""
        return self.number(value, 0 if value >= 100 else 1 if value >= 1 else 2)

    def p_value(self, value: float) -> str:
        """Formats a p value; small ones as a bound."""
        return f"<\u202f{self.number(0.001, 3)}" if value < 0.001 else self.number(value, 3)

    def duration(self, seconds: float | None) -> str:
        """Formats a time in the unit that suits it."""
        if seconds is None:
            return MISSING
        if seconds < 0.1:
            return f"{self.number(1000 * seconds, 2 if seconds < 0.01 else 1)}\u00a0ms"
        if seconds < 10:
            return f"{self.number(seconds, 2 if seconds < 1 else 1)}\u00a0s"
        whole = round(seconds)
        if whole < 60:
            return f"{whole}\u00a0s"
        if whole < 3600:
            return _join_units(whole, "min", "s")
        return _join_units(round(seconds / 60), "h", "min")

    def size(self, num_bytes: float | None) -> str:
        """Formats a size in kB, MB or GB (powers of 1,000)."""
        if num_bytes is None:
            return MISSING
        for unit, scale in (("GB", 1e9), ("MB", 1e6)):
            if num_bytes >= scale:
                return f"{self.number(num_bytes / scale, 0 if num_bytes >= 100 * scale else 1)}\u00a0{unit}"
        return f"{self.number(num_bytes / 1e3, 0)}\u00a0kB"

    def compact(self, count: float | None) -> str:
        """Formats a count in thousands (k), millions (M) or billions of them (G), to three figures."""
        if count is None:
            return MISSING
        for unit, scale in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
            if count >= scale:
                amount = count / scale
                # a round one without its zeros, as the marks of an axis are
                digits = 0 if amount >= 100 or amount == int(amount) else 1 if amount >= 10 else 2
                return f"{self.number(amount, digits)}\u00a0{unit}"
        return self.integer(count)

    def model(self, name: str) -> str:
        """Returns the title of a model; the name itself, if it isn't the study's."""
        return str(self.locale["models"].get(name, name))

    def pair(self, candidate: str, baseline: str) -> str:
        """Returns the name of a difference: the first model minus the second."""
        return f"{self.model(candidate)} – {self.model(baseline)}"

    def listing(self, items: Sequence[str]) -> str:
        """Joins items as a sentence does: `a, b and c`."""
        if len(items) < 2:
            return "".join(items)
        return f"{', '.join(items[:-1])} {self._format['and']} {items[-1]}"

    def _sign(self, text: str) -> str:
        is_zero = not text.strip("0.,")
        return text if is_zero or text.startswith(MINUS) else f"+{text}"


def write_value(value: Any) -> str:  # noqa: ANN401 - a parameter is any YAML value
    """Writes a parameter as `params.yaml` would."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _join_units(amount: int, large: str, small: str) -> str:
    """Formats an amount of the smaller of two units of which sixty make one of the larger."""
    rest = f" {amount % 60:02d}\u00a0{small}" if amount % 60 else ""
    return f"{amount // 60}\u00a0{large}{rest}"


def build_environment(language: str, *, autoescape: bool) -> Environment:
    """Builds a Jinja environment whose filters say numbers as the language does.

    Args:
        language: en or es.
        autoescape: Whether what templates show is escaped, as HTML unless a `finalize` has done it otherwise.
    """
    # a report with a hole in it must not come out: StrictUndefined
    environment = Environment(
        autoescape=autoescape,  # noqa: S701 - off where revisions are compared, as text
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    wording = Wording(language)
    methods = (
        "number",
        "integer",
        "percent",
        "exact",
        "confidence",
        "points",
        "signed_points",
        "signed",
        "ratio",
        "p_value",
        "duration",
        "size",
        "compact",
        "average",
        "model",
        "listing",
    )
    filters: dict[str, Callable[..., Any]] = {name: getattr(wording, name) for name in methods}
    environment.filters.update(filters)
    return environment
