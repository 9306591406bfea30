"""The answers of all models to the same test images: read one model at a time, kept as classes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cotejo.comparison.records import GalleryImage
from cotejo.errors import DataError
from cotejo.estimation.estimates import Scores
from cotejo.evaluation.corruptions import NUM_CORRUPTED
from cotejo.evaluation.gallery import select_disagreements, select_errors
from cotejo.evaluation.scores import score_confidence_gap, score_correct, score_losses, score_share
from cotejo.schema.results import ComparedMetrics, Metrics

#: Test images below which nothing is compared.
MIN_IMAGES = 2
#: How far the probabilities of an image, in float32, may be from a sum of 1.
SUM_TOLERANCE = 1e-4
#: How far a seed's accuracy may be from that of its metrics: rounding alone.
ACCURACY_TOLERANCE = 1e-9
#: By model the arrays that `evaluation.summary.save_evaluation` writes.
Arrays = Mapping[str, Mapping[str, NDArray[Any]]]


@dataclass(frozen=True)
class Predictions:
    """The predicted classes of all models for the same test images, and the images worth looking at."""

    y_true: NDArray[np.int64]  # (num_samples,)
    predicted: Mapping[str, NDArray[np.int16]]  # by model, (num_seeds, num_samples)
    seeds: Mapping[str, Sequence[int]]  # by model
    accuracy: Mapping[str, Scores]  # by model, on the test images
    val_accuracy: Mapping[str, Scores]  # by model, on the validation images
    claims: Mapping[str, tuple[Scores, Scores]]  # baseline's and candidate's, by the name of the score
    errors: Mapping[str, tuple[GalleryImage, ...]]  # by model
    disagreements: tuple[GalleryImage, ...]


def build_predictions(
    arrays: Arrays,
    names: Iterable[str],
    baseline: str,
    candidate: str,
    class_names: Sequence[str],
    gallery_size: int,
    metrics: Mapping[str, Metrics],
) -> Predictions:
    """Returns the most probable class of each prediction, after checking that all models saw the same images.

    Probabilities take much more memory than classes (20 models, a million images: gigabytes), so they are asked for
    one model at a time and let go.

    Args:
        arrays: By model; a mapping that reads a model's file when asked for it keeps memory small.
        names: The models in order.
        baseline: The first model of the pair whose disagreements are shown.
        candidate: The second model of that pair.
        class_names: One name per label.
        gallery_size: Most errors to show of each model, and most disagreements each way.
        metrics: `reports/metrics/<model>.json` by model, which the predictions must belong to.

    Raises:
        DataError: Two models were evaluated on different images, numbers aren't what they should be, or a model's
            predictions aren't those of its metrics.
    """
    y_true, digest = np.asarray(arrays[baseline]["y_true"]), str(arrays[baseline]["images_sha256"])
    if len(y_true) < MIN_IMAGES:
        raise DataError(
            expected=f"at least {MIN_IMAGES} test images to compare models on",
            received=len(y_true),
            advice="Set preprocess.test_fraction in params.yaml higher, or add images",
        )
    read = {}
    for name in names:
        _check_images(name, arrays[name], baseline, y_true, digest)
        check_numbers(name, arrays[name], metrics[name])
        _check_scores(name, arrays[name], arrays[baseline])
        read[name] = _read_answers(name, arrays[name], y_true, class_names, gallery_size)
    return Predictions(
        y_true=y_true,
        predicted={name: answers.predicted for name, answers in read.items()},
        seeds={name: answers.seeds for name, answers in read.items()},
        accuracy={name: score_correct(answers.predicted == y_true) for name, answers in read.items()},
        val_accuracy={name: answers.val_accuracy for name, answers in read.items()},
        claims=_score_claims(arrays, y_true, baseline, candidate),
        errors={name: answers.errors for name, answers in read.items()},
        disagreements=_find_disagreements(arrays, y_true, baseline, candidate, class_names, gallery_size),
    )


class _Answers(NamedTuple):
    predicted: NDArray[np.int16]
    seeds: list[int]
    val_accuracy: Scores
    errors: tuple[GalleryImage, ...]


def _check_images(
    name: str, data: Mapping[str, NDArray[Any]], baseline: str, y_true: NDArray[np.int64], digest: str
) -> None:
    is_same = np.array_equal(data["y_true"], y_true)
    if not is_same or str(data["images_sha256"]) != digest:
        what = "another digest of the images" if is_same else "other true classes"
        raise DataError(
            where=f"reports/predictions/{name}.npz",
            expected=f"answers to the test images of {baseline} in the same order",
            received=what,
            advice="Run `dvc repro evaluate`",
        )


def check_numbers(
    name: str, data: Mapping[str, NDArray[Any]], metrics: Metrics | ComparedMetrics, *, revision: str | None = None
) -> None:
    """Refuses what isn't a probability, and predictions of other trainings than those of the metrics.

    Args:
        name: The model.
        data: `seeds`, `y_true` and `y_prob` of `reports/predictions/<name>.npz`.
        metrics: `reports/metrics/<name>.json`.
        revision: Name of the revision of both files, for messages; None for this folder's.

    Raises:
        DataError: One line that names the file.
    """
    where, there = (f"{revision}: ", " there") if revision else ("", "")
    path, advice = f"{where}reports/predictions/{name}.npz", f"Run `dvc repro --force --single-item evaluate`{there}"
    y_true, y_prob = data["y_true"], data["y_prob"]
    if y_prob.ndim != 3 or y_prob.shape[:2] != (len(data["seeds"]), len(y_true)) or not y_prob.size:
        raise DataError(
            where=path,
            expected="y_prob of shape (num_seeds, num_samples, num_classes)",
            received=f"{y_prob.shape} for {len(data['seeds'])} seeds and {len(y_true)} images",
            advice=advice,
        )
    sums = y_prob.sum(axis=2, dtype=np.float64)
    is_bad = ~(np.abs(sums - 1) <= SUM_TOLERANCE) | (y_prob < 0).any(axis=2)
    if is_bad.any():
        seed, image = np.argwhere(is_bad)[0]
        raise DataError(
            where=path,
            expected="probabilities from 0 to 1 that sum to 1 for each image",
            received=(
                f"{int(is_bad.sum()):,} answers that don't, the first of seed {data['seeds'][seed]} for image {image}, "
                f"with a sum of {sums[seed, image]:.6g}"
            ),
            advice=advice,
        )
    accuracies = (y_prob.argmax(axis=2) == y_true).mean(axis=1)
    expected = {row.seed: row.test_accuracy for row in metrics.per_seed}
    received = dict(zip(data["seeds"].tolist(), accuracies.tolist(), strict=True))
    is_same = expected.keys() == received.keys()
    if not is_same or any(abs(expected[seed] - received[seed]) > ACCURACY_TOLERANCE for seed in expected):
        raise DataError(
            where=path,
            expected=f"the predictions of reports/metrics/{name}.json, with accuracies by seed of "
            f"{_list_accuracies(expected)}",
            received=_list_accuracies(received),
            advice=advice,
        )


def _check_scores(name: str, data: Mapping[str, NDArray[Any]], baseline: Mapping[str, NDArray[Any]]) -> None:
    """Refuses scores of validation and corrupted images that evaluate can't have written."""
    num_val = baseline["val_correct"].shape[-1:]
    num_corrupted = baseline["corrupted_indices"].shape
    correct, losses, counts = data["val_correct"], data["val_losses"], data["corrupted_correct"]
    checks = (
        ("val_correct", "true or false", num_val, np.full(correct.shape, correct.dtype == bool)),
        ("val_losses", "0 or more nats", num_val, np.isfinite(losses) & (losses >= 0)),
        ("corrupted_correct", f"0 to {NUM_CORRUPTED}", num_corrupted, (counts >= 0) & (counts <= NUM_CORRUPTED)),
    )
    for key, kind, of_images, is_sound in checks:
        expected = (len(data["seeds"]), *of_images)
        if is_sound.shape != expected or not is_sound.all():
            bad = "" if is_sound.all() else f", {np.count_nonzero(~is_sound):,} of which aren't"
            raise DataError(
                where=f"reports/predictions/{name}.npz",
                expected=f"{key} of shape {expected}, each {kind}",
                received=f"numbers of shape {is_sound.shape}{bad}",
                advice="Run `dvc repro --force --single-item evaluate`",
            )


def _list_accuracies(by_seed: Mapping[int, float]) -> str:
    return ", ".join(f"{seed}: {accuracy:.4f}" for seed, accuracy in by_seed.items())


def _read_answers(
    name: str,
    data: Mapping[str, NDArray[Any]],
    y_true: NDArray[np.int64],
    class_names: Sequence[str],
    gallery_size: int,
) -> _Answers:
    """Keeps a model's predicted classes, its seeds and its most confident errors; lets go of its probabilities."""
    y_prob = data["y_prob"]
    errors = _show(select_errors(y_true, y_prob, gallery_size), y_true, {name: y_prob}, class_names)
    predicted = y_prob.argmax(axis=-1).astype(np.int16)
    return _Answers(predicted, data["seeds"].tolist(), score_correct(data["val_correct"]), errors)


def _score_claims(
    arrays: Arrays, y_true: NDArray[np.int64], baseline: str, candidate: str
) -> dict[str, tuple[Scores, Scores]]:
    """Scores the verdict's pair by what the exploratory questions ask for."""
    by_model = []
    for name in (baseline, candidate):
        data = arrays[name]
        by_model.append(
            {
                "val_cross_entropy": score_losses(data["val_losses"]),
                "confidence_gap": score_confidence_gap(y_true, data["y_prob"], is_absolute=True),
                "corrupted_accuracy": score_share(data["corrupted_correct"], NUM_CORRUPTED),
            }
        )
    first, second = by_model
    return {key: (first[key], second[key]) for key in first}


def _find_disagreements(
    arrays: Arrays,
    y_true: NDArray[np.int64],
    baseline: str,
    candidate: str,
    class_names: Sequence[str],
    gallery_size: int,
) -> tuple[GalleryImage, ...]:
    """Returns what only the baseline classifies correctly, then what only the candidate does."""
    both = {name: arrays[name]["y_prob"] for name in (baseline, candidate)}
    directions = ((baseline, candidate), (candidate, baseline))
    chosen = [select_disagreements(y_true, both[one], both[other], gallery_size) for one, other in directions]
    return _show(np.concatenate(chosen), y_true, both, class_names)


def _show(
    indices: NDArray[np.int64],
    y_true: NDArray[np.int64],
    y_prob: Mapping[str, NDArray[Any]],
    class_names: Sequence[str],
) -> tuple[GalleryImage, ...]:
    means = {name: rows[:, indices].mean(axis=0, dtype=np.float64) for name, rows in y_prob.items()}
    return tuple(
        GalleryImage(
            index=int(index),
            true_class=class_names[y_true[index]],
            predicted={name: class_names[mean[row].argmax()] for name, mean in means.items()},
            confidence={name: float(mean[row].max()) for name, mean in means.items()},
        )
        for row, index in enumerate(indices)
    )
