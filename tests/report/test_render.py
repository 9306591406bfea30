"""The report: its three forms agree, in both languages, with nothing missing and nothing fetched."""

import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from markupsafe import escape

from cotejo.comparison.verdict import build_comparison, find_recommendations, judge_pair
from cotejo.errors import ParamsError
from cotejo.report import figures
from cotejo.report.figures.comparison import build_report_figures
from cotejo.report.render import render_html, render_json, render_markdown
from cotejo.report.wording import LANGUAGES, Wording, load_locale
from synthetic_study import build_histories, build_inputs

STUDIES = {
    "clear": {"resnet": 0.93},
    "unclear": {"num_samples": 300, "resnet": 0.895},
    "worse": {"resnet": 0.80},
    "poor": {"num_samples": 300, "num_seeds": 1, "weights": "random"},
}


class Page(HTMLParser):
    """Collects what a page shows and what it refers to."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.texts, self.open, self.style = [], [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.open.append(tag)

    def handle_endtag(self, tag):
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data):
        hidden = {"script", "style"} & set(self.open)
        (self.style if hidden else self.texts).append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())


@pytest.fixture(scope="module", params=list(STUDIES))
def comparison(request):
    inputs = build_inputs(**STUDIES[request.param])
    if request.param == "poor":
        inputs["timings"] = {}
        inputs["facts"] |= {"git_commit": None, "dirty": True}
        inputs["dataset"] |= {"source": {"title": "Bundled digits"}}
    return build_comparison(**inputs)


@pytest.fixture(scope="module", params=LANGUAGES)
def language(request):
    return request.param


@pytest.fixture(scope="module")
def html(comparison, language):
    return render_html(comparison, build_report_figures(comparison, build_histories(), language), language)


def list_keys(tree, prefix=""):
    if not isinstance(tree, dict):
        return {prefix}
    return set().union(*(list_keys(value, f"{prefix}/{key}") for key, value in tree.items()))


def list_fields(text):
    return set(re.findall(r"{{\s*([a-z_0-9]+)", text)) - {"row", "pair"}


def test_both_languages_have_the_same_keys_and_use_the_same_values():
    english, spanish = load_locale("en"), load_locale("es")
    assert list_keys(english) == list_keys(spanish)
    for key, text in english["findings"].items():
        assert list_fields(text) == list_fields(spanish["findings"][key]), key


def test_an_unknown_language_is_refused():
    with pytest.raises(ParamsError, match="expected one of en, es"):
        load_locale("fr")


def test_page_and_markdown_show_the_numbers_of_the_json(comparison, language, html):
    numbers = json.loads(render_json(comparison))
    wording = Wording(language)
    page, markdown = Page(html).text, render_markdown(comparison, language)
    for row in numbers["models"]:
        for text in (wording.percent(row["test_accuracy"], 2), wording.number(row["test_macro_f1"], 3),
                     wording.integer(row["parameters"]), wording.duration(row["train_time_s"]),
                     wording.size(row["size_bytes"]), wording.number(row["sample_right"], 1)):  # fmt: skip
            assert " ".join(text.split()) in page
            assert text in markdown
    for row in numbers["pairs"]:
        interval = f"{wording.signed_points(row['low'])} … {wording.signed_points(row['high'])}"
        assert interval in page
        assert interval in markdown
        assert f"| {wording.p_value(row['p_adjusted'])} |" in markdown
    for row in numbers["differences"]:
        assert f"{wording.signed(row['low'])} … {wording.signed(row['high'])}" in page


def test_markdowns_verdict_is_the_pages(comparison, language, html):
    verdict = re.search(r"\*\*(.+?)\*\*", render_markdown(comparison, language)).group(1)
    assert f'<p class="verdict">{escape(verdict)}</p>' in html


def test_verdict_comes_first_and_answers_every_question(comparison, language, html):
    text = Page(html).text
    locale = load_locale(language)
    places = [text.index(locale["headings"][key]) for key in ("answers", "recommendations", "models", "pairs", "data")]
    assert places == sorted(places)
    verdict = re.search(r'<p class="verdict">(.+?)</p>', html).group(1)
    assert html.index(verdict) < html.index("<table")
    assert all(question in text for question in locale["questions"].values())


def test_the_decisions_of_the_pairs_follow_the_adjusted_p(comparison):
    table = render_markdown(comparison, "en").split("### Every pair of models")[1]
    lines = [line.split("|") for line in table.splitlines() if line.startswith("|")][2:]
    for cells, pair in zip(lines, comparison.pairs, strict=True):
        p = pair.p_value if pair is comparison.pairs[0] else pair.p_adjusted
        winner = pair.candidate if pair.value > 0 else pair.baseline
        is_clear = p < 0.05 and (pair.low > 0 or pair.high < 0)
        assert cells[6].strip() == (Wording("en").model(winner) if is_clear else "cannot tell")


def test_headline_recommendation_and_table_agree_on_a_crowded_p(language):
    comparison = build_comparison(**build_inputs(num_samples=300, resnet=0.93))
    pairs = tuple(
        replace(pair, value=0.02, low=0.001, high=0.039, p_value=0.02, p_adjusted=0.12) for pair in comparison.pairs
    )
    verdict = judge_pair(pairs[0], 0.95, 0.01)
    crowded = replace(comparison, pairs=pairs, verdict=verdict)
    crowded = replace(crowded, recommendations=find_recommendations(crowded, 0.5))
    wording, markdown = Wording(language), render_markdown(crowded, language)
    lines = [line.split("|") for line in markdown.split("### ")[-1].splitlines() if line.startswith("|")][2:]
    unclear = load_locale(language)["decisions"]["unclear"]
    assert [cells[6].strip() for cells in lines] == ["ResNet"] + [unclear] * 5
    tied = wording.listing([wording.model(name) for name in ("transfer", "finetune")])
    assert f" {tied}." in markdown


def test_every_interval_is_headed_by_its_own_confidence(language):
    inputs = build_inputs(num_samples=300)
    for table in inputs["metrics"].values():
        table["confidence"] = 0.9
    comparison = build_comparison(**inputs | {"confidence": 0.995})
    wording, markdown = Wording(language), render_markdown(comparison, language)
    page = render_html(comparison, build_report_figures(comparison, build_histories(), language), language)
    assert markdown.count(wording.confidence(0.9)) == 1  # the table of models
    assert wording.confidence(0.995) in markdown
    caption = load_locale(language)["captions"]["cost"].replace(
        "{{ confidence | confidence }}", wording.confidence(0.9)
    )
    assert caption in Page(page).text.replace(" %", "\u00a0%")
    assert wording.number(0.005, 3) in page


def test_every_text_of_the_figures_is_used():
    code = "".join(path.read_text() for path in sorted(Path(figures.__file__).parent.glob("*.py")))
    assert all(f'"{key}"' in code for key in load_locale("en")["figures"])


def test_the_page_fetches_nothing(html):
    page = Page(html)
    for tag, attributes in page.tags:
        for key in ("src", "srcset", "data", "action", "poster", "background"):
            assert not attributes.get(key), (tag, attributes)
        for key in ("href", "xlink:href"):
            target = attributes.get(key) or "#"
            assert target.startswith("#") or (tag == "a" and target.startswith("https://")), (tag, target)
        assert tag not in {"link", "iframe", "object", "embed", "base", "img"}
        assert "url(http" not in (attributes.get("style") or "")
    styles = " ".join(page.style)
    assert not re.search(r"@import|url\(|fetch\(|https?:", styles)


def test_nothing_is_left_over_from_the_program(comparison, language, html):
    for text in (Page(html).text, render_markdown(comparison, language)):
        assert not re.search(r"\b(nan|inf|None|Undefined|null|np\.float64)\b", text)
        assert "{{" not in text
        assert "{%" not in text


def test_the_page_can_be_read_by_everyone(language, html):
    page = Page(html)
    tags = [tag for tag, _ in page.tags]
    assert html.startswith("<!doctype html>")
    assert ("html", {"lang": language}) in page.tags
    assert tags.count("h1") == tags.count("main") == 1
    pictures = [attributes for tag, attributes in page.tags if attributes.get("role") == "img"]
    assert len(pictures) == tags.count("svg") == 6
    assert all(attributes["aria-label"] for attributes in pictures)
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    named = [attributes["aria-labelledby"] for _, attributes in page.tags if "aria-labelledby" in attributes]
    assert set(named) <= set(ids)
    assert len([name for name in ids if name in named]) == len(set(named))
    assert all(attributes.get("scope") for tag, attributes in page.tags if tag == "th")


def test_json_is_stable_and_finite(comparison):
    text = render_json(comparison)
    tree = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in the JSON"))
    assert text == render_json(comparison)
    assert tree["verdict"]["key"] == comparison.verdict.key
    assert tree["pairs"][0]["value"] == pytest.approx(comparison.pairs[0].value, rel=1e-5)


def test_a_number_that_is_not_finite_is_null_in_the_json():
    inputs = build_inputs(num_samples=300)
    inputs["metrics"]["lenet"]["test_loss"] = math.nan
    assert json.loads(render_json(build_comparison(**inputs)))["models"][0]["test_loss"] is None


def test_class_names_cannot_break_page_or_table():
    inputs = build_inputs(num_samples=300)
    names = ["<script>alert(1)</script>", "a|b", *inputs["dataset"]["class_names"][2:]]
    inputs["dataset"] |= {"class_names": names}
    for table in inputs["metrics"].values():
        table["confusion"]["class_names"] = names
    comparison = build_comparison(**inputs)
    page = render_html(comparison, build_report_figures(comparison, build_histories(), "en"), "en")
    assert "<script>alert" not in page
    assert page.count("<script>") == 1
    markdown = render_markdown(comparison, "en")
    assert "| a\\|b |" in markdown


def test_the_same_comparison_gives_the_same_page(comparison, language, html):
    again = render_html(comparison, build_report_figures(comparison, build_histories(), language), language)
    assert again == html


@pytest.mark.parametrize(
    ("method", "value", "english", "spanish"),
    [
        ("integer", 61_706, "61,706", "61\u202f706"),
        ("integer", 1_234, "1,234", "1234"),
        ("percent", 0.9042, "90.4%", "90,4\u00a0%"),
        ("confidence", 0.95, "95%", "95\u00a0%"),
        ("confidence", 0.995, "99.5%", "99,5\u00a0%"),
        ("confidence", 0.8, "80%", "80\u00a0%"),
        ("exact", 1 - 0.995, "0.005", "0,005"),
        ("exact", 1 - 0.95, "0.05", "0,05"),
        ("signed_points", -0.0151, "−1.51", "−1,51"),
        ("signed_points", -0.00001, "0.00", "0,00"),
        ("signed_points", 0.02, "+2.00", "+2,00"),
        ("p_value", 0.00001, "<\u202f0.001", "<\u202f0,001"),
        ("p_equals", 0.0421, "p\u00a0=\u00a00.042", "p\u00a0=\u00a00,042"),
        ("duration", 0.844, "0.84\u00a0s", "0,84\u00a0s"),
        ("duration", 60, "1\u00a0min", "1\u00a0min"),
        ("duration", 3_725, "1\u00a0h 02\u00a0min", "1\u00a0h 02\u00a0min"),
        ("duration", 3_599.6, "1\u00a0h", "1\u00a0h"),
        ("duration", None, "–", "–"),
        ("size", 285_000, "285\u00a0kB", "285\u00a0kB"),
        ("size", 1_420_000_000, "1.4\u00a0GB", "1,4\u00a0GB"),
        ("ratio", 0.0712, "0.07", "0,07"),
        ("listing", ["a", "b", "c"], "a, b and c", "a, b y c"),
    ],
)
def test_numbers_are_written_as_the_language_writes_them(method, value, english, spanish):
    assert getattr(Wording("en"), method)(value) == english
    assert getattr(Wording("es"), method)(value) == spanish
