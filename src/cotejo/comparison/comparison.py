"""How the numbers of evaluate and of the clocks become the record of a model."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from statistics import fmean, median, stdev
from typing import Any, TypeVar

from cotejo.comparison.inputs import refusing_faults
from cotejo.comparison.records import (
    COSTS,
    Clock,
    Confused,
    Corrupted,
    Model,
    Seed,
)
from cotejo.evaluation.calibration import Bin
from cotejo.evaluation.selective import RiskPoint

#: Confused pairs that the report names for each model.
NUM_CONFUSED = 3
#: What a model's record takes from its metrics as it is.
DIRECT = (
    "test_accuracy",
    "test_accuracy_low",
    "test_accuracy_high",
    "test_accuracy_files_low",
    "test_accuracy_files_high",
    "confidence",
    "test_loss",
    "test_loss_low",
    "test_loss_high",
    "test_macro_precision",
    "test_macro_recall",
    "test_macro_f1",
    "test_macro_f1_low",
    "test_macro_f1_high",
    "test_weighted_f1",
    "sample_right",
    "sample_size",
    "parameters",
    "trainable_parameters",
    "size_bytes",
    "operations",
    "temperature",
    "temperature_low",
    "temperature_high",
    "val_accuracy_low",
    "val_accuracy_high",
    "dvc_digest",
)
#: Scores whose record leaves out the `test_` of the metrics.
RENAMED = (
    "ece",
    "ece_scaled",
    "nll_scaled",
    "aurc",
    "confidence_gap",
    "confidence_gap_low",
    "confidence_gap_high",
    "selective_risk",
    "selective_risk_low",
    "selective_risk_high",
    "corrupted_accuracy",
    "corrupted_accuracy_low",
    "corrupted_accuracy_high",
)
TABLES: dict[str, Any] = {
    "reliability": Bin,
    "reliability_scaled": Bin,
    "risk_coverage": RiskPoint,
    "robustness": Corrupted,
}
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
    return _check_numbers(
        Model(
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
        )
    )


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
        {
            row["seed"]: row["train_time_s"]
            for row in (stage or {}).get("per_seed", ())
            if row.get("train_time_s") is not None
        }
        for stage in stages
    ]
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
