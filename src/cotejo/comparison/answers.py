"""Answers to the questions of the study about its two models: findings, no words."""

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from cotejo.comparison.records import Answer, Comparison, Finding, Model
from cotejo.evaluation.selective import ANSWERED

#: Times per epoch that differ by less than this ratio are called the same: clocks on a shared machine do.
SAME_RATIO = 1.1


def find_answers(comparison: Comparison) -> tuple[Answer, ...]:
    """Answers the questions of the study about its two models."""
    baseline, candidate = comparison.get_model(comparison.baseline), comparison.get_model(comparison.candidate)
    return (
        Answer("slower", _explain_time(baseline, candidate)),
        Answer(
            "trained",
            (
                _judge_claim(comparison, "val_cross_entropy", "trained", is_less_better=True),
                *(_describe_overfitting(model) for model in (baseline, candidate)),
            ),
        ),
        Answer("tested", (_count_correct(baseline, candidate),)),
        Answer(
            "trust",
            (
                _judge_claim(comparison, "confidence_gap", "calibrated", is_less_better=True),
                *(_describe_trust(model) for model in (baseline, candidate)),
            ),
        ),
        Answer(
            "robustness",
            (
                _judge_claim(comparison, "corrupted_accuracy", "robust", is_less_better=False),
                *(_describe_robustness(model) for model in (baseline, candidate)),
            ),
        ),
        Answer("classes", (_list_classes(comparison),)),
        Answer("confused", tuple(_list_confused(model) for model in (baseline, candidate))),
    )


def compute_ratio(one: float | None, other: float | None) -> float | None:
    """Returns how many times the other the one is; None where one isn't known or the other is 0."""
    return one / other if one is not None and other else None


def _judge_claim(comparison: Comparison, name: str, key: str, *, is_less_better: bool) -> Finding:
    """Judges which model is better by a score other than accuracy, with the interval of the difference."""
    claim = comparison.claims[name]
    better, other = sorted(
        ((claim.baseline, comparison.baseline), (claim.candidate, comparison.candidate)),
        key=lambda side: side[0] if is_less_better else -side[0],
    )
    sign = 1 if better[1] == comparison.candidate else -1
    low, high = sorted((sign * claim.low, sign * claim.high))
    values = {
        "better": better[1],
        "other": other[1],
        "better_value": better[0],
        "other_value": other[0],
        "low": low,
        "high": high,
        "confidence": comparison.confidence,
        "is_one_training": comparison.pairs[0].num_seeds == 1,
    }
    return Finding(f"answer.{key}_better" if claim.is_clear else f"answer.{key}_unclear", values)


def _explain_time(baseline: Model, candidate: Model) -> tuple[Finding, ...]:
    """Returns which model's epochs take longer, and whether its parameters explain it."""
    if baseline.epoch_time_s is None or candidate.epoch_time_s is None:
        return (Finding("answer.no_time", {}),)
    slow, fast = sorted((baseline, candidate), key=lambda model: -(model.epoch_time_s or 0.0))
    ratio = compute_ratio(slow.epoch_time_s, fast.epoch_time_s) or 1.0
    values = {
        "slow": slow.name,
        "fast": fast.name,
        "ratio": ratio,
        "slow_time_s": slow.epoch_time_s,
        "fast_time_s": fast.epoch_time_s,
    }
    findings = [Finding("answer.same_time" if ratio < SAME_RATIO else "answer.slower", values)]
    pace = compute_ratio(fast.images_per_s, slow.images_per_s)
    if ratio >= SAME_RATIO and pace is not None:
        parameters = slow.parameters / fast.parameters
        why = {
            "slow": slow.name,
            "fast": fast.name,
            "parameters_ratio": parameters,
            "slow_images_per_s": slow.images_per_s,
            "fast_images_per_s": fast.images_per_s,
        }
        findings.append(Finding(f"answer.why_{_compare_sizes(parameters)}", why))
    return tuple(findings)


def _compare_sizes(ratio: float) -> str:
    # as the report says it, with one decimal from 1 and two below
    if round(ratio, 1 if ratio >= 1 else 2) == 1:
        return "as_many"
    return "more" if ratio > 1 else "fewer"


def _describe_overfitting(model: Model) -> Finding:
    """Returns whether training continued after the validation scores were best, as means over the seeds."""
    values = {
        "model": model.name,
        "num_seeds": len(model.seeds),
        "epochs": fmean(seed.epochs for seed in model.seeds),
        "min_val_epoch": fmean(seed.min_val_epoch for seed in model.seeds),
    }
    is_over = any(seed.min_val_epoch < seed.epochs for seed in model.seeds)
    return Finding("answer.overfits" if is_over else "answer.improves", values)


def _describe_trust(model: Model) -> Finding:
    """Judges whether a model is too sure, with its errors if it leaves out what it is least sure of."""
    is_clear = model.confidence_gap_low > 0 or model.confidence_gap_high < 0
    direction = "answer.overconfident" if model.confidence_gap > 0 else "answer.underconfident"
    low, high = sorted((abs(model.confidence_gap_low), abs(model.confidence_gap_high)))
    values = {
        "model": model.name,
        "gap": model.confidence_gap,
        "gap_low": model.confidence_gap_low,
        "gap_high": model.confidence_gap_high,
        "size_low": low,
        "size_high": high,
        "coverage": ANSWERED,
        "risk": model.selective_risk,
        "risk_low": model.selective_risk_low,
        "risk_high": model.selective_risk_high,
        "risk_of_all": 1 - model.test_accuracy,
        "confidence": model.confidence,
    }
    return Finding(direction if is_clear else "answer.about_confident", values)


def _describe_robustness(model: Model) -> Finding:
    """Returns what corruptions cost in accuracy, and which one costs most (mean over its severities)."""
    by_corruption: dict[str, list[float]] = {}
    for row in model.robustness:
        if row.severity:
            by_corruption.setdefault(row.corruption, []).append(row.accuracy)
    worst = min(by_corruption, key=lambda name: fmean(by_corruption[name]))
    hardest = max((row for row in model.robustness if row.corruption == worst), key=lambda row: row.severity)
    clean = next(row for row in model.robustness if not row.severity)
    return Finding(
        "answer.robustness",
        {
            "model": model.name,
            "clean": clean.accuracy,
            "corrupted": model.corrupted_accuracy,
            "corrupted_low": model.corrupted_accuracy_low,
            "corrupted_high": model.corrupted_accuracy_high,
            "worst": worst,
            "worst_accuracy": fmean(by_corruption[worst]),
            "severity": hardest.severity,
            "hardest_accuracy": hardest.accuracy,
            "hardest_low": hardest.low,
            "hardest_high": hardest.high,
            "confidence": model.confidence,
        },
    )


def _count_correct(baseline: Model, candidate: Model) -> Finding:
    return Finding(
        "answer.sample",
        {
            "baseline": baseline.name,
            "candidate": candidate.name,
            "baseline_right": baseline.sample_right,
            "candidate_right": candidate.sample_right,
            "sample_size": candidate.sample_size,
        },
    )


def _list_classes(comparison: Comparison) -> Finding:
    clear = [{"class_name": row.class_name, "value": row.value} for row in comparison.differences if row.is_clear]
    values: dict[str, Any] = {
        "baseline": comparison.baseline,
        "candidate": comparison.candidate,
        "num_classes": len(comparison.differences),
        "is_one_training": comparison.pairs[0].num_seeds == 1,
        "confidence": comparison.confidence,
        "better": _keep_sign(clear, 1),
        "worse": _keep_sign(clear, -1),
    }
    return Finding("answer.classes" if clear else "answer.no_classes", values)


def _keep_sign(rows: Sequence[dict[str, Any]], sign: int) -> list[dict[str, Any]]:
    return [row for row in rows if row["value"] * sign > 0]


def _list_confused(model: Model) -> Finding:
    pairs = [
        {"true_class": pair.true_class, "predicted_class": pair.predicted_class, "share": pair.share}
        for pair in model.confused
    ]
    return Finding("answer.confused" if pairs else "answer.nothing_confused", {"model": model.name, "pairs": pairs})
