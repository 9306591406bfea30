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
    predicted, seeds, errors = {}, {}, {}
    y_true = np.asarray(arrays[baseline]["y_true"])
    for name in names:
        data = dict(arrays[name])
        if not np.array_equal(data["y_true"], y_true):
            raise DataError(
                f"Expected {name} and {baseline} evaluated on the same test images. "
                f"Received: other true classes in reports/predictions/{name}.npz. Run `dvc repro evaluate`."
            )
        y_prob = data["y_prob"]
        predicted[name] = y_prob.argmax(axis=-1).astype(np.int16)
        seeds[name] = data["seeds"].tolist()
        indices = select_errors(y_true, y_prob, gallery_size)
        errors[name] = _show(indices, y_true, {name: y_prob}, class_names)
    both = {name: arrays[name]["y_prob"] for name in (baseline, candidate)}
    indices = np.concatenate(
        [
            select_disagreements(y_true, both[one], both[other], gallery_size)
            for one, other in ((baseline, candidate), (candidate, baseline))
        ]
    )
    return Predictions(y_true, predicted, seeds, errors, _show(indices, y_true, both, class_names))


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
