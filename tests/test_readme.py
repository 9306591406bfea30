"""The numbers of the study in README.md and docs/results.md are those of its report."""

import json
import re

import pytest

from copied_study import ROOT

HEADINGS = ["model", "test accuracy", "95% interval", "macro F1", "parameters", "training", "per epoch"]
#: What a row's name begins with, by model.
NAMES = {"lenet": "LeNet-5", "resnet": "ResNet", "transfer": "Transfer learning", "finetune": "Fine-tuning"}
PAGES = ("README.md", "docs/results.md")


@pytest.fixture(scope="module")
def models():
    return {model["name"]: model for model in json.loads((ROOT / "reports/comparison.json").read_text())["models"]}


def read_table(page):
    """The first table of a page: its headings, and its rows' cells by the row's name."""
    block = re.search(r"^\|.*\n(?:\|.*\n)+", page, re.MULTILINE)[0]
    headings, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines())
    return headings, {row[0]: row[1:] for row in rows}


def say_time(seconds):
    if round(seconds) >= 60:
        minutes, rest = divmod(round(seconds), 60)
        return f"{minutes} min {rest:02d} s" if rest else f"{minutes} min"
    return f"{seconds:.0f} s"


def say_epoch(seconds):
    return f"{seconds:.1f} s" if seconds < 9.95 else say_time(seconds)


def say_row(model):
    low, high = (100 * model[f"test_accuracy_{end}"] for end in ("low", "high"))
    return [
        f"{100 * model['test_accuracy']:.2f}%", f"{low:.2f}–{high:.2f}%", f"{model['test_macro_f1']:.3f}",
        f"{model['parameters']:,}", say_time(model["train_time_s"]), say_epoch(model["epoch_time_s"]),
    ]  # fmt: skip


@pytest.mark.parametrize("path", PAGES)
def test_the_first_table_is_the_reports(models, path):
    headings, rows = read_table((ROOT / path).read_text())
    assert headings == HEADINGS
    assert len(rows) == len(models)
    for (name, cells), (key, model) in zip(rows.items(), models.items(), strict=True):
        assert name.startswith(NAMES[key])
        assert cells == say_row(model), name


def test_the_quoted_verdict_is_the_reports():
    """The report's bold sentence and the line of costs below it, both as they are printed there."""
    report = (ROOT / "reports/comparison.md").read_text().splitlines()
    place = next(number for number, line in enumerate(report) if line.startswith("**"))
    quoted = [line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("> ")]
    said = " ".join(line.removeprefix("> ") for line in quoted)
    expected = f"{report[place].strip('*')} {report[place + 1]}"
    assert say_plainly(said) == say_plainly(expected)


def say_plainly(text):
    """A text without the no-break spaces of its numbers, and without bold."""
    return " ".join(text.replace("**", "").split())
