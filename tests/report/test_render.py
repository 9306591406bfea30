"""The report: its three forms agree, in both languages, with nothing missing and nothing fetched."""

import base64
import io
import json
import math
import re
from dataclasses import replace
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from markdown_it import MarkdownIt
from matplotlib.figure import Figure
from pages import Page
from PIL import Image

from cotejo.comparison.verdict import decide_pair, find_recommendations, judge_pair
from cotejo.errors import ParamsError
from cotejo.report import figures
from cotejo.report.figures.comparison import build_report_figures
from cotejo.report.render import render_html, render_json, render_markdown
from cotejo.report.wording import LANGUAGES, Wording, load_locale
from once import make_once
from synthetic_study import (
    CLASS_NAMES,
    MODELS,
    build_comparison,
    build_gallery,
    build_histories,
    build_inputs,
    measure_again,
)

STUDIES = {
    "clear": {"resnet": 0.93},
    "unclear": {"num_samples": 300, "resnet": 0.895},
    "worse": {"resnet": 0.80},
    "poor": {"num_samples": 300, "num_seeds": 1, "weights": "random"},
}
PAIR = ("lenet", "resnet")


def render(comparison, language):
    """The page with all its figures and images; of two models, since drawing takes a second for each."""
    drawn = build_report_figures(comparison, build_histories(), language)
    return render_html(comparison, drawn, language, gallery=build_gallery(comparison))


def build_study(name, models=MODELS):
    inputs = build_inputs(**STUDIES[name], models=models)
    if name == "poor":
        inputs["timings"] = {}
        inputs["facts"] |= {"git_commit": None, "dirty": True}
        inputs["dataset"] |= {"source": {"title": "Bundled digits"}}
    return build_comparison(**inputs)


@pytest.fixture(scope="module", params=list(STUDIES))
def comparison(request):
    return build_study(request.param)


@pytest.fixture(scope="module", params=LANGUAGES)
def language(request):
    return request.param


@pytest.fixture(scope="module")
def html(comparison, language):
    """The page without its figures, which take seconds to draw."""
    return render_html(comparison, {}, language, gallery=build_gallery(comparison))


@pytest.fixture(scope="module")
def markdown(comparison, language):
    return render_markdown(comparison, language)


def read_page(name, language):
    """Returns a page with its figures, which is rendered once."""

    def make(folder):
        (folder / "page.html").write_text(render(build_study(name, PAIR), language))

    return (make_once(f"report-{name}-{language}", make) / "page.html").read_text()


@pytest.fixture(
    scope="module",
    params=[
        ("clear", "en"),
        ("poor", "es"),
        pytest.param(("clear", "es"), marks=pytest.mark.slow),
        pytest.param(("poor", "en"), marks=pytest.mark.slow),
    ],
    ids="-".join,
)
def whole(request):
    """A page with its figures."""
    return read_page(*request.param)


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
    for part in ("captions", "sides", "headings"):
        for key, text in english["search"][part].items():
            assert list_fields(text) == list_fields(spanish["search"][part][key]), key


def test_an_unknown_language_is_refused():
    with pytest.raises(ParamsError, match="expected one of en, es"):
        load_locale("fr")


def test_markdowns_verdict_is_the_pages(html, markdown):
    verdict = re.search(r"\*\*(.+?)\*\*", markdown).group(1)
    assert f'<p class="verdict">{verdict}</p>' in unescape(html)


def test_verdict_comes_first_and_answers_every_question(comparison, language, html):
    text = Page(html).text
    locale = load_locale(language)
    order = ("recommendations", "answers", "models", "certainty", "cost", "trust", "data", "lineage", "params")
    places = [html.index(f'<h2 id="{key}">{locale["headings"][key]}</h2>') for key in order]
    assert places == sorted(places)
    verdict = re.search(r'<p class="verdict">(.+?)</p>', html).group(1)
    assert html.index(verdict) < html.index("<table")
    assert all(question in text for question in locale["questions"].values())


def test_the_verdict_is_said_once_on_each_form(html, markdown):
    verdict = re.search(r"\*\*(.+?)\*\*", markdown).group(1)
    assert unescape(html).count(verdict) == markdown.count(verdict) == 1


def test_clocks_are_read_with_what_they_were_measured_on():
    inputs = build_inputs(num_samples=300)
    inputs["timings"]["train-resnet"] |= {"machine": "Intel Xeon, 8 cores", "device": "GPU", "threads": 1}
    comparison = build_comparison(**inputs)
    for text in (Page(render_html(comparison, {}, "en", gallery={})).text, render_markdown(comparison, "en")):
        said = " ".join(text.split())
        assert "LeNet, Transfer learning and Fine-tuning trained on: AMD EPYC, 2 cores, cpu, 2 threads." in said
        assert "ResNet trained on: Intel Xeon, 8 cores, GPU, 1 thread." in said
        assert "the median of 200 answers for one image, and images a second in batches of 256." in said
        assert "a multiply-add counts as 2" in said
    untimed = render_markdown(build_comparison(**inputs | {"timings": {}}), "en")
    assert "trained on" not in untimed
    assert "answered on" not in untimed


def test_no_model_is_said_to_cost_less_than_once_another(language):
    inputs = build_inputs(num_samples=500, lenet=0.99)
    for row in inputs["timings"]["train-lenet"]["per_seed"]:
        row["train_time_s"] = 0.5
    markdown = render_markdown(build_comparison(**inputs), language)
    said = {"en": "ResNet costs 1,247 times the training time", "es": "ResNet cuesta 1247 veces el tiempo"}[language]
    assert said in markdown
    assert not re.search(r"\b0[.,]\d+ (times|veces)", markdown.split("###")[0])


@pytest.mark.parametrize(
    ("number", "said"), [(120, "120 of the 300 test images"), (0, "300 of the 300"), (2000, "300 of the 300")]
)
def test_how_many_images_were_corrupted_is_said(number, said):
    inputs = build_inputs(num_samples=300)
    inputs["facts"]["params"]["evaluate.corruption_samples"] = number
    assert f"Corrupted images are {said}" in Page(
        render_html(build_comparison(**inputs), {}, "en", gallery={})
    ).text.replace("\n", " ")


def test_a_dear_model_is_not_said_to_be_the_fastest():
    dear = render_markdown(build_comparison(**build_inputs(num_seeds=3, lenet=0.80, transfer=0.80, resnet=0.95)), "en")
    assert "For cost: ResNet as well: what trains faster is worse by more than the 1.00 points that you allow." in dear
    cheap = render_markdown(build_comparison(**build_inputs(num_samples=1000, num_seeds=3, lenet=0.99)), "en")
    assert "For cost: LeNet as well and none trains faster." in cheap


def build_costs(comparison, **values):
    """A comparison whose recommendation for cost has these values."""
    accuracy, cost, served = comparison.recommendations
    usual = {"model": "lenet", "best": "resnet", "safe": "lenet", "against": "resnet", "ratio": 14.75, "is_timed": True,
             "at_most": 0.004, "is_ahead": False, "margin": 0.01, "confidence": 0.95, "is_cheapest": True}  # fmt: skip
    found = replace(cost, key=f"recommend.{values.pop('key', 'cost')}", values=usual | values)
    return replace(comparison, recommendations=(accuracy, found, served))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "For cost: LeNet, at most 0.40 points worse than any other (95%); you allow 1.00. None trains faster. "
             "ResNet has 14.8 times its training time."),
        ({"is_timed": False}, "None is smaller. ResNet has 14.8 times its parameters."),
        ({"is_cheapest": False}, "you allow 1.00. What trains faster is worse by more than that. ResNet has"),
        ({"is_ahead": True, "model": "resnet"}, "For cost: ResNet as well and none trains faster."),
        ({"is_ahead": True, "model": "resnet", "is_cheapest": False},
         "For cost: ResNet as well: what trains faster is worse by more than the 1.00 points that you allow."),
        ({"ratio": None}, "you allow 1.00. None trains faster."),
        ({"key": "cost_open", "safe": "resnet", "at_most": 0.03},
         "For cost: not settled. LeNet trains 14.8 times faster than ResNet but may be up to 3.00 points worse than "
         "the best (95%); you allow 1.00. ResNet is within that for certain."),
        ({"key": "cost_open", "safe": "resnet", "at_most": 0.03, "ratio": None},
         "LeNet costs less than ResNet but may be up to 3.00 points worse"),
        ({"key": "cost_open", "safe": None, "against": "lenet", "at_most": 0.03},
         "LeNet trains fastest but may be up to 3.00 points worse than the best (95%); you allow 1.00. For no model "
         "can a larger loss be ruled out."),
        ({"key": "cost_open", "safe": None, "is_timed": False, "at_most": 0.03},
         "LeNet has 14.8 times fewer parameters than ResNet but may be"),
    ],
)  # fmt: skip
def test_what_is_recommended_for_cost_is_said_with_its_reason(values, said):
    comparison = build_costs(build_study("clear"), **values)
    text = " ".join(render_markdown(comparison, "en").split())
    assert said in text.replace("\u00a0", " ")
    spanish = " ".join(render_markdown(comparison, "es").split())
    sentence = spanish.split("Por coste: ")[1].split(" El que usan predict")[0]
    assert "None" not in sentence
    if said.startswith("For cost"):  # the whole of it: as many numbers in either language
        assert len(re.findall(r"\d+[.,]\d+", sentence)) == len(re.findall(r"\d+[.,]\d+", said))


@pytest.mark.parametrize(
    ("num_seeds", "english", "spanish"),
    [(1, "on new images, this trained file (95%)", "imágenes nuevas, este archivo"),
     (2, "on new images and seeds (95%)", "imágenes y semillas nuevas")],
)  # fmt: skip
def test_the_headline_numbers_stand_with_what_their_interval_is_for(num_seeds, english, spanish):
    comparison = build_comparison(**build_inputs(num_samples=300, num_seeds=num_seeds))
    for language, said in (("en", english), ("es", spanish)):
        wording = Wording(language)
        text = " ".join(Page(render_html(comparison, {}, language, gallery={})).text.split())
        for name in (comparison.baseline, comparison.candidate):
            model = comparison.get_model(name)
            ends = [wording.percent(end) for end in (model.test_accuracy_low, model.test_accuracy_high)]
            to = wording.locale["number"]["to"]
            assert f"{ends[0]} {to} {ends[1]} ".replace("\u00a0", " ") in text.replace("\u00a0", " ")
        assert said in text.replace("\u00a0", " ")


def test_one_training_of_a_model_withholds_the_recommendations(language):
    inputs = build_inputs(num_samples=300, num_seeds=1)
    comparison = build_comparison(**inputs)
    findings = load_locale(language)["findings"]
    page = Page(render_html(comparison, {}, language, gallery={})).text
    for text in (page, render_markdown(comparison, language)):
        said = " ".join(text.split())
        assert " ".join(findings["recommend.withheld"].split()) in said
        assert Wording(language).model(comparison.served) in said
    # the trained files are all that is known
    assert {"en": "one training each of", "es": "un solo entrenamiento"}[language] in page.lower()


def test_the_decisions_of_the_pairs_follow_the_adjusted_p(comparison):
    for cells, pair in zip(read_pairs(comparison, "en"), comparison.pairs, strict=True):
        winner = pair.candidate if pair.value > 0 else pair.baseline
        is_as_good = pair.equivalence_p_adjusted < 0.025
        is_better = pair.p_adjusted < 0.05
        expected = Wording("en").model(winner) if is_better else "as good" if is_as_good else "not decided"
        assert cells[-1] == expected


def read_pairs(comparison, language):
    """The rows of the Markdown's table of pairs."""
    heading = load_locale(language)["headings"]["pairs"]
    table = render_markdown(comparison, language).split(f"### {heading}")[1].split("\n###")[0]
    rows = [line.strip("|").split("|") for line in table.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in row] for row in rows]


def test_headline_recommendation_and_table_agree_on_a_crowded_p(language):
    comparison = build_comparison(**build_inputs(num_samples=300, resnet=0.93))
    pairs = tuple(
        replace(pair, value=0.02, low=0.001, high=0.039, p_value=0.02, p_adjusted=0.12 if place else 0.025,
                equivalence_p_adjusted=1.0)
        for place, pair in enumerate(comparison.pairs)
    )  # fmt: skip
    verdict = judge_pair(pairs[0], 0.95, 0.01)
    crowded = replace(comparison, pairs=pairs, verdict=verdict)
    crowded = replace(crowded, recommendations=find_recommendations(crowded))
    wording, markdown = Wording(language), render_markdown(crowded, language)
    unclear = load_locale(language)["decisions"]["verdict.unclear_many"]
    assert [cells[-1] for cells in read_pairs(crowded, language)] == ["ResNet"] + [unclear] * 5
    assert crowded.recommendations[0].values["model"] == "resnet"
    undecided = [
        name for name in ("transfer", "finetune") if not decide_pair(crowded, crowded.get_pair("resnet", name))
    ]
    assert undecided == ["transfer", "finetune"]
    assert wording.listing([wording.model(name) for name in ("resnet", *undecided)]) in markdown


def test_headline_recommendation_and_table_agree_on_two_that_are_as_good(language):
    inputs = build_inputs(num_samples=4000, num_seeds=3, models=PAIR)
    inputs["predictions"]["resnet"] = inputs["predictions"]["lenet"]
    measure_again(inputs, "resnet")
    comparison = build_comparison(**inputs | {"margin": 0.03})
    as_good = load_locale(language)["decisions"]["verdict.equivalent"]
    assert comparison.verdict.key == "verdict.equivalent"
    assert read_pairs(comparison, language)[0][-1] == as_good
    say = {"en": "As good within 3.00 points: ResNet.", "es": "Igual de bueno con un margen de 3,00 puntos: ResNet."}
    best = comparison.recommendations[0].values["model"]
    assert say[language].replace("ResNet", "LeNet" if best == "resnet" else "ResNet") in render_markdown(
        comparison, language
    )


def test_every_interval_is_headed_by_its_own_confidence(language):
    inputs = build_inputs(num_samples=300)
    for table in inputs["metrics"].values():
        table["confidence"] = 0.9
    comparison = build_comparison(**inputs | {"confidence": 0.995})
    wording, markdown = Wording(language), render_markdown(comparison, language)
    # the page has captions where it has figures; what these show isn't looked at here
    drawn = {name: Figure() for name in ("cost", "robustness", "pairs")}
    page = render_html(comparison, drawn, language, gallery={})
    heads = [line for line in markdown.splitlines() if line.startswith("|") and wording.confidence(0.9) in line]
    # the models, how sure they are, and how far to trust them
    assert [line.count(wording.confidence(0.9)) for line in heads] == [1, 2, 1]
    assert not any(wording.confidence(0.995) in line for line in heads)
    assert wording.confidence(0.995) in markdown
    for name, confidence in (("cost", 0.9), ("robustness", 0.9), ("pairs", 0.995)):
        caption = load_locale(language)["captions"][name].replace(
            "{{ confidence | confidence }}", wording.confidence(confidence)
        )
        assert caption in Page(page).text.replace(" %", "\u00a0%")
    assert wording.number(0.005, 3) in page


def test_every_text_of_the_figures_is_used():
    code = "".join(path.read_text() for path in sorted(Path(figures.__file__).parent.glob("*.py")))
    assert all(f'"{key}"' in code for key in load_locale("en")["figures"])


def test_the_page_fetches_nothing(html):
    check_nothing_is_fetched(Page(html))


def test_a_page_with_figures_fetches_nothing(whole):
    check_nothing_is_fetched(Page(whole))


def check_nothing_is_fetched(page):
    for tag, attributes in page.tags:
        if tag == "img":
            assert attributes.pop("src").startswith("data:image/png;base64,")
        if tag == "link":
            assert attributes.pop("href") == "data:,"
        for key in ("src", "srcset", "data", "action", "poster", "background"):
            assert not attributes.get(key), (tag, attributes)
        for key in ("href", "xlink:href"):
            target = attributes.get(key) or "#"
            assert target.startswith("#") or (tag == "a" and target.startswith("https://")), (tag, target)
        assert tag not in {"iframe", "object", "embed", "base"}
        assert "url(http" not in (attributes.get("style") or "")
    styles = " ".join(page.style)
    assert not re.search(r"@import|url\(|fetch\(|https?:", styles)


def test_nothing_is_left_over_from_the_program(html, markdown):
    for text in (Page(html).text, markdown):
        assert not re.search(r"\b(nan|inf|None|Undefined|null|np\.float64)\b", text)
        assert "{{" not in text
        assert "{%" not in text


def test_the_page_can_be_read_by_everyone(request, whole):
    _, language = request.node.callspec.params["whole"]
    page = Page(whole)
    tags = [tag for tag, _ in page.tags]
    assert whole.startswith("<!doctype html>")
    assert ("html", {"lang": language}) in page.tags
    assert tags.count("h1") == tags.count("main") == 1
    pictures = [attributes for tag, attributes in page.tags if attributes.get("role") == "img"]
    assert len(pictures) == tags.count("svg") == 10
    assert all(len(attributes["aria-label"]) > 60 for attributes in pictures)
    assert tags.count("img") > 20
    assert all(attributes["alt"] for tag, attributes in page.tags if tag == "img")
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    named = [attributes["aria-labelledby"] for _, attributes in page.tags if "aria-labelledby" in attributes]
    assert set(named) <= set(ids)
    assert len([name for name in ids if name in named]) == len(set(named))
    assert all(attributes.get("scope") for tag, attributes in page.tags if tag == "th")


def test_a_model_of_the_studys_own_that_served_as_a_backbone_is_named_by_its_path(language):
    inputs = build_inputs(**STUDIES["clear"], weights="model:models/lenet/<seed-0>/model.keras")
    comparison = build_comparison(**inputs)
    page = render_html(comparison, {}, language, gallery=build_gallery(comparison))
    assert "<dd>models/lenet/&lt;seed-0&gt;/model.keras</dd>" in page
    assert inputs["facts"]["backbone"] not in re.findall(r"<dd>(.*?)[,<]", page)


def test_json_is_stable_and_finite(comparison):
    text = render_json(comparison)
    tree = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in the JSON"))
    assert text == render_json(comparison)
    assert tree["verdict"]["key"] == comparison.verdict.key
    assert tree["pairs"][0]["value"] == pytest.approx(comparison.pairs[0].value, rel=1e-5)


def test_a_number_that_is_not_finite_is_null_in_the_json(comparison):
    lenet, *others = comparison.models
    spoilt = replace(comparison, models=(replace(lenet, test_loss=math.nan), *others))
    assert json.loads(render_json(spoilt))["models"][0]["test_loss"] is None


def rename_classes(names, models=MODELS):
    inputs = build_inputs(num_samples=300, models=models)
    inputs["dataset"] |= {"class_names": names}
    for table in inputs["metrics"].values():
        table["confusion"]["class_names"] = names
    return build_comparison(**inputs)


def test_class_names_cannot_break_page_or_table():
    names = ["<script>alert(1)</script>", "a|b", "two\nlines", *CLASS_NAMES[3:]]
    comparison = rename_classes(names, PAIR)
    drawn = build_report_figures(comparison, build_histories(), "en")
    named = {name: drawn[name] for name in ("confusions", "f1")}  # the figures of the classes
    page = render_html(comparison, named, "en", gallery=build_gallery(comparison))
    assert "<script>alert" not in page
    assert page.count("<script>") == 1
    markdown = render_markdown(comparison, "en")
    assert "| a\\|b |" in markdown
    assert "| two\\\\nlines |" in markdown


def test_class_names_are_shown_as_they_are_by_what_reads_markdown(language):
    names = [f"{number}: <b>|a*b_c`*d_ ~~e~~ [f](g) \\&lt; <!-- h & i < j" for number in range(10)]
    comparison = rename_classes(names)
    reader = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    read = Page(reader.render(render_markdown(comparison, language)))
    assert {"b", "em", "del", "a", "code"} & {tag for tag, _ in read.tags} == {"code"}  # of the digests below
    assert all(name in read.text for name in names)
    said = load_locale(language)["findings"]["answer.confused"]
    taken = said.split("{{ pair.true_class }}")[1].split("{{")[0]
    confused = next(pair for model in comparison.models for pair in model.confused)
    assert f"{confused.true_class}{taken}{confused.predicted_class}" in read.text


def test_plain_names_have_no_escapes(markdown):
    assert "\\" not in markdown


def test_the_same_comparison_gives_the_same_page():
    assert render(build_study("poor", PAIR), "es") == read_page("poor", "es")


@pytest.mark.parametrize("shape", [(28, 28, 1), (160, 120, 3)])
def test_galleries_show_the_images_themselves_and_say_what_they_are(shape):
    comparison = build_comparison(**build_inputs(num_samples=300))
    images = {
        index: np.random.default_rng(index).integers(0, 256, shape, dtype=np.uint8)
        for index in build_gallery(comparison)
    }
    page = render_html(comparison, {}, "en", gallery=images)
    shown = re.findall(r'<li><img src="data:image/png;base64,([^"]+)"[^>]* alt="([^"]+)"><span><b>([^<]+)', page)
    assert len(shown) > 20
    for code, alt, true_class in shown:
        index = int(re.search(r"Test image (\d+), true class", alt)[1])
        with Image.open(io.BytesIO(base64.b64decode(code))) as picture:
            if shape[0] == 28:
                assert np.array_equal(np.asarray(picture), images[index][..., 0])
            else:
                assert picture.mode == "RGB"
                assert picture.size == (84, 112)  # larger ones would only make the file large
        assert alt.endswith(f"true class {true_class}")
    only = page.split("<h3>Only ResNet is correct</h3>")[1].split("<h3>")[0]
    for true_class, answers in re.findall(r"<b>([^<]+)</b>(.*?)</span></li>", only):
        assert f"ResNet: {true_class}, " in answers
        assert f"LeNet: {true_class}, " not in answers


def test_a_gallery_without_images_says_so():
    comparison = build_comparison(**build_inputs(num_samples=300))
    page = render_html(replace(comparison, disagreements=(), errors={"lenet": (), "resnet": ()}), {}, "es", gallery={})
    assert "No hay ninguna imagen de prueba en la que solo acierte ResNet." in page
    assert "No hay ninguno: LeNet acierta con todas las imágenes de prueba." in page


def test_where_the_numbers_come_from_is_said_as_far_as_it_is_known():
    inputs = build_inputs(num_samples=300)
    inputs["facts"] |= {"dvc_exp_name": "quiet-mule"}
    page = render_html(build_comparison(**inputs), {}, "en", gallery={})
    assert "<code>quiet-mule</code>" in page
    for name, metrics in inputs["metrics"].items():
        assert f'<code>tags.outs LIKE "%models/{name} {metrics["dvc_digest"]}%"</code>' in page
    bare = render_html(build_comparison(**build_inputs(num_samples=300)), {}, "en", gallery={})
    assert "DVC experiment" not in bare


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
        ("p_value", 0.0421, "0.042", "0,042"),
        ("duration", 0.0011, "1.10\u00a0ms", "1,10\u00a0ms"),
        ("duration", 0.0423, "42.3\u00a0ms", "42,3\u00a0ms"),
        ("compact", 87_600_000, "87.6\u00a0M", "87,6\u00a0M"),
        ("compact", 846_000, "846\u00a0k", "846\u00a0k"),
        ("compact", 5_000_000, "5\u00a0M", "5\u00a0M"),
        ("compact", 1_230_000_000, "1.23\u00a0G", "1,23\u00a0G"),
        ("compact", 999, "999", "999"),
        ("compact", None, "–", "–"),
        ("model", "lenet@a1b2c3d", "lenet@a1b2c3d", "lenet@a1b2c3d"),
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
