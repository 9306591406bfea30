"""How the numbers of evaluate and of the clocks become the records of a comparison."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from statistics import fmean, median
from typing import Any, TypeVar

import numpy as np

from cotejo.comparison.bootstrap import bootstrap_accuracy_difference, compute_f1_differences
from cotejo.comparison.predictions import Predictions
from cotejo.comparison.records import (
    COSTS,
    ClassDifference,
    Clock,
    Confused,
    Corrupted,
    McNemar,
    Model,
    Pair,
    Seed,
)
from cotejo.comparison.statistics import (
    Correctness,
    Difference,
    adjust_holm,
    check_answers,
    compare_trainings,
    compute_accuracy_difference,
    compute_detectable,
    compute_effect_size,
    compute_equivalence_p,
    compute_seed_spread,
    compute_welch_p_value,
)
from cotejo.errors import DataError
from cotejo.evaluation.calibration import Bin
from cotejo.evaluation.selective import RiskPoint

#: Models in the order of the study, each with the stages whose work it needs; the last one is its own.
STAGES_OF_MODEL = {
    "lenet": ("train-lenet",),
    "resnet": ("train-resnet",),
    "transfer": ("transfer-learn",),
    "finetune": ("transfer-learn", "finetune"),
}
#: Confused pairs that the report names for each model.
NUM_CONFUSED = 3
#: What a model's record takes from its metrics as it is.
DIRECT = (
    "test_accuracy", "test_accuracy_low", "test_accuracy_high", "confidence", "test_loss", "test_loss_low",
    "test_loss_high", "test_macro_precision", "test_macro_recall", "test_macro_f1", "test_macro_f1_low",
    "test_macro_f1_high", "test_weighted_f1", "sample_right", "sample_size", "parameters", "trainable_parameters",
    "size_bytes", "operations", "temperature", "dvc_digest",
)  # fmt: skip
#: Likewise, by the name that the metrics give it.
RENAMED = {"ece": "test_ece", "ece_scaled": "test_ece_scaled", "nll_scaled": "test_nll_scaled", "aurc": "test_aurc",
           "corrupted_accuracy": "test_corrupted_accuracy"}  # fmt: skip
TABLES: dict[str, Any] = {"reliability": Bin, "reliability_scaled": Bin, "risk_coverage": RiskPoint,
                          "robustness": Corrupted}  # fmt: skip
LATENCY = ("latency_p50_s", "latency_p95_s", "throughput_images_per_s")
#: What a clock and the process's memory say of each seed's training.
TIMED = ("train_time_s", "epoch_time_s", "images_per_s", "peak_memory_bytes")

Record = TypeVar("Record")


def build_model(
    name: str, metrics: Mapping[str, Any], timings: Mapping[str, Mapping[str, Any]], stages: Sequence[str]
) -> Model:
    """Brings the metrics and timings of a model into one row.

    Args:
        name: The model.
        metrics: `reports/metrics/<name>.json`.
        timings: `reports/timings/<stage>.json` by stage; a stage that is missing leaves its times None.
        stages: The stages whose work the model needs, its own last.

    Raises:
        DataError: Metrics or timings lack something, as those of an older version do, or hold what is no number.
    """
    with _refusing_faults("reports/timings/evaluate.json", "evaluate"):
        served = timings.get("evaluate", {})
        clock = served.get("per_model", {}).get(name, {})
        latency = {key: None if clock.get(key) is None else _check_number(key, clock[key]) for key in LATENCY}
        measured = {**latency, "answers_clock": _read_clock(served, clock)}
    for stage in stages:
        with _refusing_faults(f"reports/timings/{stage}.json", stage):
            for key in TIMED:
                _collect(timings.get(stage), key)
    with _refusing_faults(f"reports/metrics/{name}.json", "evaluate"):
        return _build_model(name, metrics, {**measured, **_summarize_timings([timings.get(stage) for stage in stages])})


def compute_train_time(stages: Sequence[Mapping[str, Any] | None]) -> float | None:
    """Returns the seconds of a model's training: of each stage that it needs the median over the seeds, added up.

    Args:
        stages: `reports/timings/<stage>.json` of each; None where it is missing.

    Returns:
        None where no clock was read in one of them.
    """
    times = [_take_median(_collect(stage, "train_time_s")) for stage in stages]
    return None if None in times else sum(time for time in times if time is not None)


def build_pairs(
    predictions: Predictions, baseline: str, candidate: str, confidence: float, margin: float
) -> tuple[Pair, ...]:
    """Compares every two models; the study's own pair comes first and keeps its direction."""
    others = [pair for pair in itertools.combinations(predictions.predicted, 2) if set(pair) != {baseline, candidate}]
    chosen = [(baseline, candidate), *others]
    answers = {name: check_answers(predictions.y_true, rows) for name, rows in predictions.predicted.items()}
    differences = [compute_accuracy_difference(answers[a], answers[b], confidence) for a, b in chosen]
    equivalences = [compute_equivalence_p(difference, margin) for difference in differences]
    adjusted = zip(adjust_holm([found.p_value for found in differences]), adjust_holm(equivalences), strict=True)
    return tuple(
        Pair(
            baseline=a,
            candidate=b,
            **_describe_difference(found, confidence),
            **_compare_answers(answers[a], answers[b], predictions.seeds[a], predictions.seeds[b], confidence),
            p_adjusted=p,
            equivalence_p=equivalence,
            equivalence_p_adjusted=equivalence_adjusted,
        )
        for (a, b), found, equivalence, (p, equivalence_adjusted) in zip(
            chosen, differences, equivalences, adjusted, strict=True
        )
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


def build_fronts(models: Sequence[Model]) -> dict[str, tuple[str, ...]]:
    """Finds for each cost the models that no other one beats: as accurate or more, as cheap or less, not both equal.

    Args:
        models: All models; one whose cost isn't on record takes no part in that cost's front.

    Returns:
        Names by cost (see `COSTS`), cheapest first.
    """
    fronts = {}
    for cost in COSTS:
        points = sorted(
            (getattr(model, cost), -model.test_accuracy, model.name)
            for model in models
            if getattr(model, cost) is not None
        )
        fronts[cost] = tuple(
            name
            for price, error, name in points
            if not any(p <= price and e <= error and (p, e) != (price, error) for p, e, _ in points)
        )
    return fronts


@contextmanager
def _refusing_faults(path: str, stage: str) -> Iterator[None]:
    """Turns what a damaged file raises into one line that names the file and the stage that writes it."""
    try:
        yield
    except KeyError as error:
        raise DataError(f"Expected {error} in {path}. Received: a file without it. Run `dvc repro {stage}`.") from error
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"Expected what {stage} writes in {path}. Received: {type(error).__name__}: {error}. "
            f"Run `dvc repro {stage}`."
        ) from error


def _build_model(name: str, metrics: Mapping[str, Any], measured: Mapping[str, Any]) -> Model:
    seeds = _build_rows(Seed, "per_seed", metrics)
    tables: dict[str, Any] = {key: _build_rows(record, key, metrics) for key, record in TABLES.items()}
    if len({row.severity > 0 for row in tables["robustness"]}) == 1:
        raise ValueError("robustness has no row of images as they are, or none of corrupted ones")
    confusion = metrics["confusion"]
    if {len(confusion["class_names"])} != {len(confusion["counts"]), *map(len, confusion["counts"])}:
        raise ValueError("confusion has not one row and column a class")
    return _check_numbers(Model(
        name=name,
        **{key: metrics[key] for key in DIRECT},
        **{key: metrics[written] for key, written in RENAMED.items()},
        **tables,
        **_summarize_seeds(seeds, metrics["confidence"]),
        **measured,
        seeds=seeds,
        confused=_find_confused(confusion["class_names"], confusion["counts"]),
        class_names=tuple(confusion["class_names"]),
        counts=tuple(tuple(row) for row in confusion["counts"]),
    ))  # fmt: skip


def _build_rows(record: type[Record], key: str, metrics: Mapping[str, Any]) -> tuple[Record, ...]:
    """Brings a table of the metrics into records, of whose columns a row may have more."""
    names = [field.name for field in fields(record)]  # type: ignore[arg-type]
    rows = tuple(_check_numbers(record(**{name: row[name] for name in names})) for row in metrics[key])
    if not rows:
        raise ValueError(f"no row in {key}")
    return rows


def _check_numbers(record: Record) -> Record:
    for field in fields(record):  # type: ignore[arg-type]
        if field.type in (int, float):
            _check_number(field.name, getattr(record, field.name))
    return record


def _check_number(name: str, value: Any) -> float:  # noqa: ANN401
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} is {value!r}, no number")
    return value


def _read_clock(served: Mapping[str, Any], clock: Mapping[str, Any]) -> Clock | None:
    if not {"batch_size", "num_timed"} <= clock.keys():
        return None
    place = {key: served.get(key) for key in ("machine", "device", "threads")}
    return Clock(**place, batch_size=clock["batch_size"], num_timed=clock["num_timed"])


def _summarize_seeds(seeds: Sequence[Seed], confidence: float) -> dict[str, Any]:
    """Takes means over the seeds, and how far their test accuracies lie apart where there are several."""
    accuracies = [seed.test_accuracy for seed in seeds]
    spread, low, high = compute_seed_spread(accuracies, confidence) if len(seeds) > 1 else (None, None, None)
    return {
        "seed_spread": spread,
        "seeds_low": low,
        "seeds_high": high,
        "train_accuracy": fmean(seed.train_accuracy for seed in seeds),
        "train_cross_entropy": fmean(seed.train_cross_entropy for seed in seeds),
        "val_accuracy": fmean(seed.val_accuracy for seed in seeds),
        "val_cross_entropy": fmean(seed.val_cross_entropy for seed in seeds),
        "accuracy_gap": fmean(seed.train_accuracy - seed.val_accuracy for seed in seeds),
    }


def _describe_difference(found: Difference, confidence: float) -> dict[str, Any]:
    direct = ("value", "low", "high", "p_value", "degrees_of_freedom", "method", "image_share")
    return {**{key: getattr(found, key) for key in direct}, "detectable": compute_detectable(found, confidence)}


def _compare_answers(
    baseline: Correctness,
    candidate: Correctness,
    seeds_baseline: Sequence[int],
    seeds_candidate: Sequence[int],
    confidence: float,
) -> dict[str, Any]:
    """Looks at the same difference in other ways: without the seeds, seed by seed, on the seeds alone, as an effect."""
    low, high = bootstrap_accuracy_difference(baseline, candidate, confidence)
    one, other = baseline.accuracies, candidate.accuracies
    return {
        "bootstrap_low": low,
        "bootstrap_high": high,
        "mcnemar": tuple(
            McNemar(first, second, *compare_trainings(*rights))
            # the models may differ in their number of seeds
            for first, second, *rights in zip(
                seeds_baseline, seeds_candidate, baseline.right, candidate.right, strict=False
            )
        ),
        "seeds_p_value": compute_welch_p_value(one, other) if min(len(one), len(other)) > 1 else None,
        "effect_size": compute_effect_size(float(one.mean()), float(other.mean())),
    }


def _summarize_timings(stages: Sequence[Mapping[str, Any] | None]) -> dict[str, Any]:
    """Takes medians over seeds: the stages' training times add up, pace and device are the last stage's."""
    own = stages[-1]
    if own is None:
        return dict.fromkeys((*TIMED, "train_time_low_s", "train_time_high_s", "machine", "device", "threads"))
    peaks = [_collect(stage, "peak_memory_bytes") for stage in stages]
    totals = _add_by_seed(stages)
    return {
        "train_time_low_s": min(totals, default=None),
        "train_time_high_s": max(totals, default=None),
        "train_time_s": compute_train_time(stages),
        "epoch_time_s": _take_median(_collect(own, "epoch_time_s")),
        "images_per_s": _take_median(_collect(own, "images_per_s")),
        "peak_memory_bytes": max((peak for peaks_of_stage in peaks for peak in peaks_of_stage), default=None),
        "machine": own.get("machine"),
        "device": own.get("device"),
        "threads": own.get("threads"),
    }


def _add_by_seed(stages: Sequence[Mapping[str, Any] | None]) -> list[float]:
    """Adds up what the stages' trainings took, for each seed that has a time in every stage."""
    by_stage = [
        {row["seed"]: row["train_time_s"] for row in (stage or {}).get("per_seed", ())
         if row.get("train_time_s") is not None}
        for stage in stages
    ]  # fmt: skip
    return [sum(times[seed] for times in by_stage) for seed in set.intersection(*map(set, by_stage))]


def _collect(stage: Mapping[str, Any] | None, key: str) -> list[float]:
    rows = stage["per_seed"] if stage else []
    return [_check_number(key, row[key]) for row in rows if row.get(key) is not None]


def _take_median(values: Sequence[float]) -> float | None:
    """Returns the median: whatever else a machine does makes one training slow, not all."""
    return median(values) if values else None


def _find_confused(class_names: Sequence[str], counts: Sequence[Sequence[int]]) -> tuple[Confused, ...]:
    pairs = [
        Confused(class_names[true], class_names[predicted], row[predicted], row[predicted] / sum(row))
        for true, row in enumerate(counts)
        for predicted in range(len(row))
        if predicted != true and row[predicted]
    ]
    return tuple(sorted(pairs, key=lambda pair: (-pair.share, -pair.count))[:NUM_CONFUSED])
