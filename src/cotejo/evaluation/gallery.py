"""Chooses the test images worth looking at, from predictions alone, so that evaluate and compare choose alike."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.integer[Any]]
Indices = NDArray[np.int64]


def select_errors(y_true: Ints, y_prob: Floats, count: int) -> Indices:
    """Selects the images that a model gets wrong with the most confidence.

    The answer for an image is the class with the highest mean probability over the seeds. Of equal confidences the
    image with the lower index comes first.

    Args:
        y_true: Labels, shape (num_samples,).
        y_prob: Probabilities, shape (num_seeds, num_samples, num_classes).
        count: Most images to select.

    Returns:
        Indices, the most confident error first: at most `count`, fewer if there are fewer errors.
    """
    predicted, confidence = _answer(y_prob)
    return _take_highest(confidence, predicted != y_true, count)


def select_disagreements(y_true: Ints, y_prob_a: Floats, y_prob_b: Floats, count: int) -> Indices:
    """Selects the images that model a gets right and model b wrong, most clearly first.

    The answers are those of the mean probabilities over the seeds. The clearest image is the one with the highest
    sum of both confidences: a is sure of the true class, b of another one. Of equal sums the image with the lower
    index comes first.

    Args:
        y_true: Labels, shape (num_samples,).
        y_prob_a: Probabilities of a, shape (num_seeds, num_samples, num_classes).
        y_prob_b: Those of b; the number of seeds may differ.
        count: Most images to select.

    Returns:
        Indices, the clearest first: at most `count`, fewer if there are fewer such images.
    """
    predicted_a, confidence_a = _answer(y_prob_a)
    predicted_b, confidence_b = _answer(y_prob_b)
    is_shown = (predicted_a == y_true) & (predicted_b != y_true)
    return _take_highest(confidence_a + confidence_b, is_shown, count)


def select_gallery(y_true: Ints, y_prob: Sequence[Floats], count: int) -> Indices:
    """Selects every image that a report of these models may show, whichever two of them it compares.

    Args:
        y_true: Labels, shape (num_samples,).
        y_prob: Probabilities of each model, of shape (num_seeds, num_samples, num_classes).
        count: Most images of each selection.

    Returns:
        Sorted indices: the errors of each model and the disagreements of each ordered pair.
    """
    chosen = [select_errors(y_true, prob, count) for prob in y_prob]
    chosen += [select_disagreements(y_true, a, b, count) for a, b in itertools.permutations(y_prob, 2)]
    return np.unique(np.concatenate(chosen)).astype(np.int64)


def save_gallery(path: Path, indices: Indices, images: NDArray[np.uint8]) -> None:
    """Writes `indices`, shape (k,), and `images`, shape (k, height, width, channels): the same bytes on every run.

    Args:
        path: The `.npz` file.
        indices: Sorted indices of test images.
        images: All test images, uint8 of shape (num_samples, height, width, channels).
    """
    np.savez(path, indices=indices, images=np.asarray(images[indices]))


def _answer(y_prob: Floats) -> tuple[Indices, NDArray[np.float64]]:
    mean = y_prob.mean(axis=0, dtype=np.float64)
    return mean.argmax(axis=1), mean.max(axis=1)


def _take_highest(score: NDArray[np.float64], is_eligible: NDArray[np.bool_], count: int) -> Indices:
    eligible = np.flatnonzero(is_eligible)
    return eligible[np.argsort(-score[eligible], kind="stable")[:count]].astype(np.int64)
