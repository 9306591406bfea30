"""Revisions side by side as a table for a terminal, as Markdown and as JSON: three views of one object."""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import cache
from importlib.resources import files
from typing import Any

from cotejo.comparison.records import Finding
from cotejo.lineage.digests import SHORT
from cotejo.params import parse_yaml
from cotejo.report.wording import MISSING, build_environment, load_locale, write_value
from cotejo.revisions.contrast import SAME, Change, Contrast, Row, SideBySide

#: Changes that a row names one by one; the JSON has all.
MAX_NAMED = 3

#: A table: headings, an alignment a column (l or r), rows.
Table = tuple[list[str], str, list[list[str]]]


@cache
def load_words(language: str) -> dict[str, Any]:
    """Reads the words of this command, beside those in which the report says findings and decisions.

    Args:
        language: en or es.
    """
    text = files("cotejo.revisions").joinpath("locales", f"{language}.yaml").read_text(encoding="utf-8")
    words: dict[str, Any] = parse_yaml(text)
    return {**{key: load_locale(language)[key] for key in ("models", "findings", "decisions")}, **words}


def render(side_by_side: SideBySide, style: str, language: str) -> str:
    """Renders revisions side by side.

    Args:
        side_by_side: The revisions.
        style: table, markdown or json.
        language: en or es.
    """
    renderer = _Renderer(side_by_side, language, is_markdown=style == "markdown")
    return renderer.render_json() if style == "json" else renderer.render_text()


class _Renderer:
    """Says a side-by-side in one language and form."""

    def __init__(self, side_by_side: SideBySide, language: str, *, is_markdown: bool) -> None:
        self.compared = side_by_side
        self.words = load_words(language)
        self.is_markdown = is_markdown
        self.environment = build_environment(language, autoescape=False)
        # the report's sentences speak of models; here the same sentences speak of revisions
        self.say_model: Callable[[str], str] = self.environment.filters["model"]
        self.environment.filters["model"] = self.name
        self.is_adjusted = sum(not found.is_identical for found in side_by_side.contrasts) > 1

    def name(self, revision: str) -> str:
        """Says a revision's name; as code where its underscores and stars would become something else."""
        return f"`{revision}`" if self.is_markdown else revision

    def say(self, text: str, **values: Any) -> str:  # noqa: ANN401 - a template's values
        """Fills in a text of the locale."""
        # plain blanks only: the no-break spaces in numbers must stay
        return re.sub(r"[ \n]+", " ", self.environment.from_string(text).render(**values)).strip(" ")

    def say_finding(self, finding: Finding) -> str:
        """Says a conclusion in the report's words."""
        words = self.words if finding.key == SAME else self.words["findings"]
        return self.say(words[finding.key], **finding.values)

    def render_text(self) -> str:
        """Returns the page for a person: who is better, the revisions, the differences."""
        compared, title = self.compared, self.words["title"]
        parts = [f"## {self.say(title, revisions=[self.name(name) for name in compared.revisions])}"]
        if compared.contrasts:
            parts.append("\n".join(map(self._conclude, compared.contrasts)))
        mark = "> ⚠" if self.is_markdown else "⚠"
        parts += [f"{mark} {self.say_finding(warning)}" for warning in compared.warnings]
        parts.append(self._lay_out(self._list_rows()))
        if compared.contrasts:
            note = self.say(
                self.words["note"],
                first=self.name(compared.first),
                data=compared.dataset,
                confidence=compared.confidence,
                is_adjusted=self.is_adjusted,
            )
            parts += [self._lay_out(self._list_contrasts()), note]
        if not self.is_markdown:
            parts[0], parts[-1] = parts[0].removeprefix("## "), parts[-1].replace("`", "")
        return "\n\n".join(parts) + "\n"

    def render_json(self) -> str:
        """Returns every number, with the conclusions in words too."""
        tree = asdict(self.compared)
        for contrast, found in zip(tree["contrasts"], self.compared.contrasts, strict=True):
            contrast["verdict"] = {"key": found.verdict.key, "text": self.say_finding(found.verdict)}
        tree["warnings"] = [{"key": found.key, "text": self.say_finding(found)} for found in self.compared.warnings]
        return json.dumps(tree, indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    def _conclude(self, contrast: Contrast) -> str:
        model, said = self.say_model(contrast.model), self.say_finding(contrast.verdict)
        return f"- **{model}:** {said}" if self.is_markdown else f"{model}: {said}"

    def _list_rows(self) -> Table:
        filters, named = self.environment.filters, self.words["columns"]
        first = self.name(self.compared.first)
        confidences = {row.confidence for row in self.compared.rows}
        interval = named["interval" if len(confidences) == 1 else "intervals"]
        headings = [
            named["model"],
            named["revision"],
            named["commit"],
            named["accuracy"],
            self.say(interval, confidence=self.compared.rows[0].confidence),
            named["seeds"],
            named["macro_f1"],
            named["train_time"],
            named["parameters"],
            self.say(named["changes"], first=first),
        ]
        rows = []
        for row in self.compared.rows:
            low, high = (filters["percent"](value, 2) for value in (row.test_accuracy_low, row.test_accuracy_high))
            own = "" if len(confidences) == 1 else f" ({filters['confidence'](row.confidence)})"
            rows.append(
                [
                    self.say_model(row.model),
                    self.name(row.revision),
                    (row.commit or MISSING)[:SHORT],
                    filters["percent"](row.test_accuracy, 2),
                    f"{low} – {high}{own}",
                    str(row.num_seeds),
                    filters["number"](row.test_macro_f1, 3),
                    filters["duration"](row.train_time_s),
                    filters["integer"](row.parameters),
                    self._list_changes(row),
                ]
            )
        return headings, "lllrrrrrrl", rows

    def _list_changes(self, row: Row) -> str:
        said = [self._say_change(change) for change in row.changes[:MAX_NAMED]]
        if len(row.changes) > MAX_NAMED:
            said.append(self.say(self.words["more"], count=len(row.changes) - MAX_NAMED))
        if number := len(row.changed_sources):
            said.append(self.say(self.words["sources"]["one" if number == 1 else "many"], count=number))
        return ", ".join(said)

    def _say_change(self, change: Change) -> str:
        new, old = (
            self.words["gone"] if value is None else write_value(value) for value in (change.value, change.first)
        )
        return f"{change.key} {new} ({old})"

    def _list_contrasts(self) -> Table:
        filters, named = self.environment.filters, self.words["columns"]
        headings = [
            named["model"],
            named["revision"],
            self.say(named["other"], first=self.name(self.compared.first)),
            self.say(named["interval"], confidence=self.compared.confidence),
            named["p_value"],
            named["p_adjusted"],
            named["decision"],
        ]
        rows = [
            [
                self.say_model(found.model),
                self.name(found.revision),
                filters["signed_points"](found.value),
                f"{filters['signed_points'](found.low)} … {filters['signed_points'](found.high)}",
                filters["p_value"](found.p_value),
                filters["p_value"](found.p_adjusted),
                self._decide(found),
            ]
            for found in self.compared.contrasts
        ]
        return headings, "llrrrrl", rows

    def _decide(self, contrast: Contrast) -> str:
        if contrast.is_identical:
            return str(self.words["identical"])
        return self.say(self.words["decisions"][contrast.verdict.key], winner=contrast.winner)

    def _lay_out(self, table: Table) -> str:
        return _lay_out_markdown(table) if self.is_markdown else _lay_out_plain(table)


def _lay_out_markdown(table: Table) -> str:
    headings, sides, rows = table
    rule = ["---" if side == "l" else "--:" for side in sides]
    # a bar in a branch's name would start a new cell
    cells = [[cell.replace("|", "\\|") for cell in row] for row in (headings, *rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (cells[0], rule, *cells[1:]))


def _lay_out_plain(table: Table) -> str:
    headings, sides, rows = table
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]

    def lay_out(row: Sequence[str]) -> str:
        cells = (
            cell.ljust(width) if side == "l" else cell.rjust(width)
            for cell, width, side in zip(row, widths, sides, strict=True)
        )
        return "  ".join(cells).rstrip()

    return "\n".join(map(lay_out, (headings, *rows)))
