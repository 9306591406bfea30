"""What a comparison says to the questions of the study about its two models: findings, no words."""

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from cotejo.comparison.records import Answer, Comparison, Finding, Model, Pair
from cotejo.comparison.statistics import compute_ratio, compute_t_p_value, compute_welch_p_value

#: Times per epoch that differ by less than this ratio are called the same: clocks on a shared machine do.
SAME_RATIO = 1.1
#: Share of the images, the most confident ones, whose error rate the answer on trust names.
ANSWERED = 0.8


def find_answers(comparison: Comparison) -> tuple[Answer, ...]:
    """Answers the questions of the study about its two models."""
    baseline, candidate = comparison.get_model(comparison.baseline), comparison.get_model(comparison.candidate)
    level = 1 - comparison.confidence
    return (
        Answer("slower", _explain_time(baseline, candidate)),
        Answer("trained", _judge_training(baseline, candidate, level)),
        Answer("tested", (comparison.verdict, _list_evidence(comparison.pairs[0], level),
                          _count_right(baseline, candidate))),
        Answer("resources", tuple(_list_resources(model) for model in (baseline, candidate))),
        Answer("costs", tuple(_list_costs(model) for model in (baseline, candidate))),
        Answer("trust", (_judge_calibration(baseline, candidate, level),
                         *(_describe_trust(model, level) for model in (baseline, candidate)))),
        Answer("robustness", (_judge_robustness(baseline, candidate, level),
                              *(_describe_robustness(model) for model in (baseline, candidate)))),
        Answer("classes", (_list_classes(comparison),)),
        Answer("confused", tuple(_list_confused(model) for model in (baseline, candidate))),
    )  # fmt: skip


def _explain_time(baseline: Model, candidate: Model) -> tuple[Finding, ...]:
    """Says which model's epochs take longer, and whether its parameters are enough to explain it."""
    if baseline.epoch_time_s is None or candidate.epoch_time_s is None:
        return (Finding("answer.no_time", {}),)
    slow, fast = sorted((baseline, candidate), key=lambda model: -(model.epoch_time_s or 0.0))
    ratio = compute_ratio(slow.epoch_time_s, fast.epoch_time_s) or 1.0
    values = {"slow": slow.name, "fast": fast.name, "ratio": ratio,
              "slow_time_s": slow.epoch_time_s, "fast_time_s": fast.epoch_time_s}  # fmt: skip
    findings = [Finding("answer.same_time" if ratio < SAME_RATIO else "answer.slower", values)]
    pace = compute_ratio(fast.images_per_s, slow.images_per_s)
    if ratio >= SAME_RATIO and pace is not None:
        parameters = slow.parameters / fast.parameters
        why = {"slow": slow.name, "fast": fast.name, "parameters_ratio": parameters,
               "slow_images_per_s": slow.images_per_s, "fast_images_per_s": fast.images_per_s}  # fmt: skip
        findings.append(Finding(f"answer.why_{_compare_sizes(parameters)}", why))
    return tuple(findings)


def _compare_sizes(ratio: float) -> str:
    # as the report says it, with one decimal from 1 and two below
    if round(ratio, 1 if ratio >= 1 else 2) == 1:
        return "as_many"
    return "more" if ratio > 1 else "fewer"


def _judge_training(baseline: Model, candidate: Model, level: float) -> tuple[Finding, ...]:
    """Compares cross-entropies on validation images over seeds, and how far training is from validation accuracy.

    That gap is no measure of overfitting: Keras's training accuracy is a running mean over the epoch, taken with
    dropout while the weights still move.
    """
    low, high = sorted((baseline, candidate), key=lambda model: model.val_cross_entropy)
    values: dict[str, Any] = {"low": low.name, "high": high.name, "low_cross_entropy": low.val_cross_entropy,
                              "high_cross_entropy": high.val_cross_entropy}  # fmt: skip
    if min(len(low.seeds), len(high.seeds)) == 1:
        key = "answer.trained_one_seed"
    else:
        p_value = compute_welch_p_value(*([seed.val_cross_entropy for seed in model.seeds] for model in (low, high)))
        key = "answer.trained_better" if p_value < level else "answer.trained_unclear"
        values["p_value"] = p_value
    gaps = {"baseline": baseline.name, "candidate": candidate.name,
            "baseline_gap": baseline.accuracy_gap, "candidate_gap": candidate.accuracy_gap}  # fmt: skip
    return Finding(key, values), Finding("answer.gaps", gaps), *map(_describe_overfitting, (baseline, candidate))


def _describe_overfitting(model: Model) -> Finding:
    """Says whether training went on after the validation images had nothing more to gain, means over the seeds."""
    waited = [seed.epochs - seed.min_val_epoch for seed in model.seeds]
    values = {"model": model.name, "num_seeds": len(model.seeds),
              "epochs": fmean(seed.epochs for seed in model.seeds),
              "min_val_epoch": fmean(seed.min_val_epoch for seed in model.seeds),
              "waited": fmean(waited),
              "kept_gap": model.val_cross_entropy - model.train_cross_entropy,
              "final_gap": fmean(seed.final_gap for seed in model.seeds)}  # fmt: skip
    return Finding("answer.overfits" if any(waited) else "answer.improves", values)


def _list_evidence(pair: Pair, level: float) -> Finding:
    """Looks at the verdict's difference in the other ways that a reader may ask for."""
    confirmed = sum(row.p_value < level for row in pair.mcnemar)
    values = {"bootstrap_low": pair.bootstrap_low, "bootstrap_high": pair.bootstrap_high,
              "baseline": pair.baseline, "candidate": pair.candidate, "confidence": 1 - level,
              "num_trainings": len(pair.mcnemar), "num_confirmed": confirmed, "level": level,
              "seeds_p_value": pair.seeds_p_value, "image_share": pair.image_share,
              "effect_size": pair.effect_size}  # fmt: skip
    return Finding("answer.evidence", values)


def _list_costs(model: Model) -> Finding:
    values = {"model": model.name, "operations": model.operations, "latency_p50_s": model.latency_p50_s,
              "latency_p95_s": model.latency_p95_s,
              "throughput_images_per_s": model.throughput_images_per_s}  # fmt: skip
    return Finding("answer.costs" if None not in values.values() else "answer.costs_untimed", values)


def _judge_calibration(baseline: Model, candidate: Model, level: float) -> Finding:
    """Compares over seeds how far the models' confidences are from their accuracies."""
    low, high = sorted((baseline, candidate), key=lambda model: model.ece)
    values: dict[str, Any] = {"low": low.name, "high": high.name, "low_ece": low.ece, "high_ece": high.ece,
                              "low_ece_scaled": low.ece_scaled, "high_ece_scaled": high.ece_scaled}  # fmt: skip
    if min(len(low.seeds), len(high.seeds)) == 1:
        return Finding("answer.calibrated_one_seed", values)
    p_value = compute_welch_p_value(*([seed.test_ece for seed in model.seeds] for model in (low, high)))
    key = "answer.calibrated_better" if p_value < level else "answer.calibrated_unclear"
    return Finding(key, {**values, "p_value": p_value})


def _describe_trust(model: Model, level: float) -> Finding:
    """Says whether a model is too sure, and what it gains if it may leave out what it is least sure of.

    A temperature of 1 changes nothing, so it is the seeds' logarithms that are held against 0.
    """
    logs = [math.log(seed.temperature) for seed in model.seeds]
    p_value = compute_t_p_value(logs) if len(logs) > 1 else None
    direction = "answer.overconfident" if model.temperature > 1 else "answer.underconfident"
    answered = min(model.risk_coverage, key=lambda point: abs(point.coverage - ANSWERED))
    values = {"model": model.name, "temperature": model.temperature, "ece": model.ece, "ece_scaled": model.ece_scaled,
              "aurc": model.aurc, "coverage": answered.coverage, "risk": answered.risk,
              "risk_of_all": 1 - model.test_accuracy, "p_value": p_value}  # fmt: skip
    is_clear = p_value is not None and p_value < level
    return Finding(direction if is_clear else "answer.about_confident", values)


def _judge_robustness(baseline: Model, candidate: Model, level: float) -> Finding:
    """Compares over seeds how often the models are right on corrupted images."""
    high, low = sorted((baseline, candidate), key=lambda model: -model.corrupted_accuracy)
    values: dict[str, Any] = {"high": high.name, "low": low.name, "high_accuracy": high.corrupted_accuracy,
                              "low_accuracy": low.corrupted_accuracy}  # fmt: skip
    if min(len(low.seeds), len(high.seeds)) == 1:
        return Finding("answer.robust_one_seed", values)
    p_value = compute_welch_p_value(*([seed.test_corrupted_accuracy for seed in side.seeds] for side in (low, high)))
    return Finding("answer.more_robust" if p_value < level else "answer.robust_unclear", {**values, "p_value": p_value})


def _describe_robustness(model: Model) -> Finding:
    """Says what corruptions take from a model's accuracy, and which one takes most (mean over its severities)."""
    by_corruption: dict[str, list[float]] = {}
    for row in model.robustness:
        if row.severity:
            by_corruption.setdefault(row.corruption, []).append(row.accuracy)
    worst = min(by_corruption, key=lambda name: fmean(by_corruption[name]))
    hardest = max((row for row in model.robustness if row.corruption == worst), key=lambda row: row.severity)
    clean = next(row for row in model.robustness if not row.severity)
    return Finding("answer.robustness", {
        "model": model.name, "clean": clean.accuracy, "corrupted": model.corrupted_accuracy, "worst": worst,
        "worst_accuracy": fmean(by_corruption[worst]), "severity": hardest.severity,
        "hardest_accuracy": hardest.accuracy, "hardest_low": hardest.low, "hardest_high": hardest.high,
        "confidence": model.confidence})  # fmt: skip


def _count_right(baseline: Model, candidate: Model) -> Finding:
    return Finding("answer.right", {"baseline": baseline.name, "candidate": candidate.name,
                                    "baseline_right": baseline.sample_right, "candidate_right": candidate.sample_right,
                                    "sample_size": candidate.sample_size})  # fmt: skip


def _list_resources(model: Model) -> Finding:
    values = {"model": model.name, "train_time_s": model.train_time_s, "peak_memory_bytes": model.peak_memory_bytes,
              "size_bytes": model.size_bytes, "parameters": model.parameters}  # fmt: skip
    is_timed = model.train_time_s is not None
    return Finding("answer.resources" if is_timed else "answer.resources_untimed", values)


def _list_classes(comparison: Comparison) -> Finding:
    clear = [{"class_name": row.class_name, "value": row.value} for row in comparison.differences if row.is_clear]
    values: dict[str, Any] = {"baseline": comparison.baseline, "candidate": comparison.candidate,
                              "num_classes": len(comparison.differences),
                              "is_one_training": comparison.pairs[0].method == "mcnemar",
                              "better": _keep_sign(clear, 1), "worse": _keep_sign(clear, -1)}  # fmt: skip
    return Finding("answer.classes" if clear else "answer.no_classes", values)


def _keep_sign(rows: Sequence[dict[str, Any]], sign: int) -> list[dict[str, Any]]:
    return [row for row in rows if row["value"] * sign > 0]


def _list_confused(model: Model) -> Finding:
    pairs = [{"true_class": pair.true_class, "predicted_class": pair.predicted_class, "share": pair.share}
             for pair in model.confused]  # fmt: skip
    return Finding("answer.confused" if pairs else "answer.nothing_confused", {"model": model.name, "pairs": pairs})
