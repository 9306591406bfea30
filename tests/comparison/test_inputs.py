"""What compare reads of evaluate, and what it says of a file that is missing or damaged."""

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from cotejo.comparison.inputs import check_tested, load_inputs
from cotejo.comparison.predictions import build_predictions
from cotejo.errors import DataError
from cotejo.lineage.digests import load_stages
from cotejo.schema.groups import MODELS
from damage import damage_byte
from synthetic_study import build_dataset, build_inputs

INPUTS = build_inputs(num_samples=100)


@pytest.fixture
def reports(tmp_path):
    """As evaluate leaves them: probabilities of 1.6 MB for each model."""
    for folder in ("metrics", "predictions", "plots/histories", "timings"):
        (tmp_path / folder).mkdir(parents=True)
    for seed, name in enumerate(MODELS):
        (tmp_path / f"metrics/{name}.json").write_text(json.dumps(INPUTS["metrics"][name]))
        (tmp_path / f"plots/histories/{name}.csv").write_text("epoch,seed\n1,0\n")
        y_prob = np.random.default_rng(seed).random((2, 20_000, 10), dtype=np.float32)
        np.savez(tmp_path / f"predictions/{name}.npz", seeds=[0, 1], y_true=np.arange(20_000) % 10, y_prob=y_prob)
    for stage in ("evaluate", "train-lenet"):
        (tmp_path / f"timings/{stage}.json").write_text(json.dumps(INPUTS["timings"][stage]))
    images = np.arange(3 * 4, dtype=np.uint8).reshape(3, 2, 2, 1)
    np.savez(tmp_path / "gallery.npz", indices=np.array([4, 7, 19]), images=images)
    return tmp_path


def test_all_files_are_read(reports):
    inputs = load_inputs(reports)
    assert list(inputs.metrics) == list(inputs.predictions) == list(inputs.histories) == list(MODELS)
    assert inputs.metrics["lenet"].test_accuracy == INPUTS["metrics"]["lenet"]["test_accuracy"]
    assert {stage: len(times.per_seed) for stage, times in inputs.timings.items()} == {"train-lenet": 2}
    assert list(inputs.serving.per_model) == list(MODELS)
    assert list(inputs.gallery) == [4, 7, 19]
    np.testing.assert_array_equal(inputs.gallery[7], [[[4], [5]], [[6], [7]]])
    resnet = inputs.predictions["resnet"]
    assert set(resnet) == {"seeds", "y_true", "y_prob"}
    np.testing.assert_array_equal(resnet["y_prob"], np.random.default_rng(1).random((2, 20_000, 10), dtype=np.float32))


def test_predictions_of_an_older_version_are_refused_in_one_line(reports):
    predictions = load_inputs(reports).predictions
    with pytest.raises(DataError, match=r"lenet\.npz: expected what evaluate writes\. .*images_sha256") as caught:
        build_predictions(predictions, MODELS, "lenet", "resnet", [str(label) for label in range(10)], 0, {})
    assert "\n" not in str(caught.value)


def test_only_the_clocks_that_compare_depends_on_are_read(reports):
    (reports / "timings/search.json").write_text("no JSON")
    assert set(load_inputs(reports).timings) == {"train-lenet"}
    declared = load_stages(Path(__file__).parents[2])["compare"]["deps"]
    for path in (dep for dep in declared if dep.startswith("reports/timings/")):
        (reports / "timings" / Path(path).name).write_text('{"per_seed": []}')
    (reports / "timings/download.json").write_text("{}")
    inputs = load_inputs(reports)
    assert {f"reports/timings/{stage}.json" for stage in (*inputs.timings, "evaluate")} == {
        dep for dep in declared if dep.startswith("reports/timings/")
    }
    (reports / "timings/evaluate.json").unlink()
    assert load_inputs(reports).serving is None


@pytest.mark.parametrize("path", ["metrics/lenet", "timings/evaluate", "timings/train-lenet"])
@pytest.mark.parametrize(
    ("content", "received"),
    [(b"{", "expected JSON. Received: EOF"), (b'{"\xff": 1}', "expected JSON"), (b"[]", "expected a section with keys"),
     (b"null", "expected a section with keys")],
)  # fmt: skip
def test_a_file_that_is_no_json_or_no_table_is_named(reports, path, content, received):
    (reports / f"{path}.json").write_bytes(content)
    stage = "train-lenet" if path.endswith("train-lenet") else "evaluate"
    with pytest.raises(DataError, match=rf"^\S*/{path}\.json: {received}.* Run `dvc repro {stage}`\.$"):
        load_inputs(reports)


def test_the_probabilities_of_one_model_at_a_time_are_in_memory(reports):
    tracemalloc.start()
    inputs = load_inputs(reports)
    for predictions in inputs.predictions.values():
        predictions["y_prob"].argmax(axis=2)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 * 1_600_000 + 1_000_000  # four models would be 6.4 MB


@pytest.mark.parametrize("name", ["gallery.npz", "predictions/lenet.npz", "metrics/transfer.json"])
def test_a_missing_file_is_named_with_what_to_do(reports, name):
    (reports / name).unlink()
    with pytest.raises(DataError, match=rf"expected what evaluate writes\. .*{name}.* Run `dvc repro evaluate`\.$"):
        load_inputs(reports)


@pytest.mark.parametrize("name", ["gallery.npz", "predictions/lenet.npz"])
@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 half of one"])
def test_a_damaged_file_is_refused_at_the_start(reports, name, content):
    (reports / name).write_bytes(content)
    with pytest.raises(DataError, match=r"Run `dvc repro evaluate`\.$"):
        load_inputs(reports)


def test_damage_within_a_file_is_refused_when_it_is_read(reports):
    damage_byte(reports / "predictions/lenet.npz")
    inputs = load_inputs(reports)
    with pytest.raises(DataError, match=r"lenet\.npz: expected what evaluate writes\. .* Run `dvc repro evaluate`\.$"):
        inputs.predictions["lenet"]["y_prob"]


@pytest.mark.parametrize(
    ("labels", "received"),
    [
        (np.arange(360) % 10, "360 of 10 classes"),
        (np.arange(20_000) % 9, "20,000 of 10 classes"),
        (np.arange(20_000) % 12, "20,000 of 12 classes"),
    ],
)
def test_predictions_for_other_images_than_the_study_s_are_refused_with_what_mends_them(reports, labels, received):
    predictions = load_inputs(reports).predictions
    check_tested(predictions, build_dataset(np.arange(20_000) % 10))
    np.savez(reports / "predictions/resnet.npz", seeds=[0], y_true=labels, y_prob=np.zeros((1, len(labels), 10)))
    with pytest.raises(DataError, match=rf"resnet\.npz: expected the 20,000 .* Received: {received}.* --single-item"):
        check_tested(predictions, build_dataset(np.arange(20_000) % 10))
