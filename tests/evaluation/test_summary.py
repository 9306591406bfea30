"""What is kept of a model: numbers that agree with the saved predictions, the same bytes on every run."""

import hashlib
import json
import shutil

import keras
import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError
from sklearn.datasets import load_digits
from sklearn.metrics import classification_report, confusion_matrix, log_loss

from cotejo.data.readers import LabelledImages
from cotejo.data.splits import Dataset
from cotejo.errors import ModelError
from cotejo.estimation.estimates import estimate_mean
from cotejo.evaluation.metrics import draw_sample
from cotejo.evaluation.robustness import CELLS, summarize
from cotejo.evaluation.scores import (
    compute_all_losses,
    score_confidence_gap,
    score_correct,
    score_losses,
    score_macro_f1,
    score_risk,
    score_temperatures,
)
from cotejo.evaluation.summary import Splits, evaluate_model, save_evaluation
from cotejo.evaluation.trust import compute_trust
from cotejo.schema.study import Evaluate
from cotejo.training.archive import save_model

NAMES = ["zéro", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
DATASET = Dataset("digits", NAMES, (8, 8, 1), "")
TRUST = {"bins": 12, "gallery_size": 4, "corruption_samples": 0, "latency_rounds": 2}
#: 203 images in batches of 50: the last batch is a partial one.
SETTINGS = Evaluate(batch_size=50, confidence=0.9, sample_size=60, sample_seed=3, grid_size=4, **TRUST)
SEEDS = (0, 5)


def build_model(seed):
    keras.utils.set_random_seed(seed)
    images = keras.Input((8, 8, 1), dtype="uint8")
    x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(images))
    return keras.Model(images, keras.layers.Dense(10, activation="softmax")(x))


@pytest.fixture(scope="module")
def splits():
    bundled = load_digits()
    images = np.rint(bundled.images * (255 / 16)).astype(np.uint8)[..., np.newaxis]
    labels = bundled.target.astype(np.int64)
    test, val = LabelledImages(images[:203], labels[:203]), LabelledImages(images[300:390], labels[300:390])
    return Splits(DATASET, val, test, "ab12" * 16)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Two seeds of a model, as training leaves them; the third epoch was kept, the second has the lowest loss."""
    folder = tmp_path_factory.mktemp("models")
    for seed in SEEDS:
        (folder / f"seed-{seed}").mkdir()
        save_model(build_model(seed), folder / f"seed-{seed}" / "model.keras")
        epochs = pd.DataFrame({"epoch": [1, 2, 3], "accuracy": [0.5, 0.6, 0.7], "cross_entropy": [2.9, 1.9, 0.9]})
        epochs = epochs.assign(loss=[3.0, 2.0, 1.0], val_accuracy=[0.1, 0.8, 0.9], val_cross_entropy=[0.8, 0.3, 1.25])
        losses = [0.9, 0.4 + seed / 10, 1.5]
        epochs = epochs.assign(val_loss=losses, learning_rate=1e-3, kept=[False, False, True])
        epochs.to_csv(folder / f"seed-{seed}" / "history.csv", index=False)
    return folder


def write(folder, models, splits):
    folders = {name: folder / name for name in ("metrics", "predictions", "plots")}
    for path in folders.values():
        path.mkdir(parents=True)
    evaluation = evaluate_model(models, SEEDS, splits, SETTINGS)
    # 203 correct at first, then 5 fewer from cell to cell
    correct = np.arange(203) < 203 - 5 * np.arange(len(CELLS))[:, None]
    evaluation.add_robustness(summarize(np.stack([correct] * len(SEEDS)), np.arange(203), SETTINGS.confidence))
    save_evaluation(evaluation, "lenet", NAMES, **folders)
    return folder


@pytest.fixture(scope="module")
def written(tmp_path_factory, models, splits):
    return write(tmp_path_factory.mktemp("reports"), models, splits)


@pytest.fixture(scope="module")
def summary(written):
    return json.loads((written / "metrics/lenet.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def predictions(written):
    with np.load(written / "predictions/lenet.npz", allow_pickle=False) as arrays:
        return dict(arrays)


def test_every_test_image_is_scored_once_by_every_seed(predictions, models, splits):
    np.testing.assert_array_equal(predictions["seeds"], SEEDS)
    np.testing.assert_array_equal(predictions["y_true"], splits.test.labels)
    assert predictions["y_prob"].shape == (2, 203, 10)
    for seed, y_prob in zip(SEEDS, predictions["y_prob"], strict=True):
        model = keras.saving.load_model(models / f"seed-{seed}" / "model.keras")
        np.testing.assert_allclose(y_prob, model.predict(splits.test.images, verbose=0), atol=1e-6)


def test_the_scores_of_each_seed_say_of_which_file_they_are(summary, models):
    archives = [(models / f"seed-{seed}" / "model.keras").read_bytes() for seed in SEEDS]
    received = [row["model_sha256"] for row in summary["per_seed"]]
    assert received == [hashlib.sha256(archive).hexdigest() for archive in archives]


def test_the_scores_of_each_seed_agree_with_scikit_learn_on_the_saved_predictions(summary, predictions):
    y_true = predictions["y_true"]
    for row, y_prob in zip(summary["per_seed"], predictions["y_prob"], strict=True):
        y_pred = y_prob.argmax(axis=1)
        report = classification_report(y_true, y_pred, labels=range(10), output_dict=True, zero_division=0)
        assert row["test_accuracy"] == pytest.approx((y_true == y_pred).mean())
        for average in ("macro", "weighted"):
            for name, key in (("precision", "precision"), ("recall", "recall"), ("f1", "f1-score")):
                assert row[f"test_{average}_{name}"] == pytest.approx(report[f"{average} avg"][key])
        exact = y_prob.astype(float) / y_prob.astype(float).sum(axis=1, keepdims=True)
        assert row["test_loss"] == pytest.approx(log_loss(y_true, exact, labels=range(10)))
        sample = draw_sample(203, 60, 3)
        assert row["sample_right"] == (y_true[sample] == y_pred[sample]).sum()


def test_the_first_numbers_are_means_over_the_seeds(summary):
    means = ("test_accuracy", "test_loss", "test_macro_f1", "test_weighted_recall", "val_cross_entropy", "val_loss")
    for key in (*means, "sample_right"):
        assert summary[key] == pytest.approx(np.mean([row[key] for row in summary["per_seed"]]))
    assert (summary["num_seeds"], summary["sample_size"]) == (2, 60)


def take_interval(summary, name):
    return summary[f"{name}_low"], summary[f"{name}_high"]


def test_every_score_has_an_interval_for_new_images_and_seeds(summary, predictions):
    y_true, y_prob = predictions["y_true"], predictions["y_prob"]
    accuracy = score_correct(y_prob.argmax(axis=2) == y_true)
    expected = {
        "test_accuracy": (accuracy, 0, 1),
        "test_macro_f1": (score_macro_f1(y_true, y_prob.argmax(axis=2), 10), 0, 1),
        "test_loss": (score_losses(compute_all_losses(y_true, y_prob)), 0, np.inf),
        "test_confidence_gap": (score_confidence_gap(y_true, y_prob), -1, 1),
        "test_selective_risk": (score_risk(y_true, y_prob), 0, 1),
        "val_accuracy": (score_correct(predictions["val_correct"]), 0, 1),
    }
    for name, (scores, least, most) in expected.items():
        interval = estimate_mean(scores, 0.9, low=least, high=most).compute_interval(0.9)
        assert take_interval(summary, name) == pytest.approx(interval)
        if name != "val_accuracy":  # of the history, which is made up here
            assert summary[name] == pytest.approx(scores.value, abs=1e-6)
            assert interval[0] < summary[name] < interval[1]
    of_files = estimate_mean(accuracy, 0.9).on_these_files().compute_interval(0.9)
    assert take_interval(summary, "test_accuracy_files") == pytest.approx(of_files)
    low, high = take_interval(summary, "test_accuracy")
    assert low <= of_files[0] < summary["test_accuracy"] < of_files[1] <= high


def test_a_temperature_has_an_interval_in_its_logarithm(summary, splits, models):
    temperatures = [row["temperature"] for row in summary["per_seed"]]
    val_prob = np.stack([
        keras.saving.load_model(models / f"seed-{seed}" / "model.keras").predict(splits.val.images, verbose=0)
        for seed in SEEDS
    ])  # fmt: skip
    scores = score_temperatures(splits.val.labels, val_prob, temperatures)
    interval = estimate_mean(scores, 0.9, low=np.log(0.01), high=np.log(100)).compute_interval(0.9)
    assert np.log(take_interval(summary, "temperature")) == pytest.approx(np.array(interval), rel=1e-3)
    low, high = take_interval(summary, "temperature")
    assert 0 < low < np.exp(scores.value) < high


@pytest.mark.parametrize("scale", [0, 1e-3, 1e6])
def test_a_temperature_that_the_images_hardly_say_stays_within_its_bounds(tmp_path, models, splits, scale):
    shutil.copytree(models / "seed-0", tmp_path / "seed-0")
    model = build_model(0)
    # nearly the same answer whatever the image, or as good as no doubt
    model.set_weights([scale * weight for weight in model.get_weights()])
    save_model(model, tmp_path / "seed-0/model.keras")
    found = evaluate_model(tmp_path, [0], splits, SETTINGS).summary
    low, high = take_interval(found, "temperature")
    assert 0.01 * (1 - 1e-9) <= low <= high <= 100 * (1 + 1e-9)
    assert all(np.isfinite(value) for value in found.values() if isinstance(value, float))


def test_what_compare_needs_of_each_image_is_kept(predictions, splits, models):
    assert str(predictions["images_sha256"]) == splits.test_digest
    for place, seed in enumerate(SEEDS):
        model = keras.saving.load_model(models / f"seed-{seed}" / "model.keras")
        y_prob = model.predict(splits.val.images, verbose=0)
        assert (predictions["val_correct"][place] == (y_prob.argmax(axis=1) == splits.val.labels)).all()
        losses = -np.log(y_prob[np.arange(90), splits.val.labels])
        np.testing.assert_allclose(predictions["val_losses"][place], losses, rtol=1e-3)
    np.testing.assert_array_equal(predictions["corrupted_indices"], np.arange(203))
    # image 0 is correct in each of the 25 corrupted cells, image 202 in none
    assert predictions["corrupted_correct"].shape == (2, 203)
    assert predictions["corrupted_correct"][:, [0, 202]].tolist() == [[25, 0], [25, 0]]


def test_corrupted_images_have_an_accuracy_a_seed_and_an_interval(summary, predictions):
    by_seed = predictions["corrupted_correct"].mean(axis=1) / 25
    assert [row["test_corrupted_accuracy"] for row in summary["per_seed"]] == pytest.approx(list(by_seed))
    assert summary["test_corrupted_accuracy"] == pytest.approx(by_seed.mean())
    low, high = take_interval(summary, "test_corrupted_accuracy")
    assert low < by_seed.mean() < high


def test_confidence_is_compared_with_accuracy_by_a_temperature_of_the_validation_images(summary, splits, models):
    for seed, row in zip(SEEDS, summary["per_seed"], strict=True):
        model = keras.saving.load_model(models / f"seed-{seed}" / "model.keras")
        test, val = (model.predict(split.images, verbose=0) for split in (splits.test, splits.val))
        expected = compute_trust(splits.test.labels, test, splits.val.labels, val, 12).scores
        assert {name: row[name] for name in expected} == pytest.approx(expected, rel=1e-3)
        assert row["test_nll_scaled"] < row["test_loss"]  # of random weights: anything is better
    for name in ("test_ece", "test_ece_scaled", "test_nll_scaled", "temperature", "test_aurc", "test_confidence_gap",
                 "test_selective_risk"):  # fmt: skip
        assert summary[name] == pytest.approx(np.mean([row[name] for row in summary["per_seed"]]))
    for name in ("reliability", "reliability_scaled"):
        assert sum(row["count"] for row in summary[name]) == 2 * 203
        assert {round(row["high"] - row["low"], 6) for row in summary[name]} == {round(1 / 12, 6)}
    assert summary["risk_coverage"][-1]["risk"] == pytest.approx(1 - summary["test_accuracy"])
    risks = {round(row["coverage"], 2): row["risk"] for row in summary["risk_coverage"]}
    assert summary["test_selective_risk"] == pytest.approx(risks[0.8])


def test_classes_and_confusions_agree_with_scikit_learn(summary, predictions):
    y_true, y_pred = predictions["y_true"], predictions["y_prob"].argmax(axis=2)
    counts = sum(confusion_matrix(y_true, row, labels=range(10)) for row in y_pred)
    assert summary["confusion"] == {"class_names": NAMES, "counts": counts.tolist()}
    reports = [
        classification_report(y_true, row, labels=range(10), output_dict=True, zero_division=0) for row in y_pred
    ]
    for label, row in enumerate(summary["per_class"]):
        assert (row["class"], row["support"]) == (NAMES[label], (y_true == label).sum())
        for name, key in (("precision", "precision"), ("recall", "recall"), ("f1", "f1-score")):
            assert row[name] == pytest.approx(np.mean([report[str(label)][key] for report in reports]))


def test_the_kept_epoch_is_the_one_that_training_kept_whatever_its_loss(summary):
    expected = {"epochs": 3, "best_epoch": 3, "train_accuracy": 0.7, "train_cross_entropy": 0.9, "train_loss": 1.0,
                "val_accuracy": 0.9, "val_cross_entropy": 1.25, "val_loss": 1.5,
                "min_val_epoch": 2, "final_gap": pytest.approx(1.25 - 0.9)}  # fmt: skip
    for row in summary["per_seed"]:
        assert {key: row[key] for key in expected} == expected


@pytest.mark.parametrize("kept", [None, [False, False, False], [True, False, True]])
def test_a_history_without_one_kept_epoch_is_refused(tmp_path, models, splits, kept):
    shutil.copytree(models / "seed-0", tmp_path / "seed-0")
    path = tmp_path / "seed-0/history.csv"
    history = pd.read_csv(path).drop(columns="kept")
    (history if kept is None else history.assign(kept=kept)).to_csv(path, index=False)
    message = rf"history\.csv: expected one epoch marked as kept\. Received: {sum(kept or [])}"
    with pytest.raises(ModelError, match=message):
        evaluate_model(tmp_path, [0], splits, SETTINGS)


def test_the_size_of_the_model_is_given(summary, models):
    assert summary["parameters"] == summary["trainable_parameters"] == 64 * 10 + 10
    assert summary["size_bytes"] == (models / "seed-0/model.keras").stat().st_size


def test_the_tables_for_dvcs_plots_hold_every_prediction_and_every_epoch(written, summary):
    confusion = pd.read_csv(written / "plots/confusion/lenet.csv")
    assert len(confusion) == 2 * 203
    counts = pd.crosstab(confusion["actual"], confusion["predicted"]).reindex(index=NAMES, columns=NAMES, fill_value=0)
    assert counts.to_numpy().tolist() == summary["confusion"]["counts"]
    curves = pd.read_csv(written / "plots/curves/lenet.csv")
    assert curves["epoch"].to_list() == [1, 2, 3]
    assert curves["val_loss"].to_list() == pytest.approx([0.9, (0.4 + 0.9) / 2, 1.5])
    assert curves["val_cross_entropy"].to_list() == pytest.approx([0.8, 0.3, 1.25])
    histories = pd.read_csv(written / "plots/histories/lenet.csv")
    assert histories.groupby("seed")["epoch"].count().to_dict() == {0: 3, 5: 3}
    assert histories.loc[histories["kept"], "epoch"].to_list() == [3, 3]


def test_a_second_run_writes_the_same_bytes(written, tmp_path, models, splits):
    def hashes(folder):
        return {
            str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.rglob("*.*")
        }

    first = hashes(written)
    assert len(first) == 8
    assert hashes(write(tmp_path / "again", models, splits)) == first


def test_a_model_that_answers_with_no_number_is_refused(tmp_path, splits, models):
    (tmp_path / "seed-0").mkdir()
    model = build_model(0)
    model.set_weights([np.full_like(weight, np.nan) for weight in model.get_weights()])
    save_model(model, tmp_path / "seed-0/model.keras")
    with pytest.raises(ModelError, match=r"seed-0/model\.keras: expected finite probabilities. Received: NaN"):
        evaluate_model(tmp_path, [0], splits, SETTINGS)


def test_a_seed_that_was_not_trained_is_refused(models, splits):
    with pytest.raises(ModelError, match=r"seed-9/model\.keras: expected a model saved by this study"):
        evaluate_model(models, [9], splits, SETTINGS)


def test_the_tables_for_plots_are_those_of_the_summary(written, summary):
    for kind, table in (("reliability", "reliability"), ("risk", "risk_coverage")):
        rows = pd.read_csv(written / f"plots/{kind}/lenet.csv")
        assert rows.to_dict(orient="records") == [pytest.approx(row) for row in summary[table]]
    robustness = pd.read_csv(written / "plots/robustness/lenet.csv").set_index("severity")
    assert list(robustness.columns) == ["mean", "noise", "blur", "brightness", "contrast", "translation"]
    for row in summary["robustness"]:
        columns = robustness.columns if row["corruption"] == "none" else [row["corruption"]]
        assert list(robustness.loc[row["severity"], columns]) == pytest.approx([row["accuracy"]] * len(columns))
    assert list(robustness.index) == [0, 1, 2, 3, 4, 5]
    assert robustness["mean"][1:].mean() == pytest.approx(summary["test_corrupted_accuracy"])


def test_a_score_that_the_record_does_not_declare_is_not_written(tmp_path, models, splits):
    evaluation = evaluate_model(models, SEEDS, splits, SETTINGS)
    evaluation.add_robustness(summarize(np.ones((2, len(CELLS), 203), dtype=bool), np.arange(203), 0.9))
    evaluation.summary["test_kapa"] = 0.5
    with pytest.raises(ValidationError, match="test_kapa"):
        save_evaluation(evaluation, "lenet", NAMES, tmp_path, tmp_path, tmp_path)
    assert not list(tmp_path.iterdir())
