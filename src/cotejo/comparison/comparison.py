"""How the numbers of evaluate and of the clocks become the record of a model."""

from collections.abc import Sequence
from dataclasses import fields
from statistics import fmean, median, stdev
from typing import Any

from cotejo.comparison.records import COSTS, Clock, Confused, Model, Seed
from cotejo.schema.results import Metrics, SeedMetrics, ServingTimes, StageTimes

#: Confused pairs that the report names for each model.
NUM_CONFUSED = 3
LATENCY = ("latency_p50_s", "latency_p95_s", "throughput_images_per_s")
#: What a clock and the process's memory say of each seed's training.
TIMED = ("train_time_s", "epoch_time_s", "images_per_s", "peak_memory_bytes")
#: What a clock's numbers were measured on.
PLACE = ("machine", "device", "threads")


def build_model(
    name: str, metrics: Metrics, stages: Sequence[StageTimes | None], serving: ServingTimes | None
) -> Model:
    """Brings the metrics and times of a model into one row.

    Args:
        name: The model.
        metrics: `reports/metrics/<name>.json`.
        stages: The times of the stages whose work the model needs, its own last; None leaves its times None.
        serving: `reports/timings/evaluate.json`; None likewise.
    """
    rows, confusion, own = metrics.per_seed, metrics.confusion, {field.name for field in fields(Model)}
    names = {name if name in own else name.removeprefix("test_"): name for name in Metrics.model_fields}
    taken: dict[str, Any] = {field: getattr(metrics, names[field]) for field in own & names.keys()}
    taken |= _summarize_seeds(rows) | _summarize_timings(stages) | _read_latency(name, serving)
    return Model(
        name=name,
        **taken,
        seeds=tuple(Seed(**{field.name: getattr(row, field.name) for field in fields(Seed)}) for row in rows),
        confused=_find_confused(confusion.class_names, confusion.counts),
        class_names=confusion.class_names,
        counts=confusion.counts,
    )


def compute_train_time(stages: Sequence[StageTimes | None]) -> float | None:
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


def _read_latency(name: str, serving: ServingTimes | None) -> dict[str, Any]:
    """Returns how long a model takes to answer, and what that was measured on as far as it is on record."""
    latency = serving.per_model.get(name) if serving else None
    measured: dict[str, Any] = {key: getattr(latency, key, None) for key in LATENCY} | {"answers_clock": None}
    if serving and latency and latency.batch_size is not None and latency.num_timed is not None:
        place = {key: getattr(serving, key) for key in PLACE}
        measured["answers_clock"] = Clock(**place, batch_size=latency.batch_size, num_timed=latency.num_timed)
    return measured


def _summarize_seeds(seeds: Sequence[SeedMetrics]) -> dict[str, Any]:
    """Returns means over the seeds, and the standard deviation of their test accuracies where there are several."""
    return {
        "seed_spread": stdev(seed.test_accuracy for seed in seeds) if len(seeds) > 1 else None,
        "train_accuracy": fmean(seed.train_accuracy for seed in seeds),
        "train_cross_entropy": fmean(seed.train_cross_entropy for seed in seeds),
        "val_accuracy": fmean(seed.val_accuracy for seed in seeds),
        "val_cross_entropy": fmean(seed.val_cross_entropy for seed in seeds),
        "accuracy_gap": fmean(seed.train_accuracy - seed.val_accuracy for seed in seeds),
    }


def _summarize_timings(stages: Sequence[StageTimes | None]) -> dict[str, Any]:
    """Returns medians over the seeds: the stages' training times add up, pace and device are the last stage's."""
    own = stages[-1]
    if own is None:
        return dict.fromkeys((*TIMED, *PLACE, "train_time_low_s", "train_time_high_s"))
    peaks = [_collect(stage, "peak_memory_bytes") for stage in stages]
    totals = _add_by_seed(stages)
    return {
        "train_time_low_s": min(totals, default=None),
        "train_time_high_s": max(totals, default=None),
        "train_time_s": compute_train_time(stages),
        "epoch_time_s": _take_median(_collect(own, "epoch_time_s")),
        "images_per_s": _take_median(_collect(own, "images_per_s")),
        "peak_memory_bytes": max((peak for peaks_of_stage in peaks for peak in peaks_of_stage), default=None),
        **{key: getattr(own, key) for key in PLACE},
    }


def _add_by_seed(stages: Sequence[StageTimes | None]) -> list[float]:
    """Adds up what the stages' trainings took, for each seed that has a time in every stage."""
    by_stage = [
        {row.seed: row.train_time_s for row in (stage.per_seed if stage else ()) if row.train_time_s is not None}
        for stage in stages
    ]
    return [sum(times[seed] for times in by_stage) for seed in set.intersection(*map(set, by_stage))]


def _collect(stage: StageTimes | None, key: str) -> list[float]:
    values = [getattr(row, key) for row in stage.per_seed] if stage else []
    return [value for value in values if value is not None]


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
