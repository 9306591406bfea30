"""The rules that turn a comparison's numbers into a verdict and recommendations.

A conclusion is a `Finding`: a key and values, no words. The words live in `report/locales`, so that no language can
say something else than another.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from cotejo.comparison.answers import SAME_RATIO, compute_ratio, find_answers
from cotejo.comparison.comparison import build_fronts, build_model
from cotejo.comparison.inputs import STAGES_OF_MODEL
from cotejo.comparison.notes import find_notes, find_warnings
from cotejo.comparison.pairs import bound_chosen, build_claims, build_differences, build_pairs, choose_served
from cotejo.comparison.predictions import Arrays, build_predictions
from cotejo.comparison.records import Comparison, Finding, Model, Pair
from cotejo.errors import DataError
from cotejo.schema.results import Metrics, ServingTimes, StageTimes

#: The verdicts that name a better model.
DECIDED = ("verdict.better", "verdict.better_within")
#: The verdicts that leave it open.
UNCLEAR = ("verdict.unclear", "verdict.unclear_many")
#: The costs whose ratio stands beside the verdict.
STATED_COSTS = ("train_time_s", "parameters", "latency_p50_s", "operations")


def build_comparison(
    *,
    metrics: Mapping[str, Metrics],
    predictions: Arrays,
    timings: Mapping[str, StageTimes],
    serving: ServingTimes | None,
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
        timings: `reports/timings/<stage>.json` by training stage; one that is missing leaves its numbers out.
        serving: `reports/timings/evaluate.json`; None leaves its numbers out.
        dataset: `data/processed/dataset.json`.
        facts: `git_commit`, `dirty`, `params` (by dotted name), `weights`, `backbone`.
        baseline: The model that the verdict compares with.
        candidate: The model that the verdict is about.
        confidence: Confidence of every difference's interval; 1 - confidence is the probability of any false "better".
        margin: Accuracy, as a fraction, that a reader would give up for a cheaper model.
        gallery_size: Most errors to show of each model, and most disagreements each way of the verdict's pair.
        stages: By model in the order of the report, the stages whose timings are its own.

    Raises:
        DataError: The numbers of a model are missing or not its own, or two models were tested on different images.
    """
    names = [name for name in stages if name in metrics]
    # listed, since asking whether a file's arrays are there could read them
    answered = list(predictions)
    for name in (baseline, candidate, *names):
        if name not in metrics or name not in answered:
            raise DataError(
                expected=f"the metrics and predictions of {name}",
                received=f"metrics of {', '.join(metrics)}; predictions of {', '.join(answered)}",
                advice="Run `dvc repro evaluate`",
            )
    class_names = dataset["class_names"]
    answers = build_predictions(predictions, names, baseline, candidate, class_names, gallery_size, metrics)
    built = [build_model(name, metrics[name], list(map(timings.get, stages[name])), serving) for name in names]
    models = tuple(replace(model, **bound_chosen(answers.accuracy, model.name, confidence)) for model in built)
    pairs = build_pairs(answers, baseline, candidate, confidence, margin)
    served, served_ties = choose_served(answers, models, confidence)
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
        claims=build_claims(answers, confidence),
        served=served,
        served_ties=served_ties,
        differences=build_differences(answers, baseline, candidate, class_names, confidence),
        fronts=build_fronts(models),
        errors=answers.errors,
        disagreements=answers.disagreements,
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
    """Judges which of two models is better, that they are equal for practical purposes, or that it isn't decided.

    | adjusted p below 1 - confidence | within the margin | verdict |
    |---|---|---|
    | yes | no | better |
    | yes | yes | better_within: better, by less than what is declared to matter |
    | no | yes | equivalent |
    | no | no | unclear; unclear_many where the interval excludes 0, but other pairs were compared too |

    The interval excludes 0 where the pair's own p is below 1 - confidence. "Within the margin" takes both one-sided
    tests, each at half the level: the same as the whole interval lying within the margin, were it for this pair alone.

    Args:
        pair: The two models.
        confidence: Confidence of the pair's interval.
        margin: Accuracy, as a fraction, that doesn't matter.
        cheaper: The model that is named first where both are equivalent; None: the more accurate one.
    """
    flip = pair.value < 0
    winner, loser = (pair.baseline, pair.candidate) if flip else (pair.candidate, pair.baseline)
    low, high = (-pair.high, -pair.low) if flip else (pair.low, pair.high)
    values = {
        "winner": winner,
        "loser": loser,
        "value": abs(pair.value),
        "low": low,
        "high": high,
        "confidence": confidence,
        "margin": margin,
        "is_one_training": pair.num_seeds == 1,
    }
    is_within = pair.equivalence_p_adjusted < (1 - confidence) / 2
    if pair.p_adjusted < 1 - confidence:
        return Finding("verdict.better_within" if is_within else "verdict.better", values)
    if is_within:
        return Finding("verdict.equivalent", values | _turn(values, cheaper or winner))
    return Finding("verdict.unclear" if low <= 0 <= high else "verdict.unclear_many", values)


def judge_in_study(comparison: Comparison, pair: Pair) -> Finding:
    """Judges a pair of the comparison: the one rule of texts, tables and figures."""
    cheaper = _find_cheaper(comparison.models, pair.baseline, pair.candidate)
    return judge_pair(pair, comparison.confidence, comparison.margin, cheaper=cheaper)


def decide_pair(comparison: Comparison, pair: Pair) -> str | None:
    """Returns the better model of a pair, or None where it can't be told or there is none (see `judge_in_study`)."""
    finding = judge_in_study(comparison, pair)
    return str(finding.values["winner"]) if finding.key in DECIDED else None


def find_cost(comparison: Comparison) -> tuple[Finding, ...]:
    """Returns how many times as much the models of the verdict cost: a finding for each that costs more in something.

    Every ratio is that of the dearer model, so none is below 1 and none can be rounded to 0. That of the verdict's
    model comes first: the better one; the cheaper one where both are as good; the candidate where it can't be told.
    """
    one, other = _get_verdict_models(comparison)
    found = []
    for model, against in ((one, other), (other, one)):
        ratios = {cost: compute_ratio(getattr(model, cost), getattr(against, cost)) for cost in STATED_COSTS}
        # what both cost alike is said once
        known = [
            {"cost": cost, "ratio": ratio}
            for cost, ratio in ratios.items()
            if ratio is not None and (ratio > 1 or (ratio == 1 and model is one))
        ]
        if known:
            found.append(Finding("cost.ratios", {"model": model.name, "other": against.name, "ratios": known}))
    return tuple(found)


def find_recommendations(comparison: Comparison) -> tuple[Finding, ...]:
    """Recommends what to use for accuracy, what for cost, and which model is served.

    With one training of a model nothing is known about others, so nothing is recommended.
    """
    served = Finding("recommend.served", {"model": comparison.served})
    if any(pair.num_seeds == 1 for pair in comparison.pairs):
        return (Finding("recommend.withheld", {}), served)
    return (_recommend_for_accuracy(comparison), _recommend_for_cost(comparison), served)


def _recommend_for_accuracy(comparison: Comparison) -> Finding:
    """Returns the most accurate model, and those that it isn't certainly better than."""
    best = max(comparison.models, key=lambda model: model.test_accuracy)
    others = [model.name for model in comparison.models if model is not best]
    judged = {name: judge_in_study(comparison, comparison.get_pair(best.name, name)).key for name in others}
    tied = [name for name in others if judged[name] in UNCLEAR]
    as_good = [name for name in others if judged[name] == "verdict.equivalent"]
    values = {
        "model": best.name,
        "accuracy": best.test_accuracy,
        "low": best.chosen_low,
        "high": best.chosen_high,
        "confidence": comparison.confidence,
        "tied": tied,
        "as_good": as_good,
        "margin": comparison.margin,
        "num_models": len(comparison.models),
    }
    return Finding("recommend.accuracy_open" if tied else "recommend.accuracy", values)


class CostChoice(NamedTuple):
    """Conclusion of the tests on the cheapest model.

    Attributes:
        chosen: The cheapest model whose loss is within the margin for certain; None where there is none.
        still_open: The cheapest of the cheaper models whose loss may be within the margin; None where there is none.
        losses: By model between which bounds its loss against the best other model lies, all of them at once.
    """

    chosen: str | None
    still_open: str | None
    losses: Mapping[str, tuple[float, float]]


def choose_for_cost(pairs: Sequence[Pair], prices: Mapping[str, float], margin: float) -> CostChoice:
    """Chooses the cheapest model whose loss against every other one is within the margin for certain.

    The best one isn't known, so each model's loss is bounded against every other one, all at once (multiple comparisons
    with the best). A cheaper model that may be within the margin too leaves the question open.

    Args:
        pairs: Every two models.
        prices: By model, what it costs; of equal ones the first counts as cheaper.
        margin: Accuracy, as a fraction, that one gives up for a cheaper model.

    References:
        J. C. Hsu (1984), Constrained simultaneous confidence intervals for multiple comparisons with the best, Ann.
        Statist. 12(3), 1136-1144.
    """
    losses = dict.fromkeys(prices, (-math.inf, 0.0))
    for pair in pairs:
        for name, low, high in (
            (pair.baseline, pair.all_low, pair.all_high),
            (pair.candidate, -pair.all_high, -pair.all_low),
        ):
            losses[name] = (max(losses[name][0], low), max(losses[name][1], high))
    by_price = sorted(prices, key=prices.__getitem__)
    chosen = next((name for name in by_price if losses[name][1] <= margin), None)
    # clocks on a shared machine differ by so much
    cheaper = [name for name in by_price if chosen is None or prices[name] * SAME_RATIO < prices[chosen]]
    return CostChoice(chosen, next((name for name in cheaper if losses[name][0] <= margin), None), losses)


def _recommend_for_cost(comparison: Comparison) -> Finding:
    is_timed = comparison.is_timed
    best = max(comparison.models, key=lambda model: model.test_accuracy).name
    by_accuracy = sorted(comparison.models, key=lambda model: -model.test_accuracy)
    prices = {model.name: _price(model, is_timed=is_timed) for model in by_accuracy}
    chosen, still_open, losses = choose_for_cost(comparison.pairs, prices, comparison.margin)
    named = still_open or chosen or best
    dearer = (chosen or best) if named == still_open else best
    values = {
        "model": named,
        "best": best,
        "safe": chosen,
        "against": dearer,
        "ratio": compute_ratio(prices[dearer], prices[named]),
        "is_timed": is_timed,
        "at_most": losses[named][1],
        "is_ahead": losses[named][1] <= 0,
        "margin": comparison.margin,
        "confidence": comparison.confidence,
        "is_cheapest": prices[named] == min(prices.values()),
    }
    return Finding("recommend.cost" if named == chosen else "recommend.cost_open", values)


def _turn(values: Mapping[str, Any], first: str) -> dict[str, Any]:
    """Returns the difference seen from one of the two models, with its sign."""
    is_winner = first == values["winner"]
    value, low, high = (values[key] if is_winner else -values[key] for key in ("value", "low", "high"))
    return {
        "model": first,
        "other": values["loser" if is_winner else "winner"],
        "difference": value,
        "difference_low": min(low, high),
        "difference_high": max(low, high),
    }


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
