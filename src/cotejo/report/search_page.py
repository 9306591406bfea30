"""The page of a search in two languages: its winner, whether the gain is real, and its trials."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import PackageLoader
from markupsafe import Markup
from matplotlib.figure import Figure

from cotejo.report.figures.search import build_search_figures, save_search_figures
from cotejo.report.figures.search_cost import compute_timeline
from cotejo.report.search_tables import build_trials_table, build_values_table
from cotejo.report.search_verdict import (
    build_sentences,
    count_held_out,
    judge_luck,
    judge_search,
    list_notes,
    list_warnings,
)
from cotejo.report.searched import Searched, load_searched
from cotejo.report.sentences import Sentences
from cotejo.report.style import render_svg
from cotejo.report.wording import LANGUAGES, Wording
from cotejo.schema.searches import Search

#: The page in each of `LANGUAGES`. Both are always written: another language is no reason to search again.
PAGES = ("reports/search.html", "reports/search.es.html")


def save_search_report(
    search: Search, reports: Path, timings: Path, facts: Mapping[str, Any], pages: Sequence[Path], folder: Path
) -> None:
    """Writes the page in each language, and the figures.

    Args:
        search: The `search` section.
        reports: The folder with the search's tables.
        timings: The file with the trials' times.
        facts: What the page says of its origin: dataset, git_commit and dirty.
        pages: The HTML file in each of `LANGUAGES`.
        folder: Gets a `.png` per figure without a clock in it, in the first language.
    """
    searched = load_searched(search, reports, timings)
    for language, page in zip(LANGUAGES, pages, strict=True):
        figures = build_search_figures(searched, language)
        page.write_text(render_search_page(searched, facts, figures, language), encoding="utf-8")
        if language == LANGUAGES[0]:
            save_search_figures(figures, folder)


def render_search_page(
    searched: Searched, facts: Mapping[str, Any], figures: Mapping[str, Figure], language: str
) -> str:
    """Renders the search as one self-contained page: no request leaves it.

    Args:
        searched: The search's tables.
        facts: What the page says of its origin: dataset, git_commit and dirty.
        figures: As `build_search_figures` builds them; one that is missing is left out.
        language: en or es.
    """
    wording, summary, timeline = Wording(language), searched.summary, compute_timeline(searched)
    words = wording.locale["search"]
    shared = {
        "search": searched.search,
        "timeline": timeline,
        "max_epochs": int(searched.trials["epochs_run"].max()),
        "important": _list_important(summary, wording),
        "words": words,
    }
    sentences = build_sentences(summary, language, autoescape=True, **shared)
    environment = sentences.environment
    environment.loader = PackageLoader("cotejo.report")
    luck = judge_luck(summary)
    return environment.get_template("search.html.j2").render(
        language=language,
        locale=wording.locale,
        words=words,
        say=sentences.render,
        find=sentences.render_finding,
        summary=summary,
        facts=facts,
        verdict=sentences.render_findings(judge_search(summary)),
        luck=luck and sentences.render_finding(luck),
        warnings=list(list_warnings(summary)),
        notes=list(list_notes(summary)),
        sides=list(_list_sides(summary, sentences, words)),
        values=build_values_table(searched, sentences, wording),
        trials=build_trials_table(searched, sentences, wording),
        captions={name: sentences.render(text) for name, text in words["captions"].items()},
        figures={name: Markup(render_svg(figure, name)) for name, figure in figures.items()},  # noqa: S704 - our own
    )


def _list_important(summary: Mapping[str, Any], wording: Wording) -> str:
    top = sorted(summary["importances"].items(), key=lambda item: -item[1])[:3]
    return wording.listing([f"{key} ({wording.percent(share, 0)})" for key, share in top])


def _list_sides(summary: Mapping[str, Any], sentences: Sentences, words: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Lists the score of the declared values and the winner's: with fresh seeds if any, else the search's own."""
    confirmed, names = summary["confirmation"], words["sides"]
    for side, name in (("present", names["declared"]), ("best", names["best"])):
        scores = confirmed[side] if confirmed else []
        kind, is_held_out = "fresh" if scores else "single", count_held_out(summary) > 0
        yield {
            "name": sentences.render(name, number=summary["best"]["number"]),
            "value": sum(scores) / len(scores) if scores else summary[side]["value"],
            "text": sentences.render(names[kind], num_scores=len(scores), is_held_out=is_held_out),
            "scores": scores,
        }
