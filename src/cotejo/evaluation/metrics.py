"""Scores of one model on the test images, over all its seeds."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import norm
from sklearn.metrics import accuracy_score, confusion_matrix, log_loss, precision_recall_fscore_support

from cotejo.errors import DataError

#: Scores of a seed that the summary gives the mean of.
AVERAGED = (
    "test_accuracy", "test_loss",
    "test_macro_precision", "test_macro_recall", "test_macro_f1",
    "test_weighted_precision", "test_weighted_recall", "test_weighted_f1",
    "val_accuracy", "val_cross_entropy", "val_loss", "train_accuracy", "train_cross_entropy", "train_loss",
    "test_ece", "test_ece_scaled", "test_nll_scaled", "temperature", "test_aurc",
    "sample_right",
)  # fmt: skip


class Interval(NamedTuple):
    """A confidence interval."""

    low: float
    high: float


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
    return {name: float(np.mean([row[name] for row in per_seed])) for name in AVERAGED}


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
    """Makes the rows of float32 probabilities, which sum to 1 within 1e-6, sum to 1 in float64."""
    exact = y_prob.astype(np.float64)
    return np.asarray(exact / exact.sum(axis=1, keepdims=True))


def compute_wilson_interval(num_right: float, num_samples: int, confidence: float) -> Interval:
    """Computes Wilson's score interval for a proportion.

    Unlike the textbook interval it stays inside [0, 1] and holds its confidence near both ends. scipy has it for
    whole counts only; here `num_right` may be fractional, since it is a mean over training seeds.

    Args:
        num_right: Right answers, 0 to `num_samples`.
        num_samples: Answers, at least 1.
        confidence: Share of such intervals that cover the true proportion, between 0 and 1.

    Raises:
        DataError: `num_right` or `num_samples` is out of range.

    References:
        E. B. Wilson (1927), Probable inference, the law of succession, and statistical inference,
        JASA 22(158), 209-212.
    """
    if num_samples < 1 or not 0 <= num_right <= num_samples:
        raise DataError(
            f"Expected 0 <= num_right <= num_samples, num_samples >= 1. "
            f"Received: num_right={num_right}, num_samples={num_samples}."
        )
    z = float(norm.ppf((1 + confidence) / 2))
    share = num_right / num_samples
    scale = 1 + z**2 / num_samples
    centre = (share + z**2 / (2 * num_samples)) / scale
    half_width = z / scale * math.sqrt(share * (1 - share) / num_samples + z**2 / (4 * num_samples**2))
    # the ends lie within [0, 1] by construction; rounding could put them a hair outside
    return Interval(max(0.0, centre - half_width), min(1.0, centre + half_width))
