"""The whole study, run by DVC as a user runs it, on scikit-learn's digits in a copy of the repository."""

import hashlib
import json
import os
import re
import shutil
from contextlib import chdir
from html.parser import HTMLParser
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from dvc.repo import Repo
from PIL import Image
from sklearn.metrics import accuracy_score, f1_score

from copied_study import OVERRIDES, Workplace, copy_study
from cotejo.params import flatten, read_yaml
from cotejo.training.description import read_serving
from once import make_once

#: `make demo` runs it too; the stages one by one, and small pipelines under DVC, are in `make test`.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

MODELS = ("lenet", "resnet", "transfer", "finetune")
NOWHERE = "http://127.0.0.1:9"


class Study(Workplace):
    """A copy of the study and its environment."""

    def find_stale(self) -> list[str]:
        """Lists the stages that DVC would run, as `dvc status`, whose process would take longer than its answer."""
        with chdir(self.folder), Repo() as repo:
            return sorted(repo.status())

    def copy(self, target: Path) -> "Study":
        """Returns the same, with all that has been made, in a folder of its own."""
        shutil.copytree(self.folder, target, symlinks=True)
        return Study(target, self.environment)

    def load_json(self, path: str) -> dict:
        return json.loads((self.folder / path).read_text())


@pytest.fixture(scope="module")
def finished(tmp_path_factory, environment) -> Study:
    """The study after one `dvc exp run`, on a machine with no Git identity and no network."""
    no_identity = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    no_network = {"HTTP_PROXY": NOWHERE, "HTTPS_PROXY": NOWHERE}
    own = {**environment, **no_identity, **no_network}

    def make(folder: Path) -> None:
        Study(copy_study(folder / "study"), own).run("dvc", "exp", "run", "-n", "tiny", *OVERRIDES)

    made = Study(make_once("whole-study", make) / "study", own)
    return made.copy(tmp_path_factory.mktemp("whole") / "study")


@pytest.fixture(autouse=True)
def initialized_tensorflow(monkeypatch):
    """Leaves TensorFlow's threads alone: they can be set before it is first used, which another test has done."""
    monkeypatch.setattr("cotejo.serving.classifier.configure_hardware", lambda setup: None)


@pytest.fixture(scope="module")
def runs(finished):
    client = mlflow.MlflowClient(f"sqlite:///{finished.folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("cotejo")
    return {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}


def test_every_model_says_itself_what_it_was_trained_on(finished):
    dataset = finished.load_json("data/processed/dataset.json")
    for name in MODELS:
        said = read_serving(finished.folder / f"models/{name}/seed-0/model.keras")
        assert {key: said[key] for key in ("name", "digest", "class_names", "image_shape")} == {
            key: dataset[key] for key in ("name", "digest", "class_names", "image_shape")
        }
        assert (said["operations"], said["color"]) == ([], None)


def test_every_model_is_scored_on_every_test_image_once(finished):
    total = finished.load_json("data/processed/dataset.json")["splits"]["test"]["num_samples"]
    assert total == 360  # a fifth of the 1,797 digits
    for name in MODELS:
        with np.load(finished.folder / f"reports/predictions/{name}.npz") as arrays:
            assert arrays["y_prob"].shape == (1, total, 10)
            assert np.array_equal(arrays["y_true"], np.load(finished.folder / "data/processed/test_labels.npy"))
            dataset = finished.load_json("data/processed/dataset.json")
            assert str(arrays["images_sha256"]) == dataset["splits"]["test"]["digest"]
            num_val = dataset["splits"]["val"]["num_samples"]
            assert arrays["val_correct"].shape == arrays["val_losses"].shape == (1, num_val)
            assert arrays["corrupted_correct"].shape == (1, len(arrays["corrupted_indices"]))


def test_metrics_agree_with_scikit_learn_on_the_kept_predictions(finished):
    for name in MODELS:
        metrics = finished.load_json(f"reports/metrics/{name}.json")
        with np.load(finished.folder / f"reports/predictions/{name}.npz") as arrays:
            y_true, y_pred = arrays["y_true"], arrays["y_prob"][0].argmax(axis=1)
        assert metrics["test_accuracy"] == pytest.approx(accuracy_score(y_true, y_pred), abs=1e-12)
        assert metrics["test_macro_f1"] == pytest.approx(f1_score(y_true, y_pred, average="macro", zero_division=0))
        assert metrics["test_accuracy_low"] < metrics["test_accuracy"] < metrics["test_accuracy_high"]


def test_lenet_learns(finished):
    assert finished.load_json("reports/metrics/lenet.json")["test_accuracy"] > 0.8


def test_a_second_run_runs_nothing(finished):
    assert "Data and pipelines are up to date" in finished.run("dvc", "repro")


def test_dvc_shows_metrics_plots_and_the_experiment(finished):
    with chdir(finished.folder), Repo() as repo:
        files = repo.metrics.show()[""]["data"]
    assert {Path(path).stem for path in files} == set(MODELS)
    assert all("test_accuracy" in table["data"] for table in files.values())
    finished.run("dvc", "plots", "show", "--out", "plots")
    page = (finished.folder / "plots" / "index.html").read_text()
    assert all(f"{kind}-{name}.png" in page for kind in ("confusion-counts", "predictions") for name in MODELS)
    assert "tiny" in finished.run("dvc", "exp", "show")


@pytest.mark.parametrize(
    ("path", "stages"),
    [
        ("src/cotejo/report/templates/report.html.j2", ["compare"]),
        ("src/cotejo/report/locales/en.yaml", ["compare"]),
        ("src/cotejo/models/resnet.py", ["train-resnet"]),
        ("src/cotejo/models/lenet.py", ["search", "train-lenet"]),
        ("src/cotejo/models/backbones.py", ["finetune", "transfer-learn"]),
        ("src/cotejo/tracking/journal.py", []),
    ],
)
def test_an_edit_makes_only_its_stages_stale(finished, path, stages):
    file = finished.folder / path
    original = file.read_text()
    try:
        file.write_text(original + "\n")
        assert finished.find_stale() == stages
    finally:
        file.write_text(original)


@pytest.mark.parametrize(
    ("key", "value", "stages"),
    [
        # how and where it runs
        ("tracking_timeout_s", 7, []),
        ("workers", 3, []),
        # the first of this name is lenet's; evaluate is stale only when there are other models
        ("epochs", 1, ["compare", "search", "train-lenet"]),
    ],
)
def test_a_changed_value_makes_the_stages_stale_that_read_it(finished, key, value, stages):
    file = finished.folder / "params.yaml"
    original = file.read_text()
    try:
        file.write_text(re.sub(rf"(?<=^  {key}: )\d+", str(value), original, count=1, flags=re.MULTILINE))
        assert file.read_text() != original
        assert finished.find_stale() == stages
    finally:
        file.write_text(original)


def test_the_reports_filters_find_the_trainings_in_mlflow(finished, runs):
    page = (finished.folder / "reports/comparison.html").read_text(encoding="utf-8")
    filters = re.findall(r"<code>(tags\.outs LIKE \"%models/\w+ \w+\.dir%\")</code>", page)
    client = mlflow.MlflowClient(f"sqlite:///{finished.folder / 'mlflow.db'}")
    experiment = runs["compare"].info.experiment_id
    found = [[run.info.run_name for run in client.search_runs([experiment], text)] for text in filters]
    assert found == [["train-lenet"], ["train-resnet"], ["transfer-learn"], ["finetune"]]


def test_mlflow_has_one_parent_and_a_run_per_stage_seed_and_trial(runs):
    tree = {name: run.data.tags.get("mlflow.parentRunId") for name, run in runs.items()}
    ids = {run.info.run_id: name for name, run in runs.items()}
    parents = {name: ids.get(parent) for name, parent in tree.items()}
    stages = ["download", "preprocess", "train-lenet", "train-resnet", "transfer-learn", "finetune", "search",
              "evaluate", "compare"]  # fmt: skip
    seeds = ["train-lenet", "train-resnet", "transfer-learn", "finetune"]
    assert parents == {
        "tiny": None,
        **dict.fromkeys(stages, "tiny"),
        **{f"{stage} seed 0": stage for stage in seeds},
        "trial 0": "search",
        "trial 1": "search",
    }
    assert {run.info.status for run in runs.values()} == {"FINISHED"}


def test_a_run_says_where_it_came_from(runs):
    tags = runs["train-lenet seed 0"].data.tags
    assert tags["dvc.stage"] == "train-lenet"
    assert tags["dvc.exp_name"] == "tiny"
    assert len(tags["mlflow.source.git.commit"]) == 40
    assert runs["train-lenet"].inputs.dataset_inputs


def test_no_run_has_more_tags_than_a_person_reads(runs):
    assert max(len(run.data.tags) for run in runs.values()) <= 15


def test_a_parameter_has_the_name_of_params_yaml_in_every_run(runs, finished):
    declared = dict(flatten(read_yaml(finished.folder / "params.yaml"))).keys()
    for name in ("train-lenet", "train-lenet seed 0", "trial 0", "finetune seed 0"):
        assert runs[name].data.params.keys() - {"seed", "parameters"} <= declared, name
        assert not any(value.startswith("{") for value in runs[name].data.params.values()), name


def test_a_stages_run_has_the_mean_of_what_its_seeds_kept(runs, finished):
    history = pd.read_csv(finished.folder / "models/lenet/seed-0/history.csv")
    (kept,) = history[history["kept"]].to_dict("records")
    shown = runs["train-lenet"].data.metrics
    assert {name: shown[name] for name in ("accuracy", "val_accuracy", "val_loss")} == pytest.approx(
        {name: kept[name] for name in ("accuracy", "val_accuracy", "val_loss")}
    )


def test_the_parent_shows_the_studys_params_and_scores(runs, finished):
    parent = runs["tiny"].data
    assert parent.params["lenet.epochs"] == "3"
    accuracy = finished.load_json("reports/metrics/resnet.json")["test_accuracy"]
    assert parent.metrics["resnet/test_accuracy"] == pytest.approx(accuracy)


@pytest.mark.filterwarnings("ignore:.*AnyType")  # MLflow's own pydantic models, when its pyfunc loader is imported
def test_a_seeds_run_has_its_curve_and_a_model_that_takes_raw_images(runs, finished, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{finished.folder / 'mlflow.db'}")
    client = mlflow.MlflowClient()
    run_id = runs["train-lenet seed 0"].info.run_id
    assert [point.step for point in client.get_metric_history(run_id, "val_loss")] == [1, 2, 3]
    model = mlflow.pyfunc.load_model(f"runs:/{run_id}/model")
    images = np.load(finished.folder / "data/processed/test_images.npy")
    with np.load(finished.folder / "reports/predictions/lenet.npz") as arrays:
        np.testing.assert_allclose(model.predict(images), arrays["y_prob"][0], atol=1e-6)


class References(HTMLParser):
    """Collects what a page would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []

    def handle_starttag(self, tag, attrs):
        wanted = ("src", "srcset", "data") if tag == "a" else ("src", "srcset", "data", "href")
        self.fetched += [value for key, value in attrs if key in wanted and value and value[0] != "#"]


def test_the_best_model_on_the_validation_images_is_the_champion_and_has_the_bytes_of_its_training(runs, finished):
    comparison = finished.load_json("reports/comparison.json")
    by_name = {model["name"]: model for model in comparison["models"]}
    client = mlflow.MlflowClient(f"sqlite:///{finished.folder / 'mlflow.db'}")
    champion = client.get_model_version_by_alias("cotejo", "champion")
    model = comparison["served"]
    assert by_name[model]["val_accuracy"] == max(row["val_accuracy"] for row in by_name.values())
    # one seed each: nothing is recommended
    assert [finding["key"] for finding in comparison["recommendations"]] == ["recommend.withheld", "recommend.served"]
    archive = (finished.folder / "models" / model / "seed-0" / "model.keras").read_bytes()
    assert champion.tags["model"] == model
    assert champion.tags["model.sha256"] == hashlib.sha256(archive).hexdigest()
    for key in ("val_accuracy", "test_accuracy"):
        assert float(champion.tags[key]) == pytest.approx(by_name[model][key], abs=1e-6)  # rounded there
    stage = {"transfer": "transfer-learn", "finetune": "finetune"}.get(model, f"train-{model}")
    assert champion.run_id == runs[f"{stage} seed 0"].info.run_id


def test_the_report_is_one_file_that_fetches_nothing(finished):
    page = (finished.folder / "reports/comparison.html").read_text()
    references = References()
    references.feed(page)
    # what is in the page itself is not fetched
    assert [address for address in references.fetched if not address.startswith("data:")] == []
    assert "@import" not in page


def test_the_report_says_that_the_backbone_was_not_pretrained(finished):
    for suffix in ("html", "md"):
        assert "was not pretrained" in (finished.folder / f"reports/comparison.{suffix}").read_text()


def test_predict_gives_a_picture_the_confidences_that_evaluate_gave_it(finished, runs):
    champion = finished.load_json("reports/comparison.json")["served"]
    images = np.load(finished.folder / "data/processed/test_images.npy")
    (finished.folder / "pictures").mkdir(exist_ok=True)
    for row, image in enumerate(images):
        Image.fromarray(image[..., 0]).save(finished.folder / f"pictures/{row:03}.png")
    with np.load(finished.folder / f"reports/predictions/{champion}.npz") as arrays:
        y_prob = arrays["y_prob"][0]
    training = {"lenet": "train-lenet", "resnet": "train-resnet", "transfer": "transfer-learn", "finetune": "finetune"}
    run_id = runs[f"{training[champion]} seed 0"].info.run_id
    found = []
    for model in ((), ("--model", champion), ("--model", "models:/cotejo@champion"), ("--run", run_id[:8])):
        text = finished.run("cotejo", "predict", "pictures", "--json", "--top", "10", *model)
        read = json.JSONDecoder().raw_decode(text[text.index("{") :])[0]
        found.append(read["model"]["sha256"])
        rows = [{place["class"]: place["confidence"] for place in entry["top"]} for entry in read["predictions"]]
        shown = np.array([[row[name] for name in read["model"]["classes"]] for row in rows])
        np.testing.assert_allclose(shown, y_prob, atol=1e-6)
    assert set(found) == {
        hashlib.sha256((finished.folder / f"models/{champion}/seed-0/model.keras").read_bytes()).hexdigest()
    }


def test_another_experiment_runs_what_it_changes_and_shows_the_difference(finished, tmp_path):
    study = finished.copy(tmp_path / "study")
    printed = study.run("dvc", "exp", "run", "-n", "short", "-S", "lenet.epochs=1")
    ran = [line.split("'")[1] for line in printed.splitlines() if line.startswith("Running stage")]
    assert ran == ["train-lenet", "search", "evaluate", "compare"]
    shown = json.loads(study.run("dvc", "exp", "diff", "tiny", "short", "--json"))
    params = shown["params"]["params.yaml"]
    assert params == {"lenet.epochs": {"old": 3, "new": 1, "diff": -2}}
    assert shown["metrics"]["reports/metrics/lenet.json"]["test_accuracy"]["diff"] != 0
