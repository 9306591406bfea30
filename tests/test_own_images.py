"""A folder of your own goes through the real stages, and what would spoil the study stops it there."""

import json
import shutil
from contextlib import chdir

import numpy as np
import pytest
from dvc.repo import Repo
from sklearn.datasets import load_digits

from copied_study import copy_study
from image_folders import draw, save
from once import make_once
from small_pipeline import GIT, Pipeline

NAMES = ("cero $0 & $1", "uno|one", "dos <2>")


def change(folder, **values):
    """Changes keys of the section `data`, and the weights to random ones, which need no download."""
    params = folder / "params.yaml"
    lines = params.read_text(encoding="utf-8").splitlines()
    start = lines.index(next(line for line in lines if line.startswith("data:")))
    for key, value in values.items():
        index = next(n for n in range(start, len(lines)) if lines[n].startswith(f"  {key}:"))
        lines[index] = f"  {key}: {value}"
    text = "\n".join(lines) + "\n"
    params.write_text(text.replace("weights: imagenet ", "weights: random ", 1), encoding="utf-8")


@pytest.fixture(scope="module")
def own(environment):
    """A study of digits as PNG files in a folder within it, after `dvc repro`; only to be read, or copied."""

    def make(folder):
        study = Pipeline(copy_study(folder / "study"), environment)
        write_pictures(study.folder / "my pictures")
        change(study.folder, name="directory", path="my pictures", on_bad_file="skip")
        (study.folder / ".git/info/exclude").write_text("/my pictures/\n")
        study.run(*GIT, "commit", "--quiet", "--all", "--message", "my pictures")
        printed = study.run_without_mlflow("dvc", "repro", "download", "preprocess")
        (folder / "printed.txt").write_text(printed, encoding="utf-8")

    return Pipeline(make_once("own-images", make) / "study", environment)


def write_pictures(pictures):
    """Writes three digits as PNG files, one file that can't be read, and a test image among the training images."""
    digits = load_digits()
    for index, (image, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        if label < len(NAMES):
            split = "test" if index % 5 == 0 else "train"
            save(pictures / split / NAMES[label] / f"{index:04}.png", (image * 15).astype(np.uint8))
    (pictures / "source.json").write_text(json.dumps({"title": "Mine", "licence": "CC0"}))
    (pictures / ".DS_Store").write_bytes(b"x")
    (pictures / "train" / NAMES[0] / "empty.png").touch()
    taken = next((pictures / "test" / NAMES[1]).iterdir())
    shutil.copy(taken, pictures / "train" / NAMES[1] / "again.png")


def test_a_folder_becomes_the_splits_and_the_card(own):
    described = json.loads((own.folder / "data/processed/dataset.json").read_text(encoding="utf-8"))
    assert (described["name"], described["image_shape"]) == ("my pictures", [8, 8, 1])
    assert described["class_names"] == sorted(NAMES)
    test = np.load(own.folder / "data/processed/test_images.npy")
    files = [file for name in sorted(NAMES) for file in sorted((own.folder / "my pictures/test" / name).iterdir())]
    expected = load_digits().images[[int(file.stem) for file in files]] * 15
    np.testing.assert_array_equal(test[..., 0], expected.astype(np.uint8))
    card = json.loads((own.folder / "reports/data/card.json").read_text(encoding="utf-8"))
    assert (card["title"], card["licence"], card["digest"]) == ("Mine", "CC0", described["digest"])
    assert card["duplicates"]["removed"] == {"train": 1}
    assert (own.folder / "reports/figures/samples.png").stat().st_size > 5000
    printed = (own.folder.parent / "printed.txt").read_text(encoding="utf-8")
    assert "left out 1 that can't be read and 1 of train that another split has; reports/data/card.json" in printed


def test_nothing_but_the_lock_is_left_for_git(own):
    left = own.run("git", "status", "--short").splitlines()
    assert set(left) <= {"?? dvc.lock", "?? .dvc/.gitignore"}, "DVC writes the second where a copy lacks it"


def test_mlflow_has_the_data_by_its_digest_and_the_card(own):
    run = own.find_run("preprocess")
    digest = json.loads((own.folder / "data/processed/dataset.json").read_text())["digest"]
    (entry,) = run.inputs.dataset_inputs
    assert entry.dataset.name == "my pictures"
    assert digest.startswith(entry.dataset.digest)
    assert run.data.metrics["duplicates_removed"] == 1
    assert run.data.metrics["unreadable_files"] == 1
    listed = {artifact.path for artifact in own.client.list_artifacts(run.info.run_id, "data")}
    assert listed == {"data/card.json", "data/card.md"}


def test_the_folder_is_in_the_trace_of_what_is_made_of_it(own):
    printed = own.trace("data/processed")
    assert "from my pictures " in printed
    assert "The trace is complete: 1 stage." in printed
    assert "The trace is complete: 1 stage." in own.trace(own.find_run("preprocess").info.run_id)


def test_a_new_picture_runs_preprocess_again_and_a_fault_leaves_nothing_behind(own, tmp_path):
    study = own.copy(tmp_path / "study")
    with chdir(study.folder), Repo() as repo:
        assert repo.status(["download", "preprocess"]) == {}
    save(study.folder / "my pictures/train" / NAMES[2] / "wide.png", draw(1, side=20))
    printed = study.run("dvc", "repro", "preprocess", expected=255)
    (line,) = [line for line in printed.splitlines() if line.startswith("preprocess: ")]
    assert "my pictures: expected images of one size, such as 8x8" in line
    assert f"20x20 (1, train/{NAMES[2]}/wide.png the first)" in line
    assert "Traceback" not in printed
    left = {path.name for folder in ("data", "reports") for path in (study.folder / folder).rglob("*")}
    assert left <= {"raw", "weights", "source.json", "weights.json", "figures"}
