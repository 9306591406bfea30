"""The whole study on a folder of pictures, from the first refusal to a new picture's class.

Its transfer learning is on the first LeNet, which DVC therefore trains before.
"""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from copied_study import TINY, copy_study
from image_folders import save
from small_pipeline import Pipeline

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

NAMES = ("0 zéro", "1 – uno", "2 & två", "3 drei!", "4 (yon)", "5 «пять»", "6 #six", "7 % sept", "8 '八'", "9 $nueve")
OWN_BACKBONE = "models/lenet/seed-0/model.keras"
DECLARED = {
    **TINY,
    "resnet.architecture": "resnet_small",
    "transfer.weights": f"model:{OWN_BACKBONE}",
    "transfer.weights_path": OWN_BACKBONE,
    "finetune.unfreeze": "2",
    "data.name": "directory",
    "data.path": "my digits",
    "preprocess.operations": "[{name: resize, height: 16, width: 16, interpolation: cubic, keep_aspect: true,"
    " pad_value: 0}, {name: normalize, low: 1.0, high: 99.0}]",
}


def make_folder(folder: Path) -> None:
    """Writes the 1,797 digits as PNG files, every fifth to the test, and plants what goes wrong in such folders."""
    digits = load_digits()
    for index, (image, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        split = "test" if index % 5 == 0 else "train"
        save(folder / split / NAMES[label] / f"n° {index:04}.png", (image * 15).astype(np.uint8))
    tested = sorted((folder / "test" / NAMES[4]).iterdir())
    for number in range(3):
        shutil.copy(tested[number], folder / "train" / NAMES[4] / f"again {number}.png")
    three = min((folder / "train" / NAMES[3]).iterdir())
    shutil.copy(three, folder / "train" / NAMES[5] / "rather a five.png")
    (folder / "train" / NAMES[0] / "empty.png").touch()
    (folder / "train" / NAMES[1] / "half.png").write_bytes(three.read_bytes()[:60])
    (folder / "train" / NAMES[1] / "notes.txt").write_text("ask Ana")
    for name in (".DS_Store", "test/.DS_Store"):
        (folder / name).write_bytes(b"\0\0\0\1Bud1")
    save(folder / ".trash/old.png", np.zeros((8, 8), np.uint8))


def run(study: Pipeline, expected: int = 0, **changes: str) -> str:
    """Runs the study as an experiment with the declared parameters."""
    declared = {**DECLARED, **changes}
    return study.run("dvc", "exp", "run", *(f"--set-param={key}={value}" for key, value in declared.items()),
                     expected=expected)  # fmt: skip


@pytest.fixture(scope="module")
def study(tmp_path_factory, environment):
    """A study with a folder of its own that Git doesn't see."""
    study = Pipeline(copy_study(tmp_path_factory.mktemp("own") / "study"), environment)
    make_folder(study.folder / "my digits")
    (study.folder / ".git/info/exclude").write_text("/my digits/\n")
    return study


def test_a_folder_of_pictures_is_refused_mended_studied_and_its_champion_knows_a_new_one(study):
    refused = run(study, expected=255)
    lines = [line.strip() for line in refused.splitlines()]
    assert sum(line.startswith("preprocess: my digits has 2 faults; nothing was written.") for line in lines) == 1
    (unread,) = [line for line in lines if "2 files that can't be read" in line]
    assert f"train/{NAMES[0]}/empty.png" in unread
    assert f"train/{NAMES[1]}/half.png" in unread
    (conflict,) = [line for line in lines if "the same pixels in two classes" in line]
    assert f"train/{NAMES[5]}/rather a five.png ({NAMES[5]})" in conflict
    assert not (study.folder / "models/lenet").exists()

    study.run("git", "checkout", "--", "params.yaml")
    (study.folder / "my digits/train" / NAMES[5] / "rather a five.png").unlink()
    run(study, **{"data.on_bad_file": "skip"})

    card = json.loads((study.folder / "reports/data/card.json").read_text(encoding="utf-8"))
    assert sum(card["duplicates"]["removed"].values()) == 3
    assert card["unreadable"]["count"] == 2
    assert card["left_alone"] == {".txt": 1, "hidden": 3}
    counts = {split: table["num_samples"] for split, table in card["splits"].items()}
    assert counts["test"] == 360
    assert counts["train"] + counts["val"] == 1437  # all the others, once
    report = (study.folder / "reports/comparison.html").read_text(encoding="utf-8")
    assert "5 «пять»" in report
    with np.load(study.folder / "reports/predictions/lenet.npz") as arrays:
        y_prob = arrays["y_prob"][0]
    (study.folder / "new").mkdir()
    tested = [file for name in NAMES for file in sorted((study.folder / "my digits/test" / name).iterdir())]
    for row in (0, 100, 359):
        shutil.copy(tested[row], study.folder / "new" / f"{row:03}.png")
    command = ["cotejo", "predict", "--model", "lenet", "--top", "10", "--json", "new"]
    printed = subprocess.run(
        command, cwd=study.folder, env=study.environment, stdout=subprocess.PIPE, check=True
    ).stdout
    found = json.loads(printed)
    for row, picture in zip((0, 100, 359), found["predictions"], strict=True):
        told = {entry["class"]: entry["confidence"] for entry in picture["top"]}
        assert [told[name] for name in NAMES] == pytest.approx(y_prob[row].tolist(), abs=1e-5)
