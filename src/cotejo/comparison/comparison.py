"""What a comparison is made of: everything that a report shows, as frozen records, and how the numbers become rows."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cotejo.comparison.statistics import (
    adjust_holm,
    compute_accuracy_difference,
    compute_f1_differences,
)
from cotejo.errors import DataError

#: Models in the order of the study, each with the stages whose work it needs; the last one is its own.
STAGES_OF_MODEL = {
    "lenet": ("train-lenet",),
    "resnet": ("train-resnet",),
    "transfer": ("transfer-learn",),
    "finetune": ("transfer-learn", "finetune"),
}
#: Confused pairs that the report names for each model.
NUM_CONFUSED = 3


@dataclass(frozen=True)
class Seed:
    """One training: its test result, and what it measured in the epoch that was kept.

    Of the losses only plain cross-entropy: label smoothing and penalties make losses of different models incomparable.
    """

    seed: int
    test_accuracy: float
    test_loss: float
    epochs: int
    best_epoch: int
    train_accuracy: float
    train_cross_entropy: float
    val_accuracy: float
    val_cross_entropy: float


@dataclass(frozen=True)
class Confused:
    """A true class that was often taken for another one."""

    true_class: str
    predicted_class: str
    count: int
    share: float  # of the images of the true class


@dataclass(frozen=True)
class Model:
    """One model: means over its seeds. Times and memory are None where no clock was read."""

    name: str
    test_accuracy: float
    test_accuracy_low: float
    test_accuracy_high: float
    confidence: float  # of the interval around the test accuracy
    test_loss: float
    test_macro_precision: float
    test_macro_recall: float
    test_macro_f1: float
    test_weighted_f1: float
    sample_right: float
    sample_size: int
    parameters: int
    trainable_parameters: int
    size_bytes: int
    train_accuracy: float
    train_cross_entropy: float
    val_accuracy: float
    val_cross_entropy: float
    accuracy_gap: float  # running training accuracy minus validation accuracy of the kept epoch
    train_time_s: float | None  # for finetune with transfer-learn's, where it starts from
    epoch_time_s: float | None
    images_per_s: float | None
    peak_memory_bytes: float | None  # the highest of the seeds and stages
    machine: str | None  # processor and cores; None also in timings from before it was written
    device: str | None
    threads: int | None
    seeds: tuple[Seed, ...]
    confused: tuple[Confused, ...]
    class_names: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]  # rows true, columns predicted, summed over seeds


@dataclass(frozen=True)
class Pair:
    """Two models on the same test images; the difference is candidate minus baseline."""

    baseline: str
    candidate: str
    value: float
    low: float
    high: float
    p_value: float
    p_adjusted: float  # Holm's, over all pairs
    degrees_of_freedom: float
    method: str  # welch_t | mcnemar, see compute_accuracy_difference


@dataclass(frozen=True)
class ClassDifference:
    """The F1 score of a class for baseline and candidate; the difference is candidate minus baseline."""

    class_name: str
    support: int
    baseline: float
    candidate: float
    value: float
    low: float
    high: float

    @property
    def is_clear(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Finding:
    """A conclusion without words: `key` names its wording in the locales, `values` fill it in."""

    key: str
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Answer:
    """One question of the study and the findings that answer it."""

    question: str
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class Comparison:
    """The whole comparison: what the report shows, and nothing that it doesn't."""

    baseline: str
    candidate: str
    confidence: float  # of the differences; that of a model's own interval is the model's
    verdict: Finding
    cost: tuple[Finding, ...]
    warnings: tuple[Finding, ...]
    answers: tuple[Answer, ...]
    recommendations: tuple[Finding, ...]
    notes: tuple[Finding, ...]
    models: tuple[Model, ...]
    pairs: tuple[Pair, ...]
    differences: tuple[ClassDifference, ...]
    dataset: Mapping[str, Any]
    facts: Mapping[str, Any]

    @property
    def is_timed(self) -> bool:
        """Whether the training time of every model is on record."""
        return all(model.train_time_s is not None for model in self.models)

    def get_model(self, name: str) -> Model:
        """Returns the row of a model that takes part."""
        return next(model for model in self.models if model.name == name)

    def get_pair(self, first: str, second: str) -> Pair:
        """Returns the pair of two models, in whichever order it was compared."""
        return next(pair for pair in self.pairs if {pair.baseline, pair.candidate} == {first, second})


@dataclass(frozen=True)
class Predictions:
    """The predicted classes of all models for the same test images."""

    y_true: NDArray[np.int64]  # (num_samples,)
    predicted: Mapping[str, NDArray[np.int64]]  # by model, (num_seeds, num_samples)


def build_predictions(arrays: Mapping[str, Mapping[str, NDArray[Any]]]) -> Predictions:
    """Takes the most probable class of each prediction, after checking that all models saw the same images.

    Args:
        arrays: By model `y_true` of shape (num_samples,) and `y_prob` of shape (num_seeds, num_samples, num_classes).

    Raises:
        DataError: Two models were evaluated on different images.
    """
    first, y_true = next((name, data["y_true"]) for name, data in arrays.items())
    for name, data in arrays.items():
        if not np.array_equal(data["y_true"], y_true):
            raise DataError(
                f"Expected {name} and {first} evaluated on the same test images. "
                f"Received: other true classes in reports/predictions/{name}.npz. Run `dvc repro evaluate`."
            )
    return Predictions(y_true, {name: data["y_prob"].argmax(axis=-1) for name, data in arrays.items()})


def build_model(name: str, metrics: Mapping[str, Any], timings: Mapping[str, Mapping[str, Any]]) -> Model:
    """Brings the metrics and timings of a model into one row.

    Args:
        name: The model.
        metrics: `reports/metrics/<name>.json`.
        timings: `reports/timings/<stage>.json` by stage; a stage that is missing leaves its times None.
    """
    seeds = tuple(Seed(**{key: row[key] for key in Seed.__dataclass_fields__}) for row in metrics["per_seed"])
    confusion = metrics["confusion"]
    direct = ("test_accuracy", "test_accuracy_low", "test_accuracy_high", "confidence", "test_loss",
              "test_macro_precision", "test_macro_recall", "test_macro_f1", "test_weighted_f1", "sample_right",
              "sample_size", "parameters", "trainable_parameters", "size_bytes")  # fmt: skip
    return Model(
        name=name,
        **{key: metrics[key] for key in direct},
        train_accuracy=fmean(seed.train_accuracy for seed in seeds),
        train_cross_entropy=fmean(seed.train_cross_entropy for seed in seeds),
        val_accuracy=fmean(seed.val_accuracy for seed in seeds),
        val_cross_entropy=fmean(seed.val_cross_entropy for seed in seeds),
        accuracy_gap=fmean(seed.train_accuracy - seed.val_accuracy for seed in seeds),
        **_summarize_timings([timings.get(stage) for stage in STAGES_OF_MODEL[name]]),
        seeds=seeds,
        confused=_find_confused(confusion["class_names"], confusion["counts"]),
        class_names=tuple(confusion["class_names"]),
        counts=tuple(tuple(row) for row in confusion["counts"]),
    )


def build_pairs(predictions: Predictions, baseline: str, candidate: str, confidence: float) -> tuple[Pair, ...]:
    """Compares every two models; the study's own pair comes first and keeps its direction."""
    names = [name for name in STAGES_OF_MODEL if name in predictions.predicted]
    others = [pair for pair in itertools.combinations(names, 2) if set(pair) != {baseline, candidate}]
    chosen = [(baseline, candidate), *others]
    differences = [
        compute_accuracy_difference(predictions.y_true, predictions.predicted[a], predictions.predicted[b], confidence)
        for a, b in chosen
    ]
    adjusted = adjust_holm([difference.p_value for difference in differences])
    return tuple(
        Pair(a, b, found.value, found.low, found.high, found.p_value, p, found.degrees_of_freedom, found.method)
        for (a, b), found, p in zip(chosen, differences, adjusted, strict=True)
    )


def build_differences(
    predictions: Predictions, baseline: str, candidate: str, class_names: Sequence[str], confidence: float
) -> tuple[ClassDifference, ...]:
    """Compares the F1 scores of every class, the largest difference first.

    The intervals hold for all classes together (Bonferroni), so that naming the classes that differ doesn't
    become a search for a lucky one: with ten intervals of 95% each, two studies in five would find something.
    """
    num_classes = len(class_names)
    each = 1 - (1 - confidence) / num_classes
    found = compute_f1_differences(
        predictions.y_true, predictions.predicted[baseline], predictions.predicted[candidate], num_classes, each
    )
    support = np.bincount(predictions.y_true, minlength=num_classes)
    rows = [
        ClassDifference(name, int(count), *row) for name, count, row in zip(class_names, support, found, strict=True)
    ]
    return tuple(sorted(rows, key=lambda row: -abs(row.value)))


def _summarize_timings(stages: Sequence[Mapping[str, Any] | None]) -> dict[str, Any]:
    """Takes means over seeds: the stages' training times add up, pace and device are the last stage's."""
    own = stages[-1]
    if own is None:
        return dict.fromkeys(("train_time_s", "epoch_time_s", "images_per_s", "peak_memory_bytes", "machine", "device",
                              "threads"))  # fmt: skip
    peaks = [_collect(stage, "peak_memory_bytes") for stage in stages]
    times = [_mean(_collect(stage, "train_time_s")) for stage in stages]
    return {
        "train_time_s": None if None in times else sum(time for time in times if time is not None),
        "epoch_time_s": _mean(_collect(own, "epoch_time_s")),
        "images_per_s": _mean(_collect(own, "images_per_s")),
        "peak_memory_bytes": max((peak for peaks_of_stage in peaks for peak in peaks_of_stage), default=None),
        "machine": own.get("machine"),
        "device": own.get("device"),
        "threads": own.get("threads"),
    }


def _collect(stage: Mapping[str, Any] | None, key: str) -> list[float]:
    rows = stage["per_seed"] if stage else []
    return [row[key] for row in rows if row.get(key) is not None]


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None


def _find_confused(class_names: Sequence[str], counts: Sequence[Sequence[int]]) -> tuple[Confused, ...]:
    pairs = [
        Confused(class_names[true], class_names[predicted], row[predicted], row[predicted] / sum(row))
        for true, row in enumerate(counts)
        for predicted in range(len(row))
        if predicted != true and row[predicted]
    ]
    return tuple(sorted(pairs, key=lambda pair: (-pair.share, -pair.count))[:NUM_CONFUSED])
