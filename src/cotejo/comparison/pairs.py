"""How the scores of two models become the records of a comparison: differences, claims, the model that is served."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from cotejo.comparison.mcnemar import compare_trainings
from cotejo.comparison.predictions import Predictions
from cotejo.comparison.records import Claim, ClassDifference, McNemar, Model, Pair
from cotejo.estimation.estimates import (
    Estimates,
    Scores,
    adjust_declared,
    adjust_holm,
    estimate_differences,
    estimate_mean,
)
from cotejo.estimation.power import compute_detectable
from cotejo.evaluation.scores import score_f1


def build_pairs(
    predictions: Predictions, baseline: str, candidate: str, confidence: float, margin: float
) -> tuple[Pair, ...]:
    """Compares every two models; the verdict's pair comes first and keeps its direction."""
    chosen, estimates = _estimate_all(predictions.accuracy, baseline, candidate)
    pairs = _describe_pairs(predictions.accuracy, chosen, estimates, confidence, margin)
    return tuple(
        replace(
            pair,
            **_describe_power(estimates.take(row), [predictions.accuracy[name] for name in chosen[row]], confidence),
            mcnemar=_compare_trainings(predictions, *chosen[row]),
        )
        for row, pair in enumerate(pairs)
    )


def estimate_pairs(
    scores: Mapping[str, Scores], baseline: str, candidate: str, confidence: float, margin: float
) -> tuple[Pair, ...]:
    """Estimates the difference of every two models; the verdict's pair comes first and keeps its direction.

    Args:
        scores: Scores of the accuracy, by model.
        baseline: The model that the verdict compares with.
        candidate: The model that the verdict is about.
        confidence: Confidence of the intervals.
        margin: Accuracy, as a fraction, that doesn't matter.
    """
    chosen, estimates = _estimate_all(scores, baseline, candidate)
    return _describe_pairs(scores, chosen, estimates, confidence, margin)


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
        ClassDifference(
            name,
            int(support[label]),
            first.value,
            second.value,
            float(estimates.value[label]),
            float(lows[label]),
            float(highs[label]),
        )
        for label, (name, (first, second)) in enumerate(zip(class_names, models, strict=True))
    ]
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
        cross-entropy; and the models that those images don't separate from it.
    """
    losses = {model.name: model.val_cross_entropy for model in models}
    scores = predictions.val_accuracy
    served = max(scores, key=lambda name: (scores[name].value, -losses[name]))
    others = [name for name in scores if name != served]
    p_values = estimate_differences([(scores[served], scores[name]) for name in others]).compute_p_values()
    ties = tuple(name for name, p in zip(others, adjust_holm(p_values), strict=True) if p >= 1 - confidence)
    return served, ties


def _estimate_all(
    scores: Mapping[str, Scores], baseline: str, candidate: str
) -> tuple[list[tuple[str, str]], Estimates]:
    """Returns every two models, the verdict's first, and the estimates of their differences."""
    others = [pair for pair in itertools.combinations(scores, 2) if set(pair) != {baseline, candidate}]
    chosen = [(baseline, candidate), *others]
    return chosen, estimate_differences([(scores[first], scores[second]) for first, second in chosen])


def _describe_pairs(
    scores: Mapping[str, Scores],
    chosen: Sequence[tuple[str, str]],
    estimates: Estimates,
    confidence: float,
    margin: float,
) -> tuple[Pair, ...]:
    counts = [min(len(scores[name].by_seed) for name in pair) for pair in chosen]
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


def _name_ends(prefix: str, ends: tuple[Any, Any]) -> dict[str, Any]:
    return {f"{prefix}low": ends[0], f"{prefix}high": ends[1]}


def _describe_power(estimate: Estimates, models: Sequence[Scores], confidence: float) -> dict[str, Any]:
    detectable, detectable_high = compute_detectable(estimate, models, confidence)
    return {"detectable": detectable, "detectable_high": detectable_high}


def _compare_trainings(predictions: Predictions, baseline: str, candidate: str) -> tuple[McNemar, ...]:
    """Tests the first seed of each, the second of each, and so on; the models may differ in their number of seeds."""
    correct = [predictions.predicted[name] == predictions.y_true for name in (baseline, candidate)]
    seeds = [predictions.seeds[name] for name in (baseline, candidate)]
    return tuple(
        McNemar(first, second, *compare_trainings(one, other))
        for first, second, one, other in zip(*seeds, *correct, strict=False)
    )
