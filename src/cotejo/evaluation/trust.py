"""Trust in a model's confidence: calibration before and after temperature scaling, risk by coverage."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cotejo.evaluation.calibration import (
    compute_bins,
    compute_calibration_error,
    fit_temperature,
    scale_probabilities,
)
from cotejo.evaluation.metrics import compute_losses, normalize_rows
from cotejo.evaluation.selective import ANSWERED, compute_aurc, compute_risks, select_risks
from cotejo.schema.results import RiskPoint


class Trust(NamedTuple):
    """One seed's confidences on the test images.

    Attributes:
        scores: `temperature`, fitted on validation images; `test_ece` before and `test_ece_scaled`, `test_nll_scaled`
            after the logits are divided by it; `test_aurc`, the area under the risk-coverage curve;
            `test_confidence_gap`, mean confidence minus accuracy; `test_selective_risk`, the share of errors among the
            surest `ANSWERED` of the images.
        is_right: Whether each answer is right, shape (num_samples,); scaling never changes an answer.
        confidence: Confidence of each answer, shape (num_samples,).
        confidence_scaled: After scaling.
        risks: At coverages 0.05, 0.10 ... 1.00, before scaling.
    """

    scores: dict[str, float]
    is_right: NDArray[np.bool_]
    confidence: NDArray[np.float64]
    confidence_scaled: NDArray[np.float64]
    risks: list[RiskPoint]


def compute_trust(
    y_true: NDArray[np.int64],
    y_prob: NDArray[np.float32],
    val_true: NDArray[np.int64],
    val_prob: NDArray[np.float32],
    num_bins: int,
) -> Trust:
    """Compares the confidences of one seed with its errors.

    Args:
        y_true: Labels of the test images, shape (num_samples,).
        y_prob: Their probabilities, shape (num_samples, num_classes).
        val_true: Labels of the validation images, from which alone the temperature comes.
        val_prob: Their probabilities.
        num_bins: Bins of the calibration error.
    """
    temperature = fit_temperature(val_true, val_prob)
    scaled = scale_probabilities(y_prob, temperature)
    is_right = y_prob.argmax(axis=1) == y_true
    # float32 rows may sum to a hair more than 1, and no confidence is above that
    confidence, confidence_scaled = normalize_rows(y_prob).max(axis=1), scaled.max(axis=1)
    risks = compute_risks(confidence, is_right)
    selected = select_risks(risks)
    scores = {
        "test_ece": compute_calibration_error(compute_bins(confidence, is_right, num_bins)),
        "test_ece_scaled": compute_calibration_error(compute_bins(confidence_scaled, is_right, num_bins)),
        "test_nll_scaled": float(compute_losses(y_true, scaled).mean()),
        "temperature": temperature,
        "test_aurc": compute_aurc(risks),
        "test_confidence_gap": float(confidence.mean() - is_right.mean()),
        "test_selective_risk": next(point.risk for point in selected if math.isclose(point.coverage, ANSWERED)),
    }
    return Trust(scores, is_right, confidence, confidence_scaled, selected)


def tabulate_trust(seeds: Sequence[Trust], num_bins: int) -> dict[str, list[dict[str, Any]]]:
    """Returns the tables of a model's metrics: `reliability`, `reliability_scaled` and `risk_coverage`.

    Args:
        seeds: One per training. The bins are of all seeds' answers together, the risks are means over the seeds.
        num_bins: Bins of confidence; empty ones are left out.
    """
    is_right = np.concatenate([seed.is_right for seed in seeds])
    before = compute_bins(np.concatenate([seed.confidence for seed in seeds]), is_right, num_bins)
    after = compute_bins(np.concatenate([seed.confidence_scaled for seed in seeds]), is_right, num_bins)
    return {
        "reliability": [asdict(each) for each in before],
        "reliability_scaled": [asdict(each) for each in after],
        "risk_coverage": [
            {"coverage": points[0].coverage, "risk": float(np.mean([point.risk for point in points]))}
            for points in zip(*(seed.risks for seed in seeds), strict=True)
        ],
    }
