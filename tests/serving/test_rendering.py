"""Predictions as a table, JSON and CSV: what a reader of each gets back."""

import csv
import io
import json
import os
from pathlib import Path

import pytest

from cotejo.serving.pictures import Fault, list_pictures
from cotejo.serving.rendering import Prediction, choose_renderer

CLASSES = ["Käse, rot", 'a "b"', "日本"]
FILES = [Path("set/1.png"), Path("set/two, three\n.png"), Path("写真.png"), Path(os.fsdecode(b"caf\xe9.png"))]
RANKED = [("日本", 0.98765432), ("Käse, rot", 0.0123), ('a "b"', 0.0000456)]
FAULTS = [Fault("x.png", 'expected "this".\tReceived: that.')]
MODEL = {"name": "lenet, seed 0", "classes": CLASSES}


def render(style, files=FILES, faults=FAULTS, top=3):
    renderer = choose_renderer(style, MODEL, files, CLASSES, top)
    added = [renderer.add(Prediction(path, RANKED[:top])) for path in files]
    text = "".join([renderer.begin(), *added, renderer.end(faults)])
    text.encode("utf-8")  # whatever a file is called
    return text


def test_json_holds_model_predictions_and_errors():
    read = json.loads(render("json"))
    assert sorted(read) == ["errors", "model", "predictions", "schema_version"]
    assert (read["schema_version"], read["model"]) == (1, MODEL)
    assert [entry["file"] for entry in read["predictions"]] == [*map(str, FILES[:3]), "caf\\xe9.png"]
    assert read["predictions"][0] == {
        "file": "set/1.png", "class": "日本", "confidence": 0.987654,
        "top": [{"class": "日本", "confidence": 0.987654}, {"class": "Käse, rot", "confidence": 0.0123},
                {"class": 'a "b"', "confidence": 4.6e-05}],
    }  # fmt: skip
    assert read["errors"] == [{"file": "x.png", "error": FAULTS[0].error}]


def test_a_byte_that_is_not_utf_8_is_written_alike_everywhere():
    (fault,) = list_pictures([os.fsdecode(b"no\xe9\xff.png")]).faults
    read = json.loads(render("json", FILES[3:], [fault]))
    assert (read["predictions"][0]["file"], read["errors"][0]["file"]) == (r"caf\xe9.png", r"no\xe9\xff.png")
    for style in ("table", "csv"):
        assert render(style, FILES[3:], []).splitlines()[1].startswith(r"caf\xe9.png")


@pytest.mark.parametrize(("files", "faults"), [([], []), ([], FAULTS), (FILES, [])])
def test_json_is_whole_with_nothing_to_say(files, faults):
    read = json.loads(render("json", files, faults))
    assert (len(read["predictions"]), len(read["errors"])) == (len(files), len(faults))


def test_csv_has_a_row_per_picture_and_columns_by_rank():
    rows = list(csv.reader(io.StringIO(render("csv"), newline="")))
    assert rows[0] == ["file", "class", "confidence", "class_2", "confidence_2", "class_3", "confidence_3"]
    assert rows[2] == [str(FILES[1]), "日本", "0.987654", "Käse, rot", "0.012300", 'a "b"', "0.000046"]
    assert len(rows) == 1 + len(FILES)
    assert render("csv", FILES[:1], [], top=1) == "file,class,confidence\nset/1.png,日本,0.987654\n"


def test_the_table_has_a_line_per_picture_aligned_as_a_terminal_shows_it():
    # the line break in a name is shown, not made, and 日 is as wide as two letters
    assert render("table", FILES[:3]).splitlines() == [
        "file                  class      confidence  then",
        'set/1.png             日本           98.77%  Käse, rot 1.23%, a "b" 0.00%',
        'set/two, three\\n.png  日本           98.77%  Käse, rot 1.23%, a "b" 0.00%',
        '写真.png              日本           98.77%  Käse, rot 1.23%, a "b" 0.00%',
    ]
    assert render("table", [], FAULTS, top=1) == "file  class      confidence\n"
