"""The rules that turn a comparison's numbers into conclusions.

A conclusion is a `Finding`: a key and values, no words. The words live in `report/locales`, so that no language can
say something else than another.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from cotejo.comparison.comparison import (
    STAGES_OF_MODEL,
    build_differences,
    build_fronts,
    build_model,
    build_pairs,
)
from cotejo.comparison.predictions import Arrays, build_predictions
from cotejo.comparison.records import Answer, Comparison, Finding, Model, Pair
from cotejo.comparison.statistics import compute_welch_p_value
from cotejo.errors import DataError

#: Times per epoch that differ by less than this ratio are called the same: clocks on a shared machine do.
SAME_RATIO = 1.1


def build_comparison(
    *,
    metrics: Mapping[str, Mapping[str, Any]],
    predictions: Arrays,
    timings: Mapping[str, Mapping[str, Any]],
    dataset: Mapping[str, Any],
    facts: Mapping[str, Any],
    baseline: str,
    candidate: str,
    confidence: float,
    margin: float,
    gallery_size: int,
    stages: Mapping[str, Sequence[str]] = STAGES_OF_MODEL,
) -> Comparison:
    """Compares all models and draws the conclusions.

    Args:
        metrics: `reports/metrics/<model>.json` by model.
        predictions: `reports/predictions/<model>.npz` by model; asked for one at a time.
        timings: `reports/timings/<stage>.json` by stage; one that is missing leaves its numbers out.
        dataset: `data/processed/dataset.json`.
        facts: `git_commit`, `dirty`, `params` (by dotted name), `weights`, `backbone`.
        baseline: The model that the verdict compares with.
        candidate: The model that the verdict is about.
        confidence: Of every difference's interval; 1 - confidence is the level of every test.
        margin: Accuracy, as a fraction, that a reader would give up for a cheaper model.
        gallery_size: Most errors to show of each model, and most disagreements each way of the verdict's pair.
        stages: By model in the order of the report, the stages whose timings are its own.

    Raises:
        DataError: The numbers of a model are missing, or two models were tested on different images.
    """
    names = [name for name in stages if name in metrics]
    for name in (baseline, candidate, *names):
        if name not in metrics or name not in predictions:
            raise DataError(
                f"Expected the metrics and predictions of {name}. Received: metrics of "
                f"{', '.join(metrics)}; predictions of {', '.join(predictions)}. Run `dvc repro evaluate`."
            )
    class_names = dataset["class_names"]
    found = build_predictions(predictions, names, baseline, candidate, class_names, gallery_size)
    models = tuple(build_model(name, metrics[name], timings, stages[name]) for name in names)
    pairs = build_pairs(found, baseline, candidate, confidence, margin)
    comparison = Comparison(
        baseline=baseline,
        candidate=candidate,
        confidence=confidence,
        margin=margin,
        verdict=judge_pair(pairs[0], confidence),
        cost=(),
        warnings=(),
        answers=(),
        recommendations=(),
        notes=(),
        models=models,
        pairs=pairs,
        differences=build_differences(found, baseline, candidate, class_names, confidence),
        fronts=build_fronts(models),
        errors=found.errors,
        disagreements=found.disagreements,
        dataset=dataset,
        facts=facts,
    )
    return replace(
        comparison,
        cost=find_cost(comparison),
        warnings=find_warnings(comparison),
        answers=find_answers(comparison),
        recommendations=find_recommendations(comparison, margin),
        notes=find_notes(comparison),
    )


def judge_pair(pair: Pair, confidence: float) -> Finding:
    """Says which of two models is better, or that it can't be told.

    Better takes both: an interval without 0 and a p value below 1 - confidence. They agree by construction, except
    with one seed each, where the interval and McNemar's test are computed in different ways.
    """
    flip = pair.value < 0
    winner, loser = (pair.baseline, pair.candidate) if flip else (pair.candidate, pair.baseline)
    low, high = (-pair.high, -pair.low) if flip else (pair.low, pair.high)
    values = {"winner": winner, "loser": loser, "value": abs(pair.value), "low": low, "high": high,
              "p_value": pair.p_value, "confidence": confidence}  # fmt: skip
    if low == high == 0:
        return Finding("verdict.same", values)
    if low <= 0 <= high:
        return Finding("verdict.unclear", values)
    if pair.p_value >= 1 - confidence:
        return Finding("verdict.unclear_test", values)
    return Finding("verdict.better", values)


def decide_pair(comparison: Comparison, pair: Pair) -> str | None:
    """Returns the better model of a pair, or None where it can't be told: the one rule of texts, tables and figures.

    The verdict's pair, the first, counts by its own p value; every other one by the p value that Holm adjusted.
    """
    is_verdict = pair == comparison.pairs[0]
    finding = judge_pair(pair if is_verdict else replace(pair, p_value=pair.p_adjusted), comparison.confidence)
    return str(finding.values["winner"]) if finding.key == "verdict.better" else None


def find_cost(comparison: Comparison) -> tuple[Finding, ...]:
    """Says what the verdict's better (or, where it can't tell, the candidate) costs more or less than the other."""
    one, other = _get_verdict_models(comparison)
    values = {"model": one.name, "other": other.name, "parameters_ratio": one.parameters / other.parameters}
    time_ratio = _ratio(one.train_time_s, other.train_time_s)
    if time_ratio is None:
        return (Finding("cost.parameters", values),)
    return (Finding("cost.time_and_parameters", {**values, "time_ratio": time_ratio}),)


def find_warnings(comparison: Comparison) -> tuple[Finding, ...]:
    """Lists what a reader must know before believing the numbers."""
    models, facts = comparison.models, comparison.facts
    pretrained = [model.name for model in models if model.name in ("transfer", "finetune")]
    single = [model.name for model in models if len(model.seeds) == 1]
    timed = [model for model in models if model.train_time_s is not None]
    settings = {(model.device, model.threads) for model in timed}
    machines = {model.machine for model in timed if model.machine is not None}
    untimed = [model.name for model in models if model.train_time_s is None]
    checks = (
        (bool(single), Finding("warning.single_seed", {"models": single})),
        (bool(pretrained) and facts["weights"] == "random",
         Finding("warning.random_weights", {"models": pretrained, "backbone": facts["backbone"]})),
        (len(settings) > 1 or len(machines) > 1, Finding("warning.machines", {})),
        (bool(untimed), Finding("warning.untimed", {"models": untimed})),
        (bool(facts.get("dirty")), Finding("warning.dirty", {})),
    )  # fmt: skip
    return tuple(finding for applies, finding in checks if applies)


def find_answers(comparison: Comparison) -> tuple[Answer, ...]:
    """Answers the questions of the study about its two models."""
    baseline, candidate = comparison.get_model(comparison.baseline), comparison.get_model(comparison.candidate)
    return (
        Answer("slower", _explain_time(baseline, candidate)),
        Answer("trained", _judge_training(baseline, candidate, 1 - comparison.confidence)),
        Answer("tested", (comparison.verdict, _count_right(baseline, candidate))),
        Answer("resources", tuple(_list_resources(model) for model in (baseline, candidate))),
        Answer("classes", (_list_classes(comparison),)),
        Answer("confused", tuple(_list_confused(model) for model in (baseline, candidate))),
    )


def find_recommendations(comparison: Comparison, margin: float) -> tuple[Finding, Finding]:
    """Recommends one model for accuracy, and for cost the cheapest of those that aren't worse by more than the margin.

    How much worse counts by the upper end of its interval (non-inferiority): few test images or seeds must not make
    a model eligible.
    """
    best = max(comparison.models, key=lambda model: model.test_accuracy)
    others = [model.name for model in comparison.models if model is not best]
    tied = [name for name in others if decide_pair(comparison, comparison.get_pair(best.name, name)) is None]
    accuracy = Finding("recommend.accuracy", {"model": best.name, "accuracy": best.test_accuracy, "tied": tied})
    losses = {model.name: _find_largest_loss(comparison, best, model) for model in comparison.models}
    eligible = [model for model in comparison.models if model is best or losses[model.name] <= margin]
    if not comparison.is_timed:
        cheap, ratio, key = min(eligible, key=lambda model: model.parameters), None, "recommend.small"
    else:
        cheap = min(eligible, key=lambda model: model.train_time_s or 0.0)
        ratio, key = _ratio(best.train_time_s, cheap.train_time_s), "recommend.fast"
    values = {"model": cheap.name, "best": best.name, "ratio": ratio, "parameters": cheap.parameters,
              "given_up": best.test_accuracy - cheap.test_accuracy, "at_most": losses[cheap.name],
              "tied": cheap.name in tied, "margin": margin, "confidence": comparison.confidence}  # fmt: skip
    return accuracy, Finding(f"{key}_too" if cheap is best else key, values)


def find_notes(comparison: Comparison) -> tuple[Finding, ...]:
    """Lists how the numbers came about."""
    names = [model.name for model in comparison.models]
    num_seeds = max(len(model.seeds) for model in comparison.models)
    method = comparison.pairs[0].method
    keeps_lowest = all(_keeps_lowest_loss(name, comparison.facts["params"]) for name in names)
    notes = [Finding("note.kept_lowest_loss" if keeps_lowest else "note.kept_epoch", {}),
             Finding(f"note.{method}", {"num_seeds": num_seeds, "confidence": comparison.confidence}),
             Finding("note.wilson", {"confidence": comparison.models[0].confidence}),
             Finding("note.holm", {"num_pairs": len(comparison.pairs), "level": 1 - comparison.confidence}),
             Finding("note.f1", {"confidence": comparison.confidence})]  # fmt: skip
    if "transfer" in names and not _is_augmented("transfer", comparison.facts["params"]):
        notes.append(Finding("note.features", {}))
    if "finetune" in names:
        notes.append(Finding("note.finetune_time", {}))
    return tuple(notes)


def _keeps_lowest_loss(name: str, params: Mapping[str, Any]) -> bool:
    """Returns whether the parameters say that a model's trainings keep the epoch with the lowest validation loss."""
    expected = {"monitor": "val_loss", "min_delta": 0, "restore_best": True}
    return all(params.get(f"{name}.early_stopping.{key}") == value for key, value in expected.items())


def _is_augmented(name: str, params: Mapping[str, Any]) -> bool:
    return any(value for key, value in params.items() if key.startswith(f"{name}.augmentation."))


def _get_verdict_models(comparison: Comparison) -> tuple[Model, Model]:
    if comparison.verdict.key == "verdict.better":
        values = comparison.verdict.values
        return comparison.get_model(values["winner"]), comparison.get_model(values["loser"])
    return comparison.get_model(comparison.candidate), comparison.get_model(comparison.baseline)


def _find_largest_loss(comparison: Comparison, best: Model, model: Model) -> float:
    """Returns the upper end of the interval of how much less accurate a model is than the best one."""
    if model is best:
        return 0.0
    pair = comparison.get_pair(best.name, model.name)
    return pair.high if pair.candidate == best.name else -pair.low


def _explain_time(baseline: Model, candidate: Model) -> tuple[Finding, ...]:
    """Says which model's epochs take longer, and whether its parameters are enough to explain it."""
    if baseline.epoch_time_s is None or candidate.epoch_time_s is None:
        return (Finding("answer.no_time", {}),)
    slow, fast = sorted((baseline, candidate), key=lambda model: -(model.epoch_time_s or 0.0))
    ratio = _ratio(slow.epoch_time_s, fast.epoch_time_s) or 1.0
    values = {"slow": slow.name, "fast": fast.name, "ratio": ratio,
              "slow_time_s": slow.epoch_time_s, "fast_time_s": fast.epoch_time_s}  # fmt: skip
    findings = [Finding("answer.same_time" if ratio < SAME_RATIO else "answer.slower", values)]
    pace = _ratio(fast.images_per_s, slow.images_per_s)
    if ratio >= SAME_RATIO and pace is not None:
        parameters = slow.parameters / fast.parameters
        why = {"slow": slow.name, "fast": fast.name, "parameters_ratio": parameters,
               "slow_images_per_s": slow.images_per_s, "fast_images_per_s": fast.images_per_s}  # fmt: skip
        findings.append(Finding("answer.why_more" if parameters > 1 else "answer.why_fewer", why))
    return tuple(findings)


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
    return Finding(key, values), Finding("answer.gaps", gaps)


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
                              "better": _keep_sign(clear, 1), "worse": _keep_sign(clear, -1)}  # fmt: skip
    return Finding("answer.classes" if clear else "answer.no_classes", values)


def _keep_sign(rows: Sequence[dict[str, Any]], sign: int) -> list[dict[str, Any]]:
    return [row for row in rows if row["value"] * sign > 0]


def _list_confused(model: Model) -> Finding:
    pairs = [{"true_class": pair.true_class, "predicted_class": pair.predicted_class, "share": pair.share}
             for pair in model.confused]  # fmt: skip
    return Finding("answer.confused" if pairs else "answer.nothing_confused", {"model": model.name, "pairs": pairs})


def _ratio(one: float | None, other: float | None) -> float | None:
    return one / other if one is not None and other else None
