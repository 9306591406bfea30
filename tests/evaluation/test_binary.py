"""Two classes and one sigmoid unit, from training to the scores."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.datasets import load_digits
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, log_loss

from cotejo.data.readers import LabelledImages
from cotejo.data.splits import Dataset
from cotejo.evaluation.summary import Splits, evaluate_model
from cotejo.training.archive import load_model, save_model
from cotejo.training.features import prepare_transfer
from cotejo.training.fit import fit
from cotejo.training.hardware import Hardware
from declared import declare

DATASET = Dataset("digits", ["nought", "one"], (8, 8, 1), "")
HARDWARE = Hardware("CPU", 2, 1, "float32", tf.distribute.get_strategy())
SETTINGS = declare(
    "transfer", weights="random", input_size=32, output="sigmoid", dense=[16], l2=0.001, dropout_rate=0.2, epochs=3,
    batch_size=16, learning_rate=1e-2, class_weights="balanced", label_smoothing=0.1,
)  # fmt: skip


@pytest.fixture(scope="module")
def splits():
    """120 noughts and ones to train on, 60 to validate, 180 to test."""
    bundled = load_digits()
    chosen = bundled.target < 2
    images = np.rint(bundled.images[chosen] * (255 / 16)).astype(np.uint8)[..., np.newaxis]
    labels = bundled.target[chosen].astype(np.int64)
    return [LabelledImages(images[part], labels[part]) for part in (slice(120), slice(120, 180), slice(180, None))]


@pytest.fixture(scope="module")
def trained(splits, tmp_path_factory):
    """A model's folder as training leaves it, and the row of the epoch that was kept."""
    folder = tmp_path_factory.mktemp("transfer")
    (folder / "seed-0").mkdir()
    keras.utils.set_random_seed(0)
    job = prepare_transfer(SETTINGS, None, DATASET, *splits[:2], folder / "features", HARDWARE)(0)
    history = fit(job, SETTINGS, 0, "transfer", lambda _: None, HARDWARE).history
    save_model(job.model, folder / "seed-0/model.keras")
    history.to_csv(folder / "seed-0/history.csv", index=False)
    return folder, history.query("kept").iloc[0]


def test_the_scores_in_training_are_those_of_the_saved_model(trained, splits):
    folder, kept = trained
    val = splits[1]
    y_prob = load_model(folder / "seed-0/model.keras").predict_on_batch(val.images)
    assert y_prob.shape == (60, 2)
    np.testing.assert_allclose(y_prob.sum(axis=1), 1, rtol=1e-6)
    assert kept["val_accuracy"] == pytest.approx(accuracy_score(val.labels, y_prob[:, 1] > 0.5))
    assert kept["val_cross_entropy"] == pytest.approx(log_loss(val.labels, y_prob.astype(float)), rel=1e-4)
    smoothed = 0.9 * np.eye(2)[val.labels] + 0.05
    penalty = sum(
        0.001 * np.square(weight).sum()
        for weight in load_model(folder / "seed-0/model.keras").get_layer("head").get_weights()
        if weight.ndim == 2
    )
    assert kept["val_loss"] == pytest.approx(-(smoothed * np.log(y_prob)).sum(axis=1).mean() + penalty, rel=1e-4)


def test_the_model_is_evaluated_like_any_other(trained, splits):
    folder, _ = trained
    test = splits[2]
    found = evaluate_model(
        folder, (0,), Splits(DATASET, splits[1], test, "ab12" * 16), declare("evaluate", batch_size=50)
    )
    y_prob = load_model(folder / "seed-0/model.keras").predict(test.images, verbose=0)
    y_pred = (y_prob[:, 1] > 0.5).astype(int)
    assert found.summary["test_accuracy"] == pytest.approx(accuracy_score(test.labels, y_pred))
    assert found.summary["test_macro_f1"] == pytest.approx(f1_score(test.labels, y_pred, average="macro"))
    assert found.summary["confusion"]["counts"] == confusion_matrix(test.labels, y_pred).tolist()
    assert found.summary["test_loss"] == pytest.approx(log_loss(test.labels, y_prob.astype(float)), rel=1e-4)
