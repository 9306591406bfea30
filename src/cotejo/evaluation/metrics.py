"""Scores of one model on the test images, over all its seeds."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, confusion_matrix, log_loss, precision_recall_fscore_support

from cotejo.schema.results import MeanScores


def compute_scores(y_true: NDArray[np.int64], y_prob: NDArray[np.float32], num_classes: int) -> dict[str, float]:
    """Computes accuracy, loss, and precision, recall and F1 averaged over classes.

    Args:
        y_true: Labels, shape (num_samples,).
        y_prob: Probabilities, shape (num_samples, num_classes); rows sum to 1.
        num_classes: Number of classes; one without a prediction or a sample scores 0.

    Returns:
        Scores by name; `test_loss` is the mean cross-entropy in nats, the others are shares from 0 to 1.
    """
    labels = np.arange(num_classes)
    y_pred = y_prob.argmax(axis=1)
    scores = {
        "test_accuracy": float(accuracy_score(y_true, y_pred)),
        "test_loss": float(log_loss(y_true, normalize_rows(y_prob), labels=labels)),
    }
    for average in ("macro", "weighted"):
        values = precision_recall_fscore_support(y_true, y_pred, labels=labels, average=average, zero_division=0)
        for name, value in zip(("precision", "recall", "f1"), values, strict=False):
            scores[f"test_{average}_{name}"] = float(value)
    return scores


def compute_class_scores(
    y_true: NDArray[np.int64], y_pred: NDArray[np.int64], class_names: Sequence[str]
) -> pd.DataFrame:
    """Computes precision, recall and F1 of each class, as means over the seeds.

    Args:
        y_true: Labels, shape (num_samples,).
        y_pred: Predicted labels, shape (num_seeds, num_samples).
        class_names: One name per label.

    Returns:
        A row per class: class, precision, recall, f1, support (test images of the class).
    """
    labels = np.arange(len(class_names))
    per_seed = [precision_recall_fscore_support(y_true, row, labels=labels, zero_division=0) for row in y_pred]
    precision, recall, f1, support = np.mean(np.array(per_seed, dtype=np.float64), axis=0)
    return pd.DataFrame(
        {"class": class_names, "precision": precision, "recall": recall, "f1": f1, "support": support.astype(int)}
    )


def count_confusions(y_true: NDArray[np.int64], y_pred: NDArray[np.int64], num_classes: int) -> NDArray[np.int64]:
    """Counts predictions by true class (rows) and predicted class (columns), summed over the seeds.

    Args:
        y_true: Labels, shape (num_samples,).
        y_pred: Predicted labels, shape (num_seeds, num_samples).
        num_classes: Number of classes.

    Returns:
        int64 array of shape (num_classes, num_classes); its sum is num_seeds times num_samples.
    """
    labels = np.arange(num_classes)
    counts = [confusion_matrix(y_true, row, labels=labels) for row in y_pred]
    return np.asarray(np.sum(counts, axis=0), dtype=np.int64)


def draw_sample(num_samples: int, sample_size: int, seed: int) -> NDArray[np.int64]:
    """Draws test images without replacement for the study's "right out of 100 random images".

    Args:
        num_samples: Number of test images.
        sample_size: Number to draw; all of them if there are fewer.
        seed: The same images for every model.

    Returns:
        Sorted indices, int64 of shape (min(sample_size, num_samples),).
    """
    chosen = np.random.default_rng(seed).choice(num_samples, min(sample_size, num_samples), replace=False)
    return np.sort(chosen)


def average_scores(per_seed: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Returns the mean over the seeds of each score that has one."""
    return {name: float(np.mean([row[name] for row in per_seed])) for name in MeanScores.model_fields}


def compute_losses(y_true: NDArray[np.int64], y_prob: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Computes the cross-entropy of each image in nats; their mean is scikit-learn's `log_loss`.

    Args:
        y_true: Labels, shape (num_samples,).
        y_prob: Probabilities, shape (num_samples, num_classes); rows sum to 1.

    Returns:
        Shape (num_samples,).
    """
    # where log_loss cuts: a 0 would cost infinitely much
    epsilon = float(np.finfo(np.float64).eps)
    true = y_prob[np.arange(len(y_true)), y_true].astype(np.float64)
    return np.asarray(-np.log(np.clip(true, epsilon, 1 - epsilon)))


def normalize_rows(y_prob: NDArray[np.float32]) -> NDArray[np.float64]:
    """Scales rows of float32 probabilities, which sum to 1 within 1e-6, to sum to 1 in float64."""
    exact = y_prob.astype(np.float64)
    return np.asarray(exact / exact.sum(axis=1, keepdims=True))
