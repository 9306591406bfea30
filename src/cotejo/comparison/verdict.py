"""The rules that turn a comparison's numbers into a verdict and two recommendations.

A conclusion is a `Finding`: a key and values, no words. The words live in `report/locales`, so that no language can
say something else than another.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from cotejo.comparison.answers import find_answers
from cotejo.comparison.comparison import (
    STAGES_OF_MODEL,
    build_differences,
    build_fronts,
    build_model,
    build_pairs,
)
from cotejo.comparison.predictions import Arrays, build_predictions
from cotejo.comparison.records import Comparison, Finding, Model, Pair
from cotejo.comparison.remarks import find_notes, find_warnings
from cotejo.comparison.statistics import compute_ratio
from cotejo.errors import DataError

#: The verdicts that name a better model.
DECIDED = ("verdict.better", "verdict.better_within")
#: Those that call two models equal, and those that leave it open.
AS_GOOD, UNCLEAR = ("verdict.equivalent", "verdict.same"), ("verdict.unclear", "verdict.unclear_test")
#: The costs whose ratio stands beside the verdict.
STATED_COSTS = ("train_time_s", "parameters", "latency_p50_s", "operations")


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
    # listed, since asking whether a file's arrays are there could read them
    answered = list(predictions)
    for name in (baseline, candidate, *names):
        if name not in metrics or name not in answered:
            raise DataError(
                f"Expected the metrics and predictions of {name}. Received: metrics of "
                f"{', '.join(metrics)}; predictions of {', '.join(answered)}. Run `dvc repro evaluate`."
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
        verdict=judge_pair(pairs[0], confidence, margin, cheaper=_find_cheaper(models, baseline, candidate)),
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
        recommendations=find_recommendations(comparison),
        notes=find_notes(comparison),
    )


def judge_pair(pair: Pair, confidence: float, margin: float, *, cheaper: str | None = None) -> Finding:
    """Says which of two models is better, that they are equal for practical purposes, or that it can't be told.

    | interval | p below 1 - confidence | within the margin | verdict |
    |---|---|---|---|
    | exactly 0 | | | same |
    | excludes 0 | yes | no | better |
    | excludes 0 | yes | yes | better_within: better, by less than what is declared to matter |
    | includes 0, or p is not small | | yes | equivalent |
    | excludes 0 | no | no | unclear_test |
    | includes 0 | | no | unclear |

    Interval and p value agree by construction, except with one seed each, where the interval and McNemar's test are
    computed in different ways. "Within the margin" takes both one-sided tests, each at half the level: that is the
    same as the whole interval lying within the margin, so that no reader sees it reach beyond.

    Args:
        pair: The two models.
        confidence: Of the pair's interval.
        margin: Accuracy, as a fraction, that doesn't matter.
        cheaper: The model that is named first where both are equivalent; None: the more accurate one.
    """
    flip = pair.value < 0
    winner, loser = (pair.baseline, pair.candidate) if flip else (pair.candidate, pair.baseline)
    low, high = (-pair.high, -pair.low) if flip else (pair.low, pair.high)
    values = {"winner": winner, "loser": loser, "value": abs(pair.value), "low": low, "high": high,
              "p_value": pair.p_value, "confidence": confidence, "margin": margin, "detectable": pair.detectable,
              "equivalence_p": pair.equivalence_p, "is_one_training": pair.seeds_p_value is None}  # fmt: skip
    is_within = pair.equivalence_p < (1 - confidence) / 2
    includes_0, is_confirmed = low <= 0 <= high, pair.p_value < 1 - confidence
    if low == high == 0:
        return Finding("verdict.same", values)
    if not includes_0 and is_confirmed:
        return Finding("verdict.better_within" if is_within else "verdict.better", values)
    if is_within:
        return Finding("verdict.equivalent", values | _turn(values, cheaper or winner))
    return Finding("verdict.unclear" if includes_0 else "verdict.unclear_test", values)


def judge_in_study(comparison: Comparison, pair: Pair) -> Finding:
    """Judges a pair as one of many: the one rule of texts, tables and figures.

    The verdict's pair, the first, counts by its own p values; every other one by those that Holm adjusted.
    """
    cheaper = _find_cheaper(comparison.models, pair.baseline, pair.candidate)
    if pair != comparison.pairs[0]:
        pair = pair.as_one_of_many()
    return judge_pair(pair, comparison.confidence, comparison.margin, cheaper=cheaper)


def decide_pair(comparison: Comparison, pair: Pair) -> str | None:
    """Returns the better model of a pair, or None where it can't be told or there is none (see `judge_in_study`)."""
    finding = judge_in_study(comparison, pair)
    return str(finding.values["winner"]) if finding.key in DECIDED else None


def find_cost(comparison: Comparison) -> tuple[Finding, ...]:
    """Says how many times as much the models of the verdict cost: a finding for each that costs more in something.

    Every ratio is that of the dearer model, so none is below 1 and none can be rounded to 0. That of the verdict's
    model comes first: the better one; the cheaper one where both are as good; the candidate where it can't be told.
    """
    one, other = _get_verdict_models(comparison)
    found = []
    for model, against in ((one, other), (other, one)):
        ratios = {cost: compute_ratio(getattr(model, cost), getattr(against, cost)) for cost in STATED_COSTS}
        # what both cost alike is said once
        known = [{"cost": cost, "ratio": ratio} for cost, ratio in ratios.items()
                 if ratio is not None and (ratio > 1 or (ratio == 1 and model is one))]  # fmt: skip
        if known:
            found.append(Finding("cost.ratios", {"model": model.name, "other": against.name, "ratios": known}))
    return tuple(found)


def find_recommendations(comparison: Comparison) -> tuple[Finding, ...]:
    """Recommends one model for accuracy, and for cost the cheapest of those that aren't worse by more than the margin.

    How much worse counts by the upper end of its interval (non-inferiority): few test images or seeds must not make
    a model eligible. A cheaper one that only this keeps back, tied with the best, is named in a third finding.
    """
    margin, is_timed = comparison.margin, comparison.is_timed
    best = max(comparison.models, key=lambda model: model.test_accuracy)
    others = [model.name for model in comparison.models if model is not best]
    judged = {name: judge_in_study(comparison, comparison.get_pair(best.name, name)).key for name in others}
    tied = [name for name in others if judged[name] in UNCLEAR]
    as_good = [name for name in others if judged[name] in AS_GOOD]
    accuracy = Finding("recommend.accuracy", {"model": best.name, "accuracy": best.test_accuracy, "tied": tied,
                                              "as_good": as_good, "margin": margin})  # fmt: skip
    losses = {model.name: _find_largest_loss(comparison, best, model) for model in comparison.models}
    eligible = [model for model in comparison.models if model is best or losses[model.name] <= margin]
    price = partial(_price, is_timed=is_timed)
    cheap = min(eligible, key=price)
    ratio = compute_ratio(best.train_time_s, cheap.train_time_s) if is_timed else None
    key = "recommend.fast" if is_timed else "recommend.small"
    values = {"model": cheap.name, "best": best.name, "ratio": ratio, "parameters": cheap.parameters,
              "given_up": best.test_accuracy - cheap.test_accuracy, "at_most": losses[cheap.name],
              "tied": cheap.name in tied, "margin": margin, "confidence": comparison.confidence,
              "is_cheapest": cheap is min(comparison.models, key=price)}  # fmt: skip
    found = [accuracy, Finding(f"{key}_too" if cheap is best else key, values)]
    kept_back = [model for model in comparison.models if model.name in tied and model not in eligible]
    if kept_back:
        next_one = min(kept_back, key=price)
        if price(next_one) < price(cheap):
            more = {"model": next_one.name, "best": best.name, "cheap": cheap.name, "is_timed": is_timed,
                    "ratio": price(cheap) / price(next_one), "at_most": losses[next_one.name],
                    "confidence": comparison.confidence}  # fmt: skip
            found.append(Finding("recommend.kept_back", more))
    return tuple(found)


def _turn(values: Mapping[str, Any], first: str) -> dict[str, Any]:
    """Returns the difference seen from one of the two models, with its sign."""
    is_winner = first == values["winner"]
    value, low, high = (values[key] if is_winner else -values[key] for key in ("value", "low", "high"))
    return {"model": first, "other": values["loser" if is_winner else "winner"], "difference": value,
            "difference_low": min(low, high), "difference_high": max(low, high)}  # fmt: skip


def _price(model: Model, *, is_timed: bool) -> float:
    """Returns what is called the cost where one number must do: training time, or parameters without a clock."""
    return model.train_time_s if is_timed and model.train_time_s is not None else model.parameters


def _find_cheaper(models: Sequence[Model], first: str, second: str) -> str:
    pair = [model for model in models if model.name in (first, second)]
    is_timed = all(model.train_time_s is not None for model in pair)
    return min(pair, key=lambda model: _price(model, is_timed=is_timed)).name


def _get_verdict_models(comparison: Comparison) -> tuple[Model, Model]:
    key, values = comparison.verdict.key, comparison.verdict.values
    if key in DECIDED:
        names = (values["winner"], values["loser"])
    elif key == "verdict.equivalent":
        names = (values["model"], values["other"])
    else:
        names = (comparison.candidate, comparison.baseline)
    return comparison.get_model(names[0]), comparison.get_model(names[1])


def _find_largest_loss(comparison: Comparison, best: Model, model: Model) -> float:
    """Returns the upper end of the interval of how much less accurate a model is than the best one."""
    if model is best:
        return 0.0
    pair = comparison.get_pair(best.name, model.name)
    return pair.high if pair.candidate == best.name else -pair.low
