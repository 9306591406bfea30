"""The page of a search: what it says first, what it holds, and that nothing leaves it."""

import re
from html.parser import HTMLParser
from typing import get_args

import pytest

from cotejo.data.splits import Dataset
from cotejo.report.figures.search import build_search_figures
from cotejo.report.search_page import render_search_page, save_search_report
from cotejo.report.search_verdict import build_sentences, judge_luck, judge_search, list_notes, list_warnings
from cotejo.report.wording import LANGUAGES, load_locale
from cotejo.schema.searches import Search
from synthetic_search import CONFIRMATION, declare_search, write_search

FACTS = {
    "dataset": Dataset("fashion_mnist", ["a <b>", "c"], (28, 28, 1), "9f3c" * 16),
    "git_commit": "3f9c2d18a0b74e65c1d2e3f405162738495a6b7c",
    "dirty": False,
}


class Page(HTMLParser):
    """Collects what a page shows and what it refers to."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.texts, self.hidden = [], [], False
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.hidden = tag in ("script", "style")

    def handle_endtag(self, tag):
        self.hidden = False

    def handle_data(self, data):
        self.texts += [] if self.hidden else [data]


def make_pages(folder):
    search = declare_search()
    write_search(folder / "in", search=search)
    pages = [folder / f"{language}.html" for language in LANGUAGES]
    save_search_report(search, folder / "in", folder / "in/times.json", FACTS, pages, folder)
    return {language: page.read_text() for language, page in zip(LANGUAGES, pages, strict=True)}


def render_page(searched, *drawn, language="en"):
    """Renders the page with these figures only: each takes a moment to draw."""
    figures = build_search_figures(searched, language) if drawn else {}
    return render_search_page(searched, FACTS, {name: figures[name] for name in drawn}, language)


def say(summary, *findings, language="en"):
    return build_sentences(summary, language, autoescape=False).render_findings(findings)


def say_verdict(summary, language="en"):
    return say(summary, *judge_search(summary), language=language)


def say_luck(summary, language="en"):
    luck = judge_luck(summary)
    return luck and say(summary, luck, language=language)


def read_text(html):
    return " ".join(" ".join(Page(html).texts).split())


def summarize(**changes):
    known = {
        "metric": "val_accuracy", "epochs": 0, "num_trials": 32, "ended_by": "num_trials", "confidence": 0.95,
        "num_by_state": {"COMPLETE": 20, "PRUNED": 12, "FAIL": 0}, "best": {"number": 7, "value": 0.912},
        "present": {"value": 0.9}, "confirmation": CONFIRMATION, "confirm_failures": [],
        "num_selecting": 3001, "num_held_out": 2999, "importances": {},
    }  # fmt: skip
    return {**known, **changes}


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    return make_pages(tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="module")
def html(pages):
    return pages["en"]


def test_a_confirmed_gain_is_said_with_its_interval():
    text = say_verdict(summarize())
    assert text.startswith("The search found better settings: validation accuracy 0.80 points higher with four fr")
    assert "with four fresh seeds on 2,999 held-out images (95% interval +0.30 to +1.30;" in text


def test_an_interval_around_nothing_is_no_finding():
    unclear = {**CONFIRMATION, "verdict": "not decided", "gain": -0.001, "low": -0.01, "high": 0.008}
    text = say_verdict(summarize(confirmation=unclear))
    assert text.startswith(
        "It is not decided whether the search's winner is better than the declared values: validation accuracy 0.10 "
        "points lower with four fresh seeds"
    )


def test_a_winner_that_is_worse_with_fresh_seeds_is_said_to_be():
    worse = {**CONFIRMATION, "verdict": "worse", "gain": -0.008, "low": -0.013, "high": -0.003}
    assert "winner is worse than the declared values" in say_verdict(summarize(confirmation=worse))


def test_lower_cross_entropy_is_better():
    text = say_verdict(summarize(metric="val_cross_entropy"))
    assert "better settings: validation cross-entropy 0.0080 lower" in text
    worse = {**CONFIRMATION, "verdict": "worse", "gain": -0.008}
    text = say_verdict(summarize(metric="val_cross_entropy", confirmation=worse))
    assert "cross-entropy 0.0080 higher" in text


def test_present_values_that_were_never_beaten_are_the_best_found():
    text = say_verdict(summarize(best={"number": 0, "value": 0.9}, confirmation=None))
    assert text == (
        "The declared values are the best found: none of the 31 other trials was better than their "
        "90.00% validation accuracy."
    )


def test_without_fresh_seeds_nothing_is_claimed():
    summary = summarize(confirmation=None)
    assert say_verdict(summary).startswith("Not confirmed: trial 7 reached 91.20%")
    assert say_verdict(summary).endswith("is more than luck is undecided without search.confirm_seeds.")
    assert say_luck(summary) is None


def test_fresh_seeds_that_failed_are_named_as_what_keeps_the_verdict_open():
    failures = ["confirm present seed 100: expected a finite training loss. Received: nan in epoch 2."] * 3
    text = say_verdict(summarize(confirmation=None, confirm_failures=failures))
    assert text.endswith(
        "is undecided, since 3 of the trainings with fresh seeds failed. The first: confirm present seed 100: expected "
        "a finite training loss. Received: nan in epoch 2."
    )
    unclear = {**CONFIRMATION, "seeds": [101, 102, 103], "verdict": "not decided"}
    text = say_verdict(summarize(confirmation=unclear, confirm_failures=failures[:1]))
    assert text.startswith("It is not decided whether the search's winner is better than the declared values: ")
    assert "with three fresh seeds on 2,999 held-out images (95% interval +0.30 to +1.30; above 0 is better), " in text
    assert "better), since 1 of the trainings with fresh seeds failed." in text


def test_luck_is_separated_from_gain():
    text = say_luck(summarize())
    assert text.startswith(
        "The search measured 91.20% for its winner; with fresh seeds it is 90.85% on average on held-out"
    )
    assert "The 0.40 points between them were luck of trainings and images: " in text
    modest = {**CONFIRMATION, "optimism": -0.001}
    assert say_luck(summarize(confirmation=modest)).endswith("The search's own value didn't flatter it.")


OVERESTIMATED = "The images that confirm it chose the winner too, as search.holdout is 0: on average that overestimates"


def test_where_the_images_that_chose_confirm_as_well_it_is_said_plainly(tmp_path):
    own = summarize(num_selecting=6000, num_held_out=0)
    verdict = say_verdict(own)
    assert "with four fresh seeds (95% interval" in verdict
    assert OVERESTIMATED in verdict
    assert OVERESTIMATED in say(own, *list_notes(own))
    assert "were luck of trainings: " in say_luck(own)
    assert "held-out" not in verdict + say_luck(own)
    text = read_text(render_page(write_search(tmp_path, search=declare_search(holdout=0.0), num_held_out=0)))
    assert OVERESTIMATED in text
    assert "3,001 validation images that choose, none held out (search.holdout 0)" in text


def test_a_summary_from_before_images_were_held_out_is_read_as_one_of_the_images_that_chose():
    old = summarize()
    for key in ("num_selecting", "num_held_out"):
        del old[key]
    assert OVERESTIMATED in say_verdict(old)
    assert say_luck(old)


def test_the_page_says_how_many_images_chose_and_how_many_confirm(html):
    text = read_text(html)
    assert "3,001 validation images that choose; 2,999 held out to confirm (search.holdout 0.5)" in text
    assert "3,001 validation images chose each training's epoch and the winner. 2,999 others are held out" in text
    assert "mean of 4 fresh seeds on held-out images" in text
    assert "search.holdout is 0" not in text


def test_a_search_that_the_clock_ended_or_that_failed_says_so():
    summary = summarize(ended_by="timeout_s", num_by_state={"COMPLETE": 1, "PRUNED": 28, "FAIL": 3})
    warnings = [say(summary, finding) for finding in list_warnings(summary)]
    assert len(warnings) == 3
    assert "depended on the clock" in warnings[0]
    assert warnings[1].startswith("3 of 32 trials failed.")
    assert list(list_warnings(summarize())) == []


def test_the_verdict_comes_before_every_table_and_figure(html):
    verdict = re.search(r'<p class="verdict">(.+?)</p>', html)[1]
    assert verdict.startswith("The search found better settings")
    assert html.index(verdict) < min(html.index("<table"), html.index("<figure"))


@pytest.mark.parametrize(
    ("language", "important"),
    [("en", "most of all learning_rate (60%), epochs (30%)"), ("es", "sobre todo learning_rate (60\u00a0%), epochs (")],
)
def test_every_figure_can_be_read_without_being_seen(pages, language, important):
    tags = Page(pages[language]).tags
    plots = [attrs for tag, attrs in tags if tag == "div" and "plot" in (attrs.get("class") or "").split()]
    assert len(plots) == 6
    assert all(attrs["role"] == "img" and len(attrs["aria-label"]) > 40 for attrs in plots)
    assert any(important in attrs["aria-label"] for attrs in plots)


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_request_leaves_the_page(pages, language):
    html = pages[language]
    for _, attrs in Page(html).tags:
        for name in ("src", "href", "xlink:href"):
            assert attrs.get(name, "#").startswith(("#", "data:image/png;base64,")), attrs
    assert "@import" not in html
    assert "url(http" not in html


def test_the_table_of_values_shows_what_changes(html):
    table = html.split("<tbody>")[1].split("</tbody>")[0]
    rows = re.findall(r"<tr>(.+?)</tr>", table, re.DOTALL)
    shown = {re.search(r"<code>(.+?)</code>", row)[1]: row for row in rows}
    assert 'class="clear"><code>0.0123</code>' in shown["learning_rate"]
    assert "<td><code>adam</code></td><td><code>adam</code></td>" in shown["optimizer.name"]
    assert "not searched beside the others" in shown["optimizer.momentum"]


def test_a_long_search_shows_its_best_trials_and_says_where_the_others_are(tmp_path):
    searched = write_search(tmp_path, num_trials=600)
    html = render_page(searched, *build_search_figures(searched, "en"))
    assert html.count("<svg") == 6
    assert len(html) < 2_000_000
    body = html.split("<tbody>")[2].split("</tbody>")[0]
    values = [float(value) for value in re.findall(r'data-v="(0\.\d+)">\d\d\.\d\d%', body)]
    states = re.findall(r"<td>(completed|pruned|failed)</td>", body)
    assert states == ["completed"] * 152 + ["pruned"] * 48  # what was stopped early is left out first
    assert values[:152] == sorted(values[:152], reverse=True)
    assert "These are the best 200 of 600 trials; all stand in reports/search/trials.csv." in read_text(html)


def test_two_aims_have_a_figure_of_their_front(tmp_path):
    searched = write_search(tmp_path, search=declare_search(sampler="nsga2", pruner="none"))
    html = render_page(searched, "front")
    assert "Accuracy against arithmetic" in read_text(html)
    assert 'id="front-' in html


def test_present_values_that_won_leave_nothing_to_apply(tmp_path):
    best = {"number": 0, "value": 0.9, "values": {"learning_rate": 1e-3}}
    text = read_text(render_page(write_search(tmp_path, best=best, confirmation=None)))
    assert "The declared values are the best found" in text
    assert "cotejo best --apply # " not in text


def test_columns_of_numbers_sort_as_numbers_where_a_trial_lacks_one(html):
    body = html.split("<tbody>")[2].split("</tbody>")[0]
    momentum = re.findall(r'<td>(?:adam|sgd)</td><td class="n" data-v="(.*?)">(.+?)</td>', body)
    assert len(momentum) == 40
    assert all((value == "") == (text == "–") for value, text in momentum)
    assert any(value == "" for value, _ in momentum)


def list_texts(tree):
    """Lists the texts of a part of a locale."""
    return [text for value in tree.values() for text in list_texts(value)] if isinstance(tree, dict) else [str(tree)]


def list_words(language):
    """Lists the words in which a language speaks of a search, without what templates fill in."""
    locale = load_locale(language)
    texts = [text for key, text in locale["findings"].items() if key.startswith("search.")]
    texts += list_texts(locale["search"]) + list_texts(locale["headings"]) + list_texts(locale["lineage"])
    # the strings of a template are words too
    plain = [re.sub(r"{[{%].*?[%}]}", lambda tag: " ".join(re.findall(r'"([^"]+)"', tag[0])), text) for text in texts]
    return set(re.findall(r"[a-záéíóúñ]+", " ".join(plain).lower()))


#: What is the same in every language: names of parameters, of files and of commands.
NAMES = r"cotejo best( --apply)?|git diff params\.yaml|\w+[._/][\w./]+|dvc repro|none:|" + "|".join(
    declare_search().space
)
CASES = {
    "without held-out images": {"num_held_out": 0},
    "ended by the clock": {"ended_by": "timeout_s", "num_by_state": {"COMPLETE": 1, "PRUNED": 28, "FAIL": 11}},
    "not confirmed": {"confirmation": None},
    "declared values": {"confirmation": None, "best": {"number": 0, "value": 0.9, "values": {"epochs": 10}}},
    "worse": {"confirmation": {**CONFIRMATION, "verdict": "worse", "optimism": -0.1}, "epochs": 12},
    "not decided": {"confirmation": {**CONFIRMATION, "verdict": "not decided"}, "metric": "val_cross_entropy"},
}


def read_all(html):
    """Returns what a page shows and what it reads aloud."""
    page = Page(html)
    return " ".join(" ".join([*page.texts, *(attrs.get("aria-label") or "" for _, attrs in page.tags)]).split())


def check_spanish(html):
    english = list_words("en") - list_words("es")
    assert {"the", "of", "trial", "declared", "images"} < english
    words = set(re.findall(r"[a-záéíóúñ]+", re.sub(NAMES, " ", read_all(html)).lower()))
    assert not words & english


def test_the_spanish_page_has_no_english_word(pages):
    assert '<html lang="es">' in pages["es"]
    check_spanish(pages["es"])


@pytest.mark.parametrize("case", CASES)
def test_the_spanish_page_of_any_search_has_no_english_word(tmp_path, case):
    search = declare_search(sampler="nsga2", pruner="none") if case == "worse" else None
    check_spanish(render_page(write_search(tmp_path, search=search, **CASES[case]), language="es"))


def test_two_aims_are_drawn_in_spanish_too(tmp_path):
    searched = write_search(tmp_path, search=declare_search(sampler="nsga2", pruner="none"))
    html = render_page(searched, "front", language="es")
    assert "ninguno es mejor por tan poco" in read_text(html)
    check_spanish(html)


def test_both_pages_are_the_same_on_every_run(tmp_path, pages):
    assert make_pages(tmp_path) == pages


def test_both_pages_show_the_same_numbers(pages):
    english, spanish = (re.findall(r'data-v="(.*?)"', pages[language]) for language in LANGUAGES)
    assert len(english) > 200
    assert english == spanish
    text = read_text(pages["es"]).replace("\u00a0", " ")
    assert (
        "La búsqueda halló una configuración mejor: su exactitud en validación es 0,80 puntos mayor con cuatro semillas"
        in text
    )
    assert "en 2999 imágenes reservadas (intervalo del 95 %: de +0,30 a +1,30; por encima de 0 es mejor)." in text


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_finding_has_words_and_every_word_is_used(language):
    locale, keys = load_locale(language), set()
    for changes in ({}, *CASES.values(), {"num_trials": 1, **CASES["declared values"]}):
        summary = summarize(importances={"epochs": 1.0}, **changes)
        luck = judge_luck(summary)
        findings = [*judge_search(summary), *([luck] if luck else []), *list_warnings(summary), *list_notes(summary)]
        assert all(say(summary, finding, language=language) for finding in findings)
        keys |= {finding.key for finding in findings}
    assert keys == {key for key in locale["findings"] if key.startswith("search.")}
    assert {*locale["search"]["samplers"]} == set(get_args(Search.model_fields["sampler"].annotation))
    assert {*locale["search"]["pruners"]} == set(get_args(Search.model_fields["pruner"].annotation))


@pytest.mark.parametrize(
    ("num_failed", "text"),
    [(1, "porque falló uno de los entrenamientos con semillas nuevas. El primero: seed 100"),
     (3, "porque fallaron 3 de los entrenamientos con semillas nuevas. El primero: seed 100")],
)  # fmt: skip
def test_failures_are_counted_in_spanish(num_failed, text):
    summary = summarize(confirmation=None, confirm_failures=["seed 100"] * num_failed)
    assert say_verdict(summary, "es").endswith(text)
