"""The data card says what is in the images, as JSON and as Markdown that a name can't break."""

import json

import numpy as np
import pytest

from cotejo.data.card import render_card, save_card, warn_left_out
from image_folders import RESIZE, draw, make_classes, make_splits, prepare, save

NAMES = ("a|b <b>", "niño", "`x`")


@pytest.fixture
def folder(tmp_path):
    make_classes(tmp_path / "my pictures", NAMES, count=10)
    make_classes(tmp_path / "my pictures", ("niño",), count=30, first=100)
    save(tmp_path / "my pictures/niño/wide.png", draw(7, side=20)[:10])
    (tmp_path / "my pictures/niño/notes.txt").touch()
    return tmp_path / "my pictures"


def test_the_card_counts_what_is_there(folder, tmp_path):
    prepared, card = prepare(folder, tmp_path / "out", operations=[RESIZE])
    assert card["digest"] == prepared.description["digest"]
    assert [card["splits"][split]["num_samples"] for split in ("train", "val", "test")] == [15, 15, 21]
    per_class = [card["splits"][split]["per_class"]["niño"] for split in ("train", "val", "test")]
    assert sum(per_class) == 31
    assert card["balance"]["largest"] == {"class": "niño", "count": per_class[0]}
    assert card["balance"]["ratio"] == round(per_class[0] / 3, 2)
    assert card["sizes"] == {"distinct": 2, "widths": [8, 20], "heights": [8, 10], "common": {"8x8": 50, "20x10": 1}}
    assert card["left_alone"] == {".txt": 1}
    assert (card["title"], card["licence"], card["homepage"]) == ("my pictures", "not stated", "not stated")


def test_what_the_folder_says_of_itself_is_in_the_card(folder, tmp_path):
    source = {"title": "Cats", "licence": "CC BY 4.0", "homepage": "https://example.org/cats"}
    (folder / "source.json").write_text(json.dumps(source))
    prepared, card = prepare(folder, tmp_path / "out", operations=[RESIZE])
    assert {key: card[key] for key in source} == source
    assert prepared.description["source"] == source
    assert "| licence | CC BY 4.0 |" in render_card(card)


def test_near_duplicates_are_named_and_kept(tmp_path):
    folder = make_splits(tmp_path / "pictures", "train", "val", "test")
    picture = draw(5000)
    save(folder / "test/dog/one.png", picture)
    save(folder / "train/cat/other.png", picture ^ np.uint8(1))
    _, card = prepare(folder, tmp_path / "out")
    assert card["near_duplicates"]["with_different_labels"] >= 1
    (example, *_) = card["near_duplicates"]["examples"]
    assert {example["first"], example["second"]} == {"test/dog/one.png (dog)", "train/cat/other.png (cat)"}
    assert card["splits"]["train"]["num_samples"] == 21
    assert "| test/dog/one.png (dog) | train/cat/other.png (cat) |" in render_card(card)
    assert "- train and test: at least " in render_card(card)  # 62 images: more than each is compared with


def test_names_keep_the_tables_whole(folder, tmp_path):
    _, card = prepare(folder, tmp_path / "out", operations=[RESIZE])
    rows = [line.replace("\\|", "") for line in render_card(card).splitlines() if line.startswith("|")]
    head = rows.index("| class | train | val | test |")
    assert all(row.count("|") == 5 for row in rows[head : head + 6])
    assert r"| \`x\` |" in rows[head + 3] or r"| \`x\` |" in rows[head + 2]


def test_the_files_are_the_same_on_every_run(folder, tmp_path):
    made = []
    for name in ("first", "second"):
        _, card = prepare(folder, tmp_path / name, operations=[RESIZE])
        save_card(card, tmp_path / name)
        made.append({file.name: file.read_bytes() for file in (tmp_path / name).iterdir()})
    assert made[0] == made[1]
    assert json.loads(made[0]["card.json"])["name"] == "my pictures"


def test_what_is_left_out_is_said_on_stderr(folder, tmp_path, capsys):
    _, card = prepare(folder, tmp_path / "out", operations=[RESIZE])
    warn_left_out(card)
    assert capsys.readouterr().err == ""
    (folder / "niño/empty.png").touch()
    _, card = prepare(folder, tmp_path / "out", operations=[RESIZE], on_bad_file="skip")
    warn_left_out(card)
    assert (
        capsys.readouterr().err == "preprocess: left out 1 that can't be read; reports/data/card.json has their names\n"
    )


def test_all_that_is_left_out_is_named_in_the_json_and_the_first_in_the_markdown(tmp_path):
    folder = make_splits(tmp_path / "pictures", "train", "test")
    for number in range(25):
        (folder / f"train/cat/empty {number:02}.png").touch()
        save(folder / f"test/dog/other {number:02}.png", draw(7000 + number))
        save(folder / f"train/dog/twice {number:02}.png", draw(7000 + number))
    _, card = prepare(folder, tmp_path / "out", on_bad_file="skip")
    empty = [f"train/cat/empty {number:02}.png (an empty file)" for number in range(25)]
    assert sorted(card["unreadable"]["files"]) == empty
    assert sorted(first for first, _ in card["duplicates"]["examples"]) == [
        f"train/dog/twice {number:02}.png" for number in range(25)
    ]
    text = render_card(card)
    assert text.count("(an empty file)") == text.count("twice") == 20
    assert text.count("  - and 5 more, in card.json") == 2


def test_images_at_the_wrong_depth_are_counted_on_stderr(tmp_path, capsys):
    folder = make_classes(tmp_path / "pictures")
    make_classes(folder / "cat/2024", ("may", "june"), first=500)
    save(folder / "cat/2024/may/.hidden.png", draw(0))
    save(folder / "cover.jpg", draw(0))
    _, card = prepare(folder, tmp_path / "out")
    warn_left_out(card)
    assert capsys.readouterr().err.splitlines() == [
        "preprocess: left alone images in folders within a class's folder: 20; move them into the class's folder "
        "itself, or leave it so",
        "preprocess: left alone images outside of a class's folder: 1; move them into their class's folder, or leave "
        "it so",
    ]
