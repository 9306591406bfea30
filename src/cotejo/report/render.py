"""The report in HTML, Markdown and JSON: three views of one `Comparison`."""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import PackageLoader
from markupsafe import Markup
from matplotlib.figure import Figure

from cotejo.comparison.records import Comparison
from cotejo.report.figures.comparison import build_report_figures
from cotejo.report.gallery import Pixels, build_galleries
from cotejo.report.sentences import Sentences
from cotejo.report.style import render_svg
from cotejo.report.tables import build_tables
from cotejo.report.wording import Wording, build_environment, load_locale

#: Significant digits of a number in the JSON: more than any clock or sample holds, fewer than platforms disagree in.
SIGNIFICANT_DIGITS = 6
#: What means something in Markdown wherever it stands; `<` and `&` only where a tag or an entity can begin, so that
#: "p < 0.001" stays.
MARKS = re.compile(r"[\\`*_{}\[\]>#|~]|<(?=[A-Za-z/!?])|&(?=[#\w])")


def save_report(
    comparison: Comparison,
    histories: Mapping[str, pd.DataFrame],
    language: str,
    html: Path,
    data: Path,
    markdown: Path,
    *,
    gallery: Mapping[int, Pixels],
) -> None:
    """Writes the report in its three forms, all from the same object, so that they can't disagree.

    Args:
        comparison: The comparison.
        histories: By model the columns seed, epoch (from 1), cross_entropy, accuracy, val_cross_entropy,
            val_accuracy.
        language: en or es.
        html: The page.
        data: The JSON file.
        markdown: The Markdown file.
        gallery: By index the test images to show, uint8 of shape (height, width, channels).
    """
    figures = build_report_figures(comparison, histories, language)
    html.write_text(render_html(comparison, figures, language, gallery=gallery), encoding="utf-8")
    data.write_text(render_json(comparison), encoding="utf-8")
    markdown.write_text(render_markdown(comparison, language), encoding="utf-8")


def render_html(
    comparison: Comparison, figures: Mapping[str, Figure], language: str, *, gallery: Mapping[int, Pixels]
) -> str:
    """Renders the report as one self-contained page: no request leaves it.

    Args:
        comparison: The comparison.
        figures: By name, as `build_report_figures` builds them; one that is missing is left out.
        language: en or es.
        gallery: By index the test images to show, uint8 of shape (height, width, channels).
    """
    pictures = {name: Markup(render_svg(figure, name)) for name, figure in figures.items()}  # noqa: S704 - our own SVG
    galleries = build_galleries(comparison, gallery)
    return _render("report.html.j2", comparison, language, figures=pictures, galleries=galleries)


def render_markdown(comparison: Comparison, language: str) -> str:
    """Renders the short report for pull requests and terminals.

    Args:
        comparison: The comparison.
        language: en or es.
    """
    return _render("report.md.j2", comparison, language)


def render_json(comparison: Comparison) -> str:
    """Renders every number of the comparison, keys in a fixed order; what isn't a finite number is null."""
    return json.dumps(_clean(asdict(comparison)), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _render(template: str, comparison: Comparison, language: str, **more: Any) -> str:  # noqa: ANN401
    is_html = template.endswith(".html.j2")
    environment = build_environment(language, autoescape=True)
    if not is_html:
        environment.finalize = _escape_markdown
    environment.loader = PackageLoader("cotejo.report")
    locale = load_locale(language)
    sentences = Sentences(environment, locale["findings"], comparison=comparison)
    return environment.get_template(template).render(
        comparison=comparison,
        language=language,
        locale=locale,
        say=sentences.render,
        find=sentences.render_finding,
        tables=build_tables(comparison, Wording(language), sentences.render),
        facts=_list_facts(comparison),
        **more,
    )


def _escape_markdown(value: Any) -> Markup:  # noqa: ANN401 - whatever a template shows
    """Keeps what stands in a name from being Markdown or HTML; Jinja then takes it for escaped already."""
    if isinstance(value, Markup):
        return value
    text = str(value).replace("\n", "\\n")  # a line break would end a table's row
    return Markup(MARKS.sub(r"\\\g<0>", text))  # noqa: S704 - it has just been escaped


def _list_facts(comparison: Comparison) -> dict[str, Any]:
    """Picks the facts of the data and lineage that may be missing, so that templates needn't ask."""
    source = comparison.dataset.get("source") or {}
    facts = comparison.facts
    return {
        "title": source.get("title") or comparison.dataset["name"],
        "homepage": source.get("homepage"),
        "licence": source.get("licence"),
        "commit": facts.get("git_commit"),
        "is_dirty": bool(facts.get("dirty")),
        "experiment": facts.get("dvc_exp_name"),
        "weights": facts.get("weights"),
        "backbone": facts.get("backbone"),
    }


def _clean(value: Any) -> Any:  # noqa: ANN401 - walks any JSON tree
    if isinstance(value, Mapping):
        return {str(key): _clean(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_clean(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.{SIGNIFICANT_DIGITS}g}") if math.isfinite(value) else None
    return value
