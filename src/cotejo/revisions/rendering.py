"""Revisions side by side as a table for a terminal, as Markdown and as JSON: three views of one object."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import cache
from importlib.resources import files
from typing import Any

from cotejo.lineage.digests import SHORT
from cotejo.params import parse_yaml
from cotejo.report import layout
from cotejo.report.layout import Cell, Column, Table
from cotejo.report.sentences import Sentences
from cotejo.report.wording import MISSING, build_environment, load_locale, write_value
from cotejo.revisions.contrast import SAME, Change, Contrast, RevisedModel, SideBySide

#: Changes that a row names one by one; the JSON has all.
MAX_NAMED = 3


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
    renderer = _SideBySideRenderer(side_by_side, language, is_markdown=style == "markdown")
    return renderer.render_json() if style == "json" else renderer.render_text()


class _SideBySideRenderer:
    """Renders a side-by-side in one language and form."""

    def __init__(self, side_by_side: SideBySide, language: str, *, is_markdown: bool) -> None:
        self.compared = side_by_side
        self.words = load_words(language)
        self.is_markdown = is_markdown
        environment = build_environment(language, autoescape=False)
        self.filters = environment.filters
        # the report's sentences speak of models; here the same sentences speak of revisions
        self.say_model: Callable[[str], str] = self.filters["model"]
        self.filters["model"] = self.name
        self.sentences = Sentences(environment, {**self.words["findings"], SAME: self.words[SAME]})
        self.say = self.sentences.render
        self.is_adjusted = sum(not found.is_identical for found in side_by_side.contrasts) > 1

    def name(self, revision: str) -> str:
        """Returns a revision's name; as code where its underscores and stars would become something else."""
        return f"`{revision}`" if self.is_markdown else revision

    def render_text(self) -> str:
        """Returns the page for a person: who is better, the revisions, the differences."""
        compared, title = self.compared, self.words["title"]
        parts = [f"## {self.say(title, revisions=[self.name(name) for name in compared.revisions])}"]
        if compared.contrasts:
            parts.append("\n".join(map(self._conclude, compared.contrasts)))
        mark = "> ⚠" if self.is_markdown else "⚠"
        parts += [f"{mark} {self.sentences.render_finding(warning)}" for warning in compared.warnings]
        parts.append(self._lay_out(self._build_rows()))
        if compared.contrasts:
            note = self.say(
                self.words["note"],
                first=self.name(compared.first),
                data=compared.dataset,
                confidence=compared.confidence,
                is_adjusted=self.is_adjusted,
            )
            parts += [self._lay_out(self._build_contrasts()), note]
        if not self.is_markdown:
            parts[0], parts[-1] = parts[0].removeprefix("## "), parts[-1].replace("`", "")
        return "\n\n".join(parts) + "\n"

    def render_json(self) -> str:
        """Returns every number, with the conclusions in words too."""
        tree, say = asdict(self.compared), self.sentences.render_finding
        for contrast, found in zip(tree["contrasts"], self.compared.contrasts, strict=True):
            contrast["verdict"] = {"key": found.verdict.key, "text": say(found.verdict)}
        tree["warnings"] = [{"key": found.key, "text": say(found)} for found in self.compared.warnings]
        return json.dumps(tree, indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    def _conclude(self, contrast: Contrast) -> str:
        model, said = self.say_model(contrast.model), self.sentences.render_finding(contrast.verdict)
        return f"- **{model}:** {said}" if self.is_markdown else f"{model}: {said}"

    def _build_rows(self) -> Table:
        filters, first = self.filters, self.name(self.compared.first)
        confidences = {row.confidence for row in self.compared.rows}
        interval = "interval" if len(confidences) == 1 else "intervals"
        columns = (
            *(self._head(key) for key in ("model", "revision", "commit")),
            self._name("accuracy"),
            self._name(interval, confidence=self.compared.rows[0].confidence),
            *(self._name(key) for key in ("seeds", "macro_f1", "train_time", "parameters")),
            self._head("changes", first=first),
        )
        rows = []
        for row in self.compared.rows:
            low, high = (filters["percent"](value, 2) for value in (row.test_accuracy_low, row.test_accuracy_high))
            own = "" if len(confidences) == 1 else f" ({filters['confidence'](row.confidence)})"
            rows.append(
                self._lay_row(
                    row.model,
                    row.revision,
                    (row.commit or MISSING)[:SHORT],
                    filters["percent"](row.test_accuracy, 2),
                    f"{low} – {high}{own}",
                    str(row.num_seeds),
                    filters["number"](row.test_macro_f1, 3),
                    filters["duration"](row.train_time_s),
                    filters["integer"](row.parameters),
                    self._list_changes(row),
                )
            )
        return Table(columns, tuple(rows))

    def _list_changes(self, row: RevisedModel) -> str:
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

    def _build_contrasts(self) -> Table:
        filters, first = self.filters, self.name(self.compared.first)
        columns = (
            *(self._head(key) for key in ("model", "revision")),
            self._name("other", first=first),
            self._name("interval", confidence=self.compared.confidence),
            *(self._name(key) for key in ("p_value", "p_adjusted")),
            self._head("decision"),
        )
        rows = (
            self._lay_row(
                found.model,
                found.revision,
                filters["signed_points"](found.value),
                f"{filters['signed_points'](found.low)} … {filters['signed_points'](found.high)}",
                filters["p_value"](found.p_value),
                filters["p_value"](found.p_adjusted),
                self._decide(found),
            )
            for found in self.compared.contrasts
        )
        return Table(columns, tuple(rows))

    def _lay_row(self, model: str, revision: str, *texts: str) -> layout.Row:
        return layout.Row(self.say_model(model), tuple(map(Cell, (self.name(revision), *texts))))

    def _head(self, key: str, **values: Any) -> Column:  # noqa: ANN401 - a template's values
        return self._name(key, **values)._replace(is_number=False)

    def _name(self, key: str, **values: Any) -> Column:  # noqa: ANN401
        return Column(self.say(self.words["columns"][key], **values))

    def _decide(self, contrast: Contrast) -> str:
        if contrast.is_identical:
            return str(self.words["identical"])
        return self.say(self.words["decisions"][contrast.verdict.key], winner=contrast.winner)

    def _lay_out(self, table: Table) -> str:
        return _lay_out_markdown(table) if self.is_markdown else _lay_out_plain(table)


def _lay_out_markdown(table: Table) -> str:
    rule = ["--:" if column.is_number else "---" for column in table.columns]
    # a bar in a branch's name would start a new cell
    lines = [[text.replace("|", "\\|") for text in line] for line in _list_lines(table)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (lines[0], rule, *lines[1:]))


def _lay_out_plain(table: Table) -> str:
    lines = _list_lines(table)
    widths = [max(map(len, texts)) for texts in zip(*lines, strict=True)]

    def lay_out(line: Sequence[str]) -> str:
        cells = (
            text.rjust(width) if column.is_number else text.ljust(width)
            for text, width, column in zip(line, widths, table.columns, strict=True)
        )
        return "  ".join(cells).rstrip()

    return "\n".join(map(lay_out, lines))


def _list_lines(table: Table) -> list[list[str]]:
    """Lists the texts of a table line by line, the headings first."""
    rows = ([row.head, *(cell.text for cell in row.cells)] for row in table.rows)
    return [[column.label for column in table.columns], *rows]
