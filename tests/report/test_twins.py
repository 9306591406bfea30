"""Every number in a table of the page and of its Markdown twin is the one of the JSON, rounded as it is shown."""

import json
import re
from html import unescape

import pytest
from pages import Page

from cotejo.report.render import render_html, render_json, render_markdown
from cotejo.report.wording import LANGUAGES, load_locale
from cotejo.schema.results import list_columns
from synthetic_study import build_comparison, build_inputs

#: What a unit multiplies with.
UNITS = {"%": 0.01, "ms": 1e-3, "s": 1, "min": 60, "h": 3600, "kB": 1e3, "MB": 1e6, "GB": 1e9,
         "k": 1e3, "M": 1e6, "G": 1e9, "": 1}  # fmt: skip
NUMBERS = {"en": r"[+-]?\d[\d,]*(?:\.\d+)?", "es": r"[+-]?\d[\d\u202f]*(?:,\d+)?"}
#: The tables of the Markdown in their order.
IN_MARKDOWN = ("models", "certainty", "pairs", "cost", "trust", "classes", "more_pairs")


class Below(float):
    """A bound: `< 0.001`."""


def read_numbers(text, language):
    """Returns each number of a cell with half of its last digit's worth, in units without a prefix."""
    text = text.replace("\u00a0", " ").replace("−", "-").replace("p95:", "")
    found, before = [], ""
    for bound, digits, unit in re.findall(rf"(<\u202f)?({NUMBERS[language]}) ?(%|[a-zA-Z]+)?", text):
        unit = unit if unit in UNITS else ""
        plain = digits.replace(",", "") if language == "en" else digits.replace("\u202f", "").replace(",", ".")
        half = 0.5 * 10.0 ** -len(plain.partition(".")[2]) * UNITS[unit]
        value = float(plain) * UNITS[unit]
        if (before, unit) in {("h", "min"), ("min", "s")}:
            found[-1] = (found[-1][0] + value, half)
        else:
            found.append((Below(value) if bound else value, half))
        before = unit
    return found


def list_expected(numbers):
    """Returns by table the JSON's numbers, cell by cell; None stands for a cell of words."""
    models, pairs = numbers["models"], numbers["pairs"]
    by_name = {row["name"]: row for row in models}
    return {
        "models": list_scores(models, "models"),
        "certainty": [
            [[m["test_accuracy"]],
             *([m[f"{key}_low"], m[f"{key}_high"]] for key in ("test_accuracy", "test_accuracy_files")),
             [scale(m["seed_spread"])], [len(m["seeds"])]]
            for m in models
        ],
        "pairs": [
            [[scale(p[key]) for key in ("value", "low", "high")], [p["p_adjusted"]], None]
            for p in pairs
        ],
        "more_pairs": [
            [[scale(p["files_low"]), scale(p["files_high"])], [p["image_share"]], [p["p_value"]],
             [scale(p["detectable"]), scale(p["detectable_high"])], [p["equivalence_p_adjusted"]]]
            for p in pairs
        ],
        "mcnemar": [
            [[row[key]] for key in ("seed_candidate", "seed_baseline", "only_candidate", "only_baseline", "p_value")]
            for p in pairs for row in p["mcnemar"]
        ],
        "cost": [
            [[m["train_time_s"], *([m["train_time_low_s"], m["train_time_high_s"]] if len(m["seeds"]) > 1 else [])],
             [m["epoch_time_s"]], [m["latency_p50_s"], m["latency_p95_s"]],
             [m["throughput_images_per_s"]],
             [m["parameters"], *([m["trainable_parameters"]] * (m["trainable_parameters"] != m["parameters"]))],
             [m["operations"]], [m["size_bytes"]], [m["peak_memory_bytes"]]]
            for m in models
        ],
        "trust": list_scores(models, "trust"),
        "robustness": [
            [None, *([row["accuracy"], row["low"], row["high"]] for severity in range(6)
                     for row in m["robustness"]
                     if row["severity"] == severity and (severity == 0 or row["corruption"] == corruption))]
            for m in models for corruption in ("noise", "blur", "brightness", "contrast", "translation")
        ],
        "seeds": [
            [[s[key]] for key in ("seed", "test_accuracy", "test_loss", "test_ece", "temperature", "epochs",
                                  "best_epoch", "min_val_epoch", "final_gap")]
            for m in by_name.values() for s in m["seeds"]
        ],
        "classes": [
            [[d["support"]], [d["baseline"]], [d["candidate"]], [d["value"], d["low"], d["high"]]]
            for d in numbers["differences"]
        ],
    }  # fmt: skip


def list_scores(models, table):
    """Returns the scores that are declared to be columns of a table, each with its interval where it has one."""
    columns = list_columns(table)
    assert len(columns) >= 4
    return [
        [[scale(model[key]) if column.form == "signed_points" else model[key]
          for key in (name, f"{name}_low", f"{name}_high") if key in model]
         for name, column in columns.items()]
        for model in models
    ]  # fmt: skip


def scale(fraction):
    return None if fraction is None else 100 * fraction


def check_table(rows, expected, language, name):
    assert len(rows) == len(expected), name
    for cells, wanted in zip(rows, expected, strict=True):
        for text, values in zip(cells, wanted, strict=True):
            if values is None:
                continue
            known = [value for value in values if value is not None]
            shown = read_numbers(text, language)
            assert len(shown) == len(known), (name, text, values)
            assert shown or text == "–", (name, text)
            for (value, half), true in zip(shown, known, strict=True):
                if isinstance(value, Below):
                    assert true < value, (name, text, true)
                else:
                    assert value == pytest.approx(true, abs=half * 1.001, rel=1e-5), (name, text, true)


@pytest.fixture(scope="module", params=["three seeds", "one seed and no clock"])
def comparison(request):
    is_poor = request.param != "three seeds"
    inputs = build_inputs(num_samples=600, num_seeds=1 if is_poor else 3)
    return build_comparison(**inputs | ({"timings": {}} if is_poor else {}))


@pytest.fixture(scope="module")
def numbers(comparison):
    return json.loads(render_json(comparison))


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_number_of_the_pages_tables_is_the_jsons(comparison, numbers, language):
    tables = Page(render_html(comparison, {}, language, gallery={})).tables
    expected = list_expected(numbers)
    assert set(expected) == {name for name in tables if not name.startswith("unnamed")}
    for name, wanted in expected.items():
        check_table([row[1:] for row in tables[name][1:]], wanted, language, name)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_number_of_the_markdowns_tables_is_the_jsons(comparison, numbers, language):
    blocks = re.findall(r"(?:^\|.*\n)+", render_markdown(comparison, language), re.MULTILINE)
    expected = list_expected(numbers)
    for name, block in zip(IN_MARKDOWN, blocks, strict=True):
        rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines()]
        assert {len(row) for row in rows} == {len(rows[0])}, name
        check_table([row[1:] for row in rows[2:]], expected[name], language, name)


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_number_that_a_column_is_sorted_by_is_the_one_that_it_shows(comparison, language):
    html = render_html(comparison, {}, language, gallery={})
    cells = re.findall(r'data-v="([^"]*)">([^<]*)', html)
    assert len(cells) > 200
    for value, escaped in cells:
        text = unescape(escaped)
        shown = read_numbers(text, language)
        assert bool(value) == bool(shown), (value, text)
        # points are a hundredth of what they are sorted by
        assert not shown or any(
            shown[0][0] == pytest.approx(float(value) * unit, abs=shown[0][1] * 1.001, rel=1e-6)
            or (isinstance(shown[0][0], Below) and float(value) < shown[0][0])
            for unit in (1, 100)
        ), (value, text)


@pytest.mark.parametrize("language", LANGUAGES)
def test_both_twins_head_their_tables_alike(comparison, language):
    tables = Page(render_html(comparison, {}, language, gallery={})).tables
    lines = render_markdown(comparison, language).splitlines()
    for name in IN_MARKDOWN:
        assert f"| {' | '.join(cell.strip() for cell in tables[name][0])} |" in lines, name
    assert load_locale(language)["columns"]["pair"] in tables["pairs"][0]


@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        ("91.88% 91.28% to 92.48%", "en", [0.9188, 0.9128, 0.9248]),
        ("91,88\u00a0% (91,28\u00a0% a 92,48\u00a0%)", "es", [0.9188, 0.9128, 0.9248]),
        ("−1.52 (−2.47 to +0.57)", "en", [-1.52, -2.47, 0.57]),
        ("1\u00a0min 02\u00a0s", "en", [62]),
        ("4,20\u00a0ms (p95: 5,80\u00a0ms)", "es", [0.0042, 0.0058]),
        ("372\u202f938 (entrenables 154\u202f938)", "es", [372938, 154938]),
        ("<\u202f0.001", "en", [0.001]),
        ("–", "es", []),
    ],
)
def test_this_files_own_reader_reads(text, language, expected):
    assert [value for value, _ in read_numbers(text, language)] == pytest.approx(expected)
