"""The records of a comparison: what they take from the files, and what they refuse."""

import math

import pytest

from cotejo.errors import DataError
from synthetic_study import CLASS_NAMES, build_comparison, build_inputs


@pytest.fixture(scope="module")
def comparison():
    return build_comparison(**build_inputs(resnet=0.93))


def find(findings, key):
    return next(finding for finding in findings if finding.key == key)


def test_finetunes_training_time_includes_transfers(comparison):
    models = {model.name: model for model in comparison.models}
    assert models["finetune"].train_time_s == pytest.approx(512.5 + 96.5)
    assert models["finetune"].epoch_time_s == pytest.approx(101.5)
    assert find(comparison.notes, "note.finetune_time")


def test_the_fastest_and_the_slowest_seed_are_those_of_the_whole_training():
    inputs = build_inputs(num_samples=300, num_seeds=3)
    for stage, times in (("transfer-learn", [10, 90, 20]), ("finetune", [500, 400, 600])):
        for row, time_s in zip(inputs["timings"][stage]["per_seed"], times, strict=True):
            row["train_time_s"] = time_s
    model = build_comparison(**inputs).get_model("finetune")
    assert (model.train_time_low_s, model.train_time_s, model.train_time_high_s) == (490, 520, 620)
    del inputs["timings"]["transfer-learn"]
    model = build_comparison(**inputs).get_model("finetune")
    assert (model.train_time_low_s, model.train_time_s, model.train_time_high_s) == (None, None, None)


def test_a_models_interval_keeps_the_confidence_that_it_was_computed_with():
    comparison = build_comparison(**build_inputs(num_samples=300) | {"confidence": 0.9})
    assert {model.confidence for model in comparison.models} == {0.95}
    assert find(comparison.notes, "note.own").values["confidence"] == 0.95
    assert find(comparison.notes, "note.f1").values["confidence"] == 0.9


def test_a_front_holds_the_models_that_no_other_one_beats(comparison):
    models = {model.name: model for model in comparison.models}
    for cost, front in comparison.fronts.items():
        for name, model in models.items():
            beaten_by = [
                other.name for other in models.values()
                if other.test_accuracy >= model.test_accuracy and getattr(other, cost) <= getattr(model, cost)
                and (other.test_accuracy > model.test_accuracy or getattr(other, cost) < getattr(model, cost))
            ]  # fmt: skip
            assert (name in front) == (not beaten_by)
    assert comparison.fronts["parameters"] == ("lenet", "resnet")


def test_a_model_without_a_clock_is_on_no_front_of_times():
    inputs = build_inputs(num_samples=300)
    del inputs["timings"]["train-lenet"], inputs["timings"]["evaluate"]
    fronts = build_comparison(**inputs).fronts
    assert "lenet" not in fronts["train_time_s"]
    assert fronts["latency_p50_s"] == ()
    assert "lenet" in fronts["parameters"]


def test_shown_images_are_what_they_are_said_to_be(comparison):
    data = build_inputs(resnet=0.93)["predictions"]
    y_true = data["lenet"]["y_true"]
    answers = {name: arrays["y_prob"].mean(axis=0) for name, arrays in data.items()}
    for name, rows in comparison.errors.items():
        wrong = answers[name].argmax(-1) != y_true
        assert len(rows) == 8
        assert max(answers[name].max(-1)[wrong]) == pytest.approx(rows[0].confidence[name], abs=1e-6)
        assert all(wrong[row.index] and row.true_class != row.predicted[name] for row in rows)
    sides = [row.predicted["lenet"] == row.true_class for row in comparison.disagreements]
    assert sides == [True] * 8 + [False] * 8
    for row in comparison.disagreements:
        assert row.true_class == CLASS_NAMES[y_true[row.index]]
        assert [predicted == row.true_class for predicted in row.predicted.values()].count(True) == 1


def test_metrics_of_an_older_version_are_refused_in_one_line():
    inputs = build_inputs(num_samples=300)
    del inputs["metrics"]["lenet"]["risk_coverage"]
    with pytest.raises(
        DataError, match=r"reports/metrics/lenet\.json: risk_coverage: missing\. Run `dvc repro evaluate"
    ):
        build_comparison(**inputs)


def drop(key, *path):
    """Returns what takes a key out of a table within a file."""

    def do(table):
        for step in path:
            table = table[step]
        del table[key]

    return do


def put(value, *path):
    """Returns what writes a value into a table within a file."""

    def do(table):
        for step in path[:-1]:
            table = table[step]
        table[path[-1]] = value

    return do


@pytest.mark.parametrize(
    ("damage", "received"),
    [
        (drop("count", "reliability", 0), r"reliability\.0\.count: missing\."),
        (drop("test_ece", "per_seed", 1), r"per_seed\.1\.test_ece: missing\."),
        (drop("model_sha256", "per_seed", 0), r"per_seed\.0\.model_sha256: missing\."),
        (put([], "risk_coverage"), r"risk_coverage: expected at least one item\. Received: \[\]"),
        (put([], "per_seed"), "per_seed: expected at least one item"),
        (drop("test_accuracy_files_low"), "test_accuracy_files_low: missing"),
        (drop("test_confidence_gap_high"), "test_confidence_gap_high: missing"),
        (put(None, "robustness"), r"robustness: expected a list\. Received: None"),
        (put(1, "test_kapa"), r"test_kapa: unknown key\."),
        (put(1, "per_seed", 0, "temprature"), r"temprature: unknown key\..* Did you mean `temperature`\?"),
        (put(1, "reliability", 0, "counts"), r"reliability\.0\.counts: unknown key\..* Did you mean `count`\?"),
        (put(math.nan, "test_loss"), r"test_loss: expected a finite number\. Received: nan"),
        (put([{"corruption": "none", "severity": 0, "accuracy": 0.9, "low": 0.8, "high": 1}], "robustness"),
         "expected robustness with rows of images as they are and rows of corrupted ones"),
        (put({"coverage": 1.0}, "risk_coverage"), "risk_coverage: expected a list"),
        (put("0.9", "test_accuracy"), r"test_accuracy: expected a valid number\. Received: '0\.9'"),
        (put(None, "per_seed", 0, "temperature"), r"per_seed\.0\.temperature: .* Received: None"),
        (put([[1, 2], [3]], "confusion", "counts"), "confusion: expected counts with one row and column a class"),
        (lambda table: [drop(key)(table) for key in ("parameters", "operations")], r"missing\. Other faults: 1\."),
    ],
)  # fmt: skip
def test_damaged_metrics_are_one_line_that_names_the_file(damage, received):
    inputs = build_inputs(num_samples=300)
    damage(inputs["metrics"]["resnet"])
    with pytest.raises(DataError, match=received) as caught:
        build_comparison(**inputs)
    line = str(caught.value)
    assert "reports/metrics/resnet.json" in line
    assert line.endswith("Run `dvc repro evaluate`.")
    assert "\n" not in line
    assert len(line) < 400 or "unknown key" in line


@pytest.mark.parametrize(
    ("stage", "damage"),
    [
        ("train-lenet", drop("per_seed")),
        ("train-lenet", put(None, "per_seed")),
        ("transfer-learn", put("long", "per_seed", 0, "train_time_s")),
        ("evaluate", put([], "per_model")),
        ("evaluate", put("fast", "per_model", "lenet", "latency_p50_s")),
    ],
)
def test_damaged_timings_are_one_line_that_names_their_own_file(stage, damage):
    inputs = build_inputs(num_samples=300)
    damage(inputs["timings"][stage])
    with pytest.raises(DataError, match=rf"reports/timings/{stage}\.json: .* Run `dvc repro {stage}`\.$") as caught:
        build_comparison(**inputs)
    assert "\n" not in str(caught.value)


def test_models_of_other_names_are_compared_in_the_order_given():
    inputs = build_inputs(num_samples=300)
    for table in ("metrics", "predictions"):
        inputs[table]["older lenet"] = inputs[table]["lenet"]
    stages = {"older lenet": ("train-lenet",), "lenet": ("train-lenet",), "resnet": ("train-resnet",)}
    comparison = build_comparison(**inputs | {"stages": stages, "baseline": "older lenet"})
    assert [model.name for model in comparison.models] == ["older lenet", "lenet", "resnet"]
    assert len(comparison.pairs) == 3
    assert comparison.get_pair("older lenet", "lenet").value == 0


def test_a_model_without_numbers_is_named():
    inputs = build_inputs(num_samples=300)
    del inputs["metrics"]["resnet"]
    with pytest.raises(DataError, match="metrics and predictions of resnet"):
        build_comparison(**inputs)


def test_no_number_is_missing_or_infinite(comparison):
    for row in (*comparison.models, *comparison.pairs, *comparison.differences, *comparison.claims.values()):
        assert all(math.isfinite(value) for value in vars(row).values() if isinstance(value, float))


def test_confidence_widens_every_interval():
    inputs = build_inputs(num_samples=300)
    narrow, wide = (build_comparison(**inputs | {"confidence": confidence}) for confidence in (0.8, 0.95))
    for end in ("low", "files_low", "all_low"):
        assert getattr(wide.pairs[0], end) < getattr(narrow.pairs[0], end)
    assert all(wide.claims[name].low < claim.low for name, claim in narrow.claims.items())
    by_name = {row.class_name: row for row in wide.differences}
    assert all(by_name[row.class_name].low <= row.low for row in narrow.differences)
