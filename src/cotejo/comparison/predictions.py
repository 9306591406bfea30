"""The answers of all models to the same test images: read one model at a time, kept as classes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cotejo.comparison.records import Shown
from cotejo.errors import DataError
from cotejo.evaluation.gallery import select_disagreements, select_errors

#: By model: `seeds` of shape (num_seeds,), `y_true` (num_samples,) and `y_prob` (num_seeds, num_samples, num_classes).
Arrays = Mapping[str, Mapping[str, NDArray[Any]]]


@dataclass(frozen=True)
class Predictions:
    """The predicted classes of all models for the same test images, and the images worth looking at."""

    y_true: NDArray[np.int64]  # (num_samples,)
    predicted: Mapping[str, NDArray[np.int16]]  # by model, (num_seeds, num_samples)
    seeds: Mapping[str, Sequence[int]]  # by model
    errors: Mapping[str, tuple[Shown, ...]]  # by model
    disagreements: tuple[Shown, ...]


def build_predictions(
    arrays: Arrays,
    names: Iterable[str],
    baseline: str,
    candidate: str,
    class_names: Sequence[str],
    gallery_size: int,
) -> Predictions:
    """Takes the most probable class of each prediction, after checking that all models saw the same images.

    Probabilities take much more memory than classes (20 models, a million images: gigabytes), so they are asked for
    one model at a time and let go.

    Args:
        arrays: By model; a mapping that reads a model's file when asked for it keeps memory small.
        names: The models in order.
        baseline: Of the pair whose disagreements are shown.
        candidate: Likewise.
        class_names: One name per label.
        gallery_size: Most errors to show of each model, and most disagreements each way.

    Raises:
        DataError: Two models were evaluated on different images.
    """
    y_true = np.asarray(arrays[baseline]["y_true"])
    answers = {}
    for name in names:
        if not np.array_equal(arrays[name]["y_true"], y_true):
            raise DataError(
                f"Expected {name} and {baseline} evaluated on the same test images. "
                f"Received: other true classes in reports/predictions/{name}.npz. Run `dvc repro evaluate`."
            )
        answers[name] = _read_answers(name, arrays[name], y_true, class_names, gallery_size)
    return Predictions(
        y_true=y_true,
        predicted={name: predicted for name, (predicted, _, _) in answers.items()},
        seeds={name: seeds for name, (_, seeds, _) in answers.items()},
        errors={name: errors for name, (_, _, errors) in answers.items()},
        disagreements=_find_disagreements(arrays, y_true, baseline, candidate, class_names, gallery_size),
    )


def _read_answers(
    name: str,
    data: Mapping[str, NDArray[Any]],
    y_true: NDArray[np.int64],
    class_names: Sequence[str],
    gallery_size: int,
) -> tuple[NDArray[np.int16], list[int], tuple[Shown, ...]]:
    """Returns a model's predicted classes, its seeds and its most confident errors; lets go of its probabilities."""
    y_prob = data["y_prob"]
    errors = _show(select_errors(y_true, y_prob, gallery_size), y_true, {name: y_prob}, class_names)
    return y_prob.argmax(axis=-1).astype(np.int16), data["seeds"].tolist(), errors


def _find_disagreements(
    arrays: Arrays,
    y_true: NDArray[np.int64],
    baseline: str,
    candidate: str,
    class_names: Sequence[str],
    gallery_size: int,
) -> tuple[Shown, ...]:
    """Finds what only the baseline has right, then what only the candidate has right."""
    both = {name: arrays[name]["y_prob"] for name in (baseline, candidate)}
    directions = ((baseline, candidate), (candidate, baseline))
    chosen = [select_disagreements(y_true, both[one], both[other], gallery_size) for one, other in directions]
    return _show(np.concatenate(chosen), y_true, both, class_names)


def _show(
    indices: NDArray[np.int64],
    y_true: NDArray[np.int64],
    y_prob: Mapping[str, NDArray[Any]],
    class_names: Sequence[str],
) -> tuple[Shown, ...]:
    means = {name: rows[:, indices].mean(axis=0, dtype=np.float64) for name, rows in y_prob.items()}
    return tuple(
        Shown(
            index=int(index),
            true_class=class_names[y_true[index]],
            predicted={name: class_names[mean[row].argmax()] for name, mean in means.items()},
            confidence={name: float(mean[row].max()) for name, mean in means.items()},
        )
        for row, index in enumerate(indices)
    )
