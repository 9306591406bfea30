"""Which saved model is meant, what is known of it, and what a user reads where there is none."""

import hashlib
import json
import re
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from cotejo.comparison.champion import find_champion
from cotejo.errors import CotejoError
from cotejo.report.render import render_json
from cotejo.serving.archives import Archive, find_archive
from cotejo.serving.facts import Facts, load_facts
from cotejo.tracking.journal import Run
from cotejo.tracking.mlflow.connection import Names
from cotejo.tracking.mlflow.delivery import Delivery
from synthetic_study import build_comparison, build_inputs, load_metrics
from waiting import Waiting, start_child

DIGEST = 8 * "5eed" + ".dir"
#: MLflow's own example of a model warns when it is first imported, by what describes a model.
pytestmark = pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType")


@pytest.fixture(scope="module")
def inputs():
    return build_inputs(num_samples=500, num_seeds=3)


@pytest.fixture(scope="module")
def comparison(inputs):
    return build_comparison(**inputs)


@pytest.fixture
def study(tmp_path, monkeypatch, inputs, comparison):
    """What evaluate and compare leave, around archives that nothing here loads."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for name, metrics in inputs["metrics"].items():
        for row in metrics["per_seed"]:
            path = tmp_path / f"models/{name}/seed-{row['seed']}/model.keras"
            path.parent.mkdir(parents=True)
            path.write_bytes(f"{name} {row['seed']}".encode())  # of which synthetic_study gives the SHA-256
        write_json(tmp_path / f"reports/metrics/{name}.json", metrics)
    (tmp_path / "reports/comparison.json").write_text(render_json(comparison), encoding="utf-8")
    write_json(tmp_path / "data/processed/dataset.json", inputs["dataset"])
    return tmp_path


def write_json(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def find(model=None, run_id=None, seed=None):
    folder = Path("fetched")
    folder.mkdir(exist_ok=True)
    return find_archive(Path(), folder, model=model, run_id=run_id, seed=seed)


def refusal(*arguments, **named):
    with pytest.raises(CotejoError) as caught:
        find(*arguments, **named)
    said = str(caught.value)
    assert "\n" not in said
    return said


@pytest.mark.parametrize("name", ["lenet", "resnet", "transfer", "finetune"])
def test_the_champion_is_the_archive_that_compare_registers(study, inputs, comparison, name):
    serving = replace(comparison, served=name, served_ties=())
    (study / "reports/comparison.json").write_text(render_json(serving), encoding="utf-8")
    champion = find_champion(serving, load_metrics(inputs["metrics"]))
    found = find()
    assert str(found.path) == champion["path"]
    assert found.data_digest == champion["tags"]["data.sha256"]
    assert found.title == f"{name}, seed {champion['tags']['seed']}, the champion of reports/comparison.json"


def test_a_model_of_the_study_is_its_best_seed_on_the_validation_images_or_the_one_named(study, inputs):
    rows = inputs["metrics"]["lenet"]["per_seed"]
    best = min(rows, key=lambda row: row["val_cross_entropy"])["seed"]
    assert find("lenet").path == Path(f"models/lenet/seed-{best}/model.keras")
    assert find("lenet", seed=2).path == Path("models/lenet/seed-2/model.keras")
    assert find(seed=1).path.name == "model.keras"
    shutil.copytree("models/lenet/seed-0", "models/lenet/seed-old")
    assert find("lenet").path == Path(f"models/lenet/seed-{best}/model.keras")
    assert "seeds that are here: 0, 1, 2." in refusal("lenet", seed=9)


def test_a_training_that_was_never_evaluated_is_found_where_there_is_no_choice(study):
    (study / "reports/metrics/lenet.json").unlink()
    assert "`dvc repro evaluate`, or say --model and --seed" in refusal("lenet")
    for seed in (0, 1):
        (study / f"models/lenet/seed-{seed}/model.keras").unlink()
    assert find("lenet").path == Path("models/lenet/seed-2/model.keras")


def test_a_champion_that_was_trained_again_since_is_not_served_under_its_name(study):
    path = find().path
    path.write_bytes(b"another training")
    said = refusal()
    assert said.startswith(f"{path}: expected the training that reports/metrics/")
    seed = int(path.parent.name[-1])
    assert said.endswith(f"Run `dvc repro evaluate`, or say --model {path.parts[1]} --seed {seed}.")
    assert refusal(seed=seed) == said
    assert find(path.parts[1], seed=seed).path == path


def test_no_model_is_the_champion_of_a_comparison_of_other_trainings(study):
    """As while the study runs with other data or parameters, and after it was stopped there."""
    name = find().path.parts[1]
    path = study / f"reports/metrics/{name}.json"
    write_json(path, {**json.loads(path.read_text()), "dvc_digest": "5eed.dir"})
    for seed in (None, 0):
        said = refusal(seed=seed)
        assert said.startswith("reports/comparison.json: expected a comparison of the scores in reports/metrics/")
        assert said.endswith(f"Run `dvc repro compare`, or say --model {name}.")
    path.unlink()  # evaluate is at work
    for seed in (0, 1):
        (study / f"models/{name}/seed-{seed}/model.keras").unlink()
    assert refusal().startswith(f"reports/metrics/{name}.json: expected the scores")
    assert find(name).path.exists()


@pytest.mark.parametrize(
    ("removed", "said"),
    [
        (
            "reports/comparison.json",
            "reports/comparison.json: expected the study's comparison, which names the champion",
        ),
        ("reports/metrics/{}.json", "expected the scores by which one of the seeds is chosen. Received: no such file."),
        ("models/{}/seed-{}/model.keras", "Received: no such file; seeds that are here: "),
    ],
)
def test_what_is_missing_is_named_with_the_command_that_makes_it(study, removed, said):
    found = find()
    name, seed = found.path.parts[1], found.path.parent.name.removeprefix("seed-")
    (study / removed.format(name, seed)).unlink()
    assert said in refusal()
    assert "`dvc " in refusal()


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"served": "lenet", "dataset": {}}'])
def test_a_comparison_of_another_form_is_refused(study, content):
    (study / "reports/comparison.json").write_text(content)
    assert re.match(
        r"reports/comparison\.json: (expected |served: missing|dataset\.digest: missing).* Run `dvc ", refusal()
    )


def test_names_that_stand_for_no_model_get_a_list_of_those_that_do(study):
    assert refusal("lenett").endswith("Received: lenett, no such file. Did you mean `lenet`?")
    assert "Received: models, a folder." in refusal("models")
    assert refusal("lenet", run_id="abcdef") == "expected either --model or --run. Received: lenet and abcdef."
    assert "Received: --seed beside models/lenet/seed-0/model.keras." in refusal(
        "models/lenet/seed-0/model.keras", seed=0
    )
    assert refusal("models:/cotejo") == "expected models:/name@alias or models:/name/version. Received: models:/cotejo."
    assert refusal(run_id="abc") == "expected a run's id in MLflow, or six characters of it or more. Received: abc."
    assert "Received: no mlflow.db in " in refusal("models:/cotejo@champion")
    assert find("models/lenet/seed-0/model.keras").path.read_bytes() == b"lenet 0"


def test_an_mlflow_that_is_down_is_said_in_one_line(study, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:secret@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    for said in (refusal("models:/cotejo@champion"), refusal(run_id="abcdef")):
        assert "Received: " in said
        assert "secret" not in said


@pytest.fixture
def tracked(study, inputs, comparison):
    """MLflow with a training of two seeds, and the champion of a comparison."""
    tracker = Waiting(study / ".cotejo/journal", Delivery(study, study / ".cotejo", 30, Names("cotejo", "cotejo")))
    stage = Run(tracker, "train-lenet", None, {"dvc.stage": "train-lenet", "deps": f"data/processed {DIGEST}"})
    for seed in (0, 1):
        with start_child(stage, f"train-lenet seed {seed}") as child:
            child.log_model(study / f"models/lenet/seed-{seed}/model.keras", (28, 28, 1), 10)
    stage.finish("FINISHED")
    compare = Run(tracker, "compare", None, {"dvc.stage": "compare"})
    compare.log_champion(find_champion(comparison, load_metrics(inputs["metrics"])))
    compare.finish("FINISHED")
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{study / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("cotejo").experiment_id
    return {run.info.run_name: run.info.run_id for run in client.search_runs([experiment])}


def test_mlflow_gives_the_bytes_of_a_run_a_stage_a_version_and_an_alias(study, tracked):
    by_run = find(run_id=tracked["train-lenet seed 1"][:8])
    assert by_run.path.read_bytes() == b"lenet 1"
    assert by_run.path.is_relative_to(Path("fetched").resolve())
    assert by_run.data_digest == DIGEST
    assert by_run.title == f"train-lenet seed 1, run {tracked['train-lenet seed 1'][:8]}"
    assert find(run_id=tracked["train-lenet"], seed=0).path.read_bytes() == b"lenet 0"
    champion = find()
    for uri in ("models:/cotejo@champion", "models:/cotejo/1"):
        found = find(uri)
        assert found.path.read_bytes() == champion.path.read_bytes()
        assert found.data_digest == champion.data_digest
        assert found.title == f"{uri}, version 1: {champion.title.partition(', the')[0]}"


def test_what_mlflow_does_not_have_is_said_with_what_it_has(study, tracked):
    seeds = [tracked[f"train-lenet seed {seed}"][:8] for seed in (0, 1)]
    said = refusal(run_id=tracked["train-lenet"])
    assert "expected a run with one model. Received: 2: " in said
    assert all(f"{start} train-lenet seed {seed}" in said for seed, start in enumerate(seeds))
    assert "Received: one with none of seed 7." in refusal(run_id=tracked["train-lenet"], seed=7)
    assert "expected the id of one run that MLflow knows. Received: none;" in refusal(run_id="f" * 32)
    for uri in ("models:/cotejo@winner", "models:/cotejo/9", "models:/other@champion", "models:/cotejo/first"):
        assert refusal(uri).startswith(f"{uri}: expected a version of a registered model. Received: ")


def archive_with(path, **facts):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("cotejo.json", json.dumps(facts))
    return Archive(path, path.name, path.name, "digest of long ago")


def test_what_an_archive_says_of_itself_goes_before_what_the_study_says_now(study):
    classes, grey = ["a", "b"], {"name": "grayscale"}
    archive = archive_with(
        study / "m.keras", class_names=classes, image_shape=[9, 8, 1], operations=[grey], color="rgb"
    )
    facts = load_facts(archive, study)
    assert facts[:2] == (("a", "b"), (9, 8, 1))
    assert [operation.name for operation in facts.operations] == ["grayscale"]
    assert (facts.color, facts.num_channels) == ("rgb", None)


def test_an_archive_that_says_nothing_has_the_classes_of_the_data_it_was_trained_on(study, inputs):
    expected = Facts(tuple(inputs["dataset"]["class_names"]), (28, 28, 1), (), None)
    assert load_facts(find(), study) == expected
    assert load_facts(find("models/lenet/seed-0/model.keras"), study) == expected  # of which nothing is known
    with pytest.raises(CotejoError, match=r"Received: other data, 9f3c9f3c\. Run `dvc repro`"):
        load_facts(find()._replace(data_digest="0" * 64), study)
    (study / "data/processed/dataset.json").unlink()
    with pytest.raises(CotejoError, match="Received: a file that is no archive, or part of one"):
        load_facts(find(), study)
    with zipfile.ZipFile(study / "silent.keras", "w"):
        pass
    with pytest.raises(CotejoError, match="expected an archive that names its classes, or data/processed/dataset"):
        load_facts(find("silent.keras"), study)


def test_a_training_on_other_data_than_preprocess_has_made_since_is_refused(study):
    def lock(read):
        (study / "dvc.lock").write_text(
            "stages:\n"
            "  preprocess:\n    cmd: x\n    outs: [{path: data/processed, md5: aa.dir}]\n"
            f"  train-lenet:\n    cmd: x\n    deps: [{{path: data/processed, md5: {read}.dir}}]\n"
            "    outs: [{path: models/lenet, md5: bb.dir}]\n"
        )
        return load_facts(find("lenet"), study)

    assert lock("aa").image_shape == (28, 28, 1)
    with pytest.raises(CotejoError, match=r"seed-\d/model\.keras: expected the data that it was trained on, cc\.dir"):
        lock("cc")


@pytest.mark.parametrize("facts", [{}, {"class_names": ["a"], "image_shape": [8, 8]}, {"class_names": 3}])
def test_facts_of_another_form_are_refused_with_the_archives_name(study, facts):
    with pytest.raises(CotejoError, match=r"m\.keras: cotejo\.json: expected the classes and the shape"):
        load_facts(archive_with(study / "m.keras", **facts), study)


def test_the_synthetic_digests_are_those_of_the_archives_here(study, inputs):
    path = study / "models/resnet/seed-1/model.keras"
    assert hashlib.sha256(path.read_bytes()).hexdigest() == inputs["metrics"]["resnet"]["per_seed"][1]["model_sha256"]
