"""How the numbers of evaluate and of the clocks become the records of a comparison."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from statistics import fmean, median, stdev
from typing import Any, TypeVar

import numpy as np

from cotejo.comparison.inputs import refusing_faults
from cotejo.comparison.mcnemar import compare_trainings
from cotejo.comparison.predictions import Predictions
from cotejo.comparison.records import (
    COSTS,
    Claim,
    ClassDifference,
    Clock,
    Confused,
    Corrupted,
    McNemar,
    Model,
    Pair,
    Seed,
)
from cotejo.estimation.estimates import (
    Scores,
    adjust_declared,
    adjust_holm,
    estimate_differences,
    estimate_mean,
)
from cotejo.estimation.power import compute_detectable
from cotejo.evaluation.calibration import Bin
from cotejo.evaluation.scores import score_f1
from cotejo.evaluation.selective import RiskPoint

#: Confused pairs that the report names for each model.
NUM_CONFUSED = 3
#: What a model's record takes from its metrics as it is.
DIRECT = (
    "test_accuracy", "test_accuracy_low", "test_accuracy_high", "test_accuracy_files_low", "test_accuracy_files_high",
    "confidence", "test_loss", "test_loss_low", "test_loss_high", "test_macro_precision", "test_macro_recall",
    "test_macro_f1", "test_macro_f1_low", "test_macro_f1_high", "test_weighted_f1", "sample_right", "sample_size",
    "parameters", "trainable_parameters", "size_bytes", "operations", "temperature", "temperature_low",
    "temperature_high", "val_accuracy_low", "val_accuracy_high", "dvc_digest",
)  # fmt: skip
#: Scores whose record leaves out the `test_` of the metrics.
RENAMED = (
    "ece", "ece_scaled", "nll_scaled", "aurc", "confidence_gap", "confidence_gap_low", "confidence_gap_high",
    "selective_risk", "selective_risk_low", "selective_risk_high", "corrupted_accuracy", "corrupted_accuracy_low",
    "corrupted_accuracy_high",
)  # fmt: skip
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
    with refusing_faults("reports/timings/evaluate.json", "evaluate"):
        served = timings.get("evaluate", {})
        clock = served.get("per_model", {}).get(name, {})
        latency = {key: None if clock.get(key) is None else _check_number(key, clock[key]) for key in LATENCY}
        measured = {**latency, "answers_clock": _read_clock(served, clock)}
    for stage in stages:
        with refusing_faults(f"reports/timings/{stage}.json", stage):
            for key in TIMED:
                _collect(timings.get(stage), key)
    with refusing_faults(f"reports/metrics/{name}.json", "evaluate"):
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
    """Compares every two models; the verdict's pair comes first and keeps its direction."""
    pairs = estimate_pairs(predictions.accuracy, baseline, candidate, confidence, margin)
    return tuple(
        replace(
            pair,
            **_describe_power(predictions.accuracy[pair.baseline], predictions.accuracy[pair.candidate], confidence),
            mcnemar=_compare_trainings(predictions, pair.baseline, pair.candidate),
        )
        for pair in pairs
    )


def estimate_pairs(
    scores: Mapping[str, Scores], baseline: str, candidate: str, confidence: float, margin: float
) -> tuple[Pair, ...]:
    """Estimates the difference of every two models; the verdict's pair comes first and keeps its direction.

    Args:
        scores: Of the accuracy, by model.
        baseline: The model that the verdict compares with.
        candidate: The model that the verdict is about.
        confidence: Of the intervals.
        margin: Accuracy, as a fraction, that doesn't matter.
    """
    others = [pair for pair in itertools.combinations(scores, 2) if set(pair) != {baseline, candidate}]
    chosen = [(baseline, candidate), *others]
    counts = [min(len(scores[name].by_seed) for name in pair) for pair in chosen]
    estimates = estimate_differences([(scores[first], scores[second]) for first, second in chosen])
    p_values, equivalences = estimates.compute_p_values(), estimates.compute_equivalence_p_values(margin)
    # any model that is too bad for its cost must fail against the best one, whichever that is: one-sided tests, whose
    # errors add up to 1 - confidence over the other models
    of_all = 1 - (1 - confidence) * min(1.0, 2 / (len(scores) - 1))
    columns: dict[str, Any] = {
        "value": estimates.value,
        **_name_ends("", estimates.compute_intervals(confidence)),
        **_name_ends("files_", estimates.on_these_files().compute_intervals(confidence)),
        **_name_ends("all_", estimates.compute_intervals(of_all)),
        "p_value": p_values,
        "p_adjusted": adjust_declared(p_values),
        "equivalence_p": equivalences,
        "equivalence_p_adjusted": adjust_declared(equivalences),
    }
    return tuple(
        Pair(
            first,
            second,
            num_seeds=counts[row],
            image_share=float(estimates.image_share[row]) if counts[row] > 1 else None,
            **{name: column[row].item() for name, column in columns.items()},
        )
        for row, (first, second) in enumerate(chosen)
    )


def build_differences(
    predictions: Predictions, baseline: str, candidate: str, class_names: Sequence[str], confidence: float
) -> tuple[ClassDifference, ...]:
    """Compares the F1 scores of every class, the largest difference first.

    The intervals hold for all classes together (Bonferroni): with ten intervals of 95% each, two studies in five would
    find something.
    """
    num_classes = len(class_names)
    models = [
        tuple(score_f1(predictions.y_true, predictions.predicted[name], label) for name in (baseline, candidate))
        for label in range(num_classes)
    ]
    estimates = estimate_differences([(first, second) for first, second in models])
    lows, highs = estimates.compute_intervals(1 - (1 - confidence) / num_classes)
    support = np.bincount(predictions.y_true, minlength=num_classes)
    rows = [
        ClassDifference(name, int(support[label]), first.value, second.value, float(estimates.value[label]),
                        float(lows[label]), float(highs[label]))
        for label, (name, (first, second)) in enumerate(zip(class_names, models, strict=True))
    ]  # fmt: skip
    return tuple(sorted(rows, key=lambda row: -abs(row.value)))


def build_claims(predictions: Predictions, confidence: float) -> dict[str, Claim]:
    """Compares the verdict's pair by the scores of the exploratory questions."""
    claims = {}
    for name, (first, second) in predictions.claims.items():
        estimates = estimate_differences([(first, second)], low=-math.inf, high=math.inf)
        low, high = estimates.compute_interval(confidence)
        claims[name] = Claim(first.value, second.value, float(estimates.value[0]), low, high)
    return claims


def bound_chosen(accuracy: Mapping[str, Scores], name: str, confidence: float) -> dict[str, Any]:
    """Returns the interval of a model's accuracy that still holds if the model was chosen as the best of all.

    References:
        Y. Benjamini and D. Yekutieli (2005), False discovery rate-adjusted multiple confidence intervals for selected
        parameters, JASA 100(469), 71-81: one of K chosen, so 1 - (1 - confidence) / K.
    """
    low, high = estimate_mean(accuracy[name], confidence).compute_interval(1 - (1 - confidence) / len(accuracy))
    return {"chosen_low": low, "chosen_high": high}


def choose_served(predictions: Predictions, models: Sequence[Model], confidence: float) -> tuple[str, tuple[str, ...]]:
    """Chooses the model that stands for the study, on the validation images alone: test images choose nothing.

    Returns:
        The model with the highest mean accuracy on the validation images, of equal ones that with the lower
        cross-entropy; and the models that those images can't tell from it.
    """
    losses = {model.name: model.val_cross_entropy for model in models}
    scores = predictions.val_accuracy
    served = max(scores, key=lambda name: (scores[name].value, -losses[name]))
    others = [name for name in scores if name != served]
    p_values = estimate_differences([(scores[served], scores[name]) for name in others]).compute_p_values()
    ties = tuple(name for name, p in zip(others, adjust_holm(p_values), strict=True) if p >= 1 - confidence)
    return served, ties


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
        **{key: metrics[f"test_{key}"] for key in RENAMED},
        **tables,
        **_summarize_seeds(seeds),
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


def _summarize_seeds(seeds: Sequence[Seed]) -> dict[str, Any]:
    """Takes means over the seeds, and the standard deviation of their test accuracies where there are several."""
    return {
        "seed_spread": stdev(seed.test_accuracy for seed in seeds) if len(seeds) > 1 else None,
        "train_accuracy": fmean(seed.train_accuracy for seed in seeds),
        "train_cross_entropy": fmean(seed.train_cross_entropy for seed in seeds),
        "val_accuracy": fmean(seed.val_accuracy for seed in seeds),
        "val_cross_entropy": fmean(seed.val_cross_entropy for seed in seeds),
        "accuracy_gap": fmean(seed.train_accuracy - seed.val_accuracy for seed in seeds),
    }


def _name_ends(prefix: str, ends: tuple[Any, Any]) -> dict[str, Any]:
    return {f"{prefix}low": ends[0], f"{prefix}high": ends[1]}


def _describe_power(baseline: Scores, candidate: Scores, confidence: float) -> dict[str, Any]:
    models = (baseline, candidate)
    detectable, detectable_high = compute_detectable(estimate_differences([models]), models, confidence)
    return {"detectable": detectable, "detectable_high": detectable_high}


def _compare_trainings(predictions: Predictions, baseline: str, candidate: str) -> tuple[McNemar, ...]:
    """Tests the first seed of each, the second of each, and so on; the models may differ in their number of seeds."""
    correct = [predictions.predicted[name] == predictions.y_true for name in (baseline, candidate)]
    seeds = [predictions.seeds[name] for name in (baseline, candidate)]
    return tuple(
        McNemar(first, second, *compare_trainings(one, other))
        for first, second, one, other in zip(*seeds, *correct, strict=False)
    )


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
