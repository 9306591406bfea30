"""The verdict, the recommendations and the warnings, rule by rule."""

from dataclasses import replace

import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from cotejo.comparison.records import Pair
from cotejo.comparison.verdict import (
    build_comparison,
    decide_pair,
    find_recommendations,
    judge_in_study,
    judge_pair,
)
from synthetic_study import MODELS, build_inputs


@pytest.fixture(scope="module")
def comparison():
    return build_comparison(**build_inputs(resnet=0.93))


def find(findings, key):
    return next(finding for finding in findings if finding.key == key)


def answer(comparison, question):
    return next(entry.findings for entry in comparison.answers if entry.question == question)


def build_pair(value, low, high, p_value, margin=0.0, num_seeds=3):
    """A pair with a 95% interval; two one-sided tests reject at 2.5% each if it lies within the margin."""
    error = (high - low) / 2 / stats.t.ppf(0.975, 9)
    equivalence = stats.t.sf((margin - abs(value)) / error, 9) if error else float(abs(value) >= margin)
    return Pair(baseline="lenet", candidate="resnet", value=value, low=low, high=high, p_value=p_value,
                p_adjusted=p_value, degrees_of_freedom=9.0, method="welch_t" if num_seeds > 1 else "mcnemar",
                bootstrap_low=low, bootstrap_high=high, mcnemar=(), seeds_p_value=0.5 if num_seeds > 1 else None,
                effect_size=0.1, image_share=0.5, detectable=0.03, equivalence_p=equivalence,
                equivalence_p_adjusted=equivalence)  # fmt: skip


@pytest.mark.parametrize(
    ("value", "low", "high", "p_value", "margin", "num_seeds", "key"),
    [
        (0.0, 0.0, 0.0, 1.0, 0.01, 3, "same"),
        (0.0, 0.0, 0.0, 1.0, 0.0, 1, "same"),
        # the interval excludes 0, p is small
        (0.02, 0.01, 0.03, 0.001, 0.0, 3, "better"),
        (0.02, 0.01, 0.03, 0.001, 0.029, 3, "better"),
        (0.02, 0.01, 0.03, 0.001, 0.031, 3, "better_within"),
        (-0.02, -0.03, -0.01, 0.001, 0.031, 1, "better_within"),
        (0.02, 0.02, 0.02, 0.0, 0.01, 3, "better"),  # nothing varies
        (0.02, 0.02, 0.02, 0.0, 0.03, 3, "better_within"),
        # it includes 0
        (0.02, -0.01, 0.05, 0.2, 0.0, 3, "unclear"),
        (0.02, 0.0, 0.04, 0.05, 0.0, 3, "unclear"),
        (0.002, -0.004, 0.008, 0.5, 0.007, 3, "unclear"),
        (0.002, -0.004, 0.008, 0.5, 0.009, 3, "equivalent"),
        (-0.002, -0.008, 0.004, 0.5, 0.009, 1, "equivalent"),
        # it excludes 0, the test doesn't agree
        (0.02, 0.001, 0.039, 0.06, 0.01, 1, "unclear_test"),
        (0.02, 0.001, 0.039, 0.05 + 1e-9, 0.01, 1, "unclear_test"),
        (0.02, 0.001, 0.039, 0.06, 0.04, 1, "equivalent"),
    ],
)
def test_the_verdict_follows_its_table_of_rules(value, low, high, p_value, margin, num_seeds, key):
    pair = build_pair(value, low, high, p_value, margin, num_seeds)
    assert judge_pair(pair, 0.95, margin).key == f"verdict.{key}"
    turned = replace(pair, value=-value, low=-high, high=-low)
    assert judge_pair(turned, 0.95, margin).key == f"verdict.{key}"


def test_a_worse_candidate_turns_the_verdict_round():
    found = judge_pair(build_pair(-0.02, -0.03, -0.01, 0.001), 0.95, 0.01)
    assert (found.values["winner"], found.values["loser"]) == ("lenet", "resnet")
    assert (found.values["value"], found.values["low"], found.values["high"]) == (0.02, 0.01, 0.03)


@pytest.mark.parametrize(
    ("cheaper", "signed"), [("lenet", (-0.002, -0.008, 0.004)), ("resnet", (0.002, -0.004, 0.008))]
)
def test_of_two_models_that_are_as_good_the_cheaper_one_is_named_first(cheaper, signed):
    found = judge_pair(build_pair(0.002, -0.004, 0.008, 0.5, 0.01), 0.95, 0.01, cheaper=cheaper).values
    assert found["model"] == cheaper
    assert {found["model"], found["other"]} == {"lenet", "resnet"}
    assert (found["difference"], found["difference_low"], found["difference_high"]) == signed


def test_a_verdict_knows_when_it_stands_on_one_training_each():
    assert judge_pair(build_pair(0.02, 0.01, 0.03, 0.001, num_seeds=1), 0.95, 0.01).values["is_one_training"]
    assert not judge_pair(build_pair(0.02, 0.01, 0.03, 0.001), 0.95, 0.01).values["is_one_training"]


def test_only_the_verdicts_pair_counts_by_its_own_p(comparison):
    # 0.02 is below 0.05, six times 0.02 isn't
    pairs = tuple(
        replace(pair, value=0.02, low=0.001, high=0.039, p_value=0.02, p_adjusted=0.12) for pair in comparison.pairs
    )
    crowded = replace(comparison, pairs=pairs, verdict=judge_pair(pairs[0], 0.95, 0.01), margin=0.5)
    assert crowded.verdict.key == "verdict.better"
    assert [decide_pair(crowded, pair) for pair in pairs] == ["resnet", None, None, None, None, None]
    accuracy, *_ = find_recommendations(crowded)
    assert accuracy.values["model"] == "resnet"
    assert accuracy.values["tied"] == ["transfer", "finetune"]


def test_an_interval_with_0_decides_no_pair(comparison):
    pairs = tuple(replace(pair, low=-0.01, high=0.05, p_value=0.001, p_adjusted=0.006) for pair in comparison.pairs)
    unsure = replace(comparison, pairs=pairs)
    assert {decide_pair(unsure, pair) for pair in pairs} == {None}


def test_verdict_and_cost_of_a_clear_difference(comparison):
    pair = comparison.pairs[0]
    models = {model.name: model for model in comparison.models}
    assert comparison.verdict.key == "verdict.better"
    assert pair.value == pytest.approx(models["resnet"].test_accuracy - models["lenet"].test_accuracy)
    cost = find(comparison.cost, "cost.ratios").values
    assert (cost["model"], cost["other"]) == ("resnet", "lenet")
    assert {row["cost"]: row["ratio"] for row in cost["ratios"]} == pytest.approx({
        "train_time_s": 623.5 / 41.8, "parameters": 227_210 / 61_706, "latency_p50_s": 0.0042 / 0.0011,
        "operations": 87_600_000 / 846_000})  # fmt: skip


def test_each_model_is_said_to_cost_more_in_what_it_costs_more():
    inputs = build_inputs(num_samples=500, lenet=0.99)
    inputs["metrics"]["lenet"]["parameters"] = 454_420
    comparison = build_comparison(**inputs)
    assert comparison.verdict.values["winner"] == "lenet"
    winner, loser = (finding.values for finding in comparison.cost)
    assert (winner["model"], winner["ratios"]) == ("lenet", [{"cost": "parameters", "ratio": 2.0}])
    assert loser["model"] == "resnet"
    expected = {
        "train_time_s": 623.5 / 41.8,
        "latency_p50_s": 0.0042 / 0.0011,
        "operations": 87_600_000 / 846_000,
    }
    assert {row["cost"]: row["ratio"] for row in loser["ratios"]} == pytest.approx(expected)


def test_equal_models_cannot_be_told_apart():
    comparison = build_comparison(**build_inputs(num_samples=500, resnet=0.895))
    assert comparison.verdict.key == "verdict.unclear"
    assert comparison.pairs[0].low < 0 < comparison.pairs[0].high


def test_a_model_and_its_copy_differ_by_nothing_and_seeds_that_differ_leave_it_unclear():
    inputs = build_inputs(num_samples=300)
    for table in ("metrics", "predictions"):
        inputs[table]["resnet"] = inputs[table]["lenet"]
    comparison = build_comparison(**inputs)
    # two seeds that differ leave an interval around 0; the value is exactly 0
    assert comparison.pairs[0].value == 0
    assert comparison.verdict.key == "verdict.unclear"
    assert answer(comparison, "classes")[0].key == "answer.no_classes"


def test_all_pairs_stand_once_with_adjusted_p_values(comparison):
    assert len(comparison.pairs) == 6
    assert len({frozenset((pair.baseline, pair.candidate)) for pair in comparison.pairs}) == 6
    assert (comparison.pairs[0].baseline, comparison.pairs[0].candidate) == ("lenet", "resnet")
    for own, adjusted in (("p_value", "p_adjusted"), ("equivalence_p", "equivalence_p_adjusted")):
        expected = multipletests([getattr(pair, own) for pair in comparison.pairs], method="holm")[1]
        assert [getattr(pair, adjusted) for pair in comparison.pairs] == pytest.approx(list(expected))
        assert any(getattr(pair, adjusted) > getattr(pair, own) for pair in comparison.pairs)
    assert comparison.get_pair("resnet", "lenet") is comparison.pairs[0]


@pytest.mark.parametrize(
    ("changed", "key"),
    [
        ({}, "note.kept_lowest_loss"),
        ({"resnet.early_stopping.patience": 3}, "note.kept_lowest_loss"),
        ({"resnet.early_stopping.monitor": "val_accuracy"}, "note.kept_epoch"),
        ({"finetune.early_stopping.min_delta": 0.01}, "note.kept_epoch"),
        ({"lenet.early_stopping.restore_best": False}, "note.kept_epoch"),
    ],
)
def test_the_lowest_loss_is_said_to_be_kept_only_where_every_model_declares_it(changed, key):
    inputs = build_inputs(num_samples=300)
    inputs["facts"]["params"] |= changed
    notes = [note.key for note in build_comparison(**inputs).notes if note.key.startswith("note.kept")]
    assert notes == [key]


@pytest.mark.parametrize(("rotation", "is_said"), [(0.0, True), (10.0, False)])
def test_features_are_said_to_be_computed_once_only_without_augmentation(rotation, is_said):
    inputs = build_inputs(num_samples=300)
    inputs["facts"]["params"]["transfer.augmentation.rotation"] = rotation
    assert ("note.features" in {note.key for note in build_comparison(**inputs).notes}) == is_said


def test_one_seed_and_random_weights_and_local_changes_are_warned_of():
    inputs = build_inputs(num_samples=300, num_seeds=1, weights="random")
    inputs["facts"]["dirty"] = True
    comparison = build_comparison(**inputs)
    keys = [finding.key for finding in comparison.warnings]
    assert keys == ["warning.single_seed", "warning.random_weights", "warning.dirty"]
    assert find(comparison.warnings, "warning.random_weights").values["models"] == ["transfer", "finetune"]
    assert comparison.pairs[0].method == "mcnemar"
    assert find(comparison.notes, "note.mcnemar")


def test_a_sound_study_has_no_warnings(comparison):
    assert comparison.warnings == ()


def test_random_weights_do_not_matter_without_transfer():
    models = {name: MODELS[name] for name in ("lenet", "resnet")}
    comparison = build_comparison(**build_inputs(num_samples=300, weights="random", models=models))
    assert comparison.warnings == ()
    assert len(comparison.pairs) == 1


def test_times_from_different_machines_are_warned_of():
    inputs = build_inputs(num_samples=300)
    inputs["timings"]["train-resnet"] = inputs["timings"]["train-resnet"] | {"device": "gpu"}
    assert [finding.key for finding in build_comparison(**inputs).warnings] == ["warning.machines"]


def test_another_processor_is_warned_of_but_not_an_unknown_one():
    inputs = build_inputs(num_samples=300)
    timing = inputs["timings"]["train-resnet"]
    inputs["timings"]["train-resnet"] = timing | {"machine": "Intel Xeon, 2 cores"}
    assert [finding.key for finding in build_comparison(**inputs).warnings] == ["warning.machines"]
    inputs["timings"]["train-resnet"] = {key: value for key, value in timing.items() if key != "machine"}
    assert build_comparison(**inputs).warnings == ()


def test_without_times_cost_is_parameters():
    comparison = build_comparison(**build_inputs(num_samples=300) | {"timings": {}, "margin": 0.5})
    assert [row["cost"] for row in comparison.cost[0].values["ratios"]] == ["parameters", "operations"]
    assert answer(comparison, "costs")[0].key == "answer.costs_untimed"
    assert comparison.recommendations[1].key == "recommend.small"
    assert answer(comparison, "slower")[0].key == "answer.no_time"
    assert find(comparison.warnings, "warning.untimed").values["models"] == list(MODELS)


def test_recommendations_name_the_most_accurate_and_the_fastest(comparison):
    accuracy, cost, *_ = find_recommendations(replace(comparison, margin=0.5))
    assert accuracy.values["model"] == max(comparison.models, key=lambda model: model.test_accuracy).name
    assert (cost.key, cost.values["model"], cost.values["best"]) == ("recommend.fast", "lenet", "resnet")
    assert cost.values["given_up"] == pytest.approx(comparison.pairs[0].value)


def test_a_cheap_model_beyond_the_margin_is_not_recommended():
    inputs = build_inputs(num_samples=500, lenet=0.7)
    _, cost, *_ = build_comparison(**{**inputs, "margin": 0.01}).recommendations
    assert cost.values["model"] != "lenet"
    _, cost, *_ = build_comparison(**{**inputs, "margin": 0.5}).recommendations
    assert cost.values["model"] == "lenet"


@pytest.mark.parametrize(("high", "chosen"), [(0.0101, "resnet"), (0.01, "lenet")])
def test_a_cheap_model_must_be_within_the_margin_for_certain(high, chosen):
    models = {name: MODELS[name] for name in ("lenet", "resnet")}
    comparison = build_comparison(**build_inputs(num_samples=300, resnet=0.93, models=models))
    pair = replace(comparison.pairs[0], value=0.005, low=0.0, high=high)
    turned = replace(pair, baseline="resnet", candidate="lenet", value=-0.005, low=-high, high=0.0)
    for found in (pair, turned):
        _, cost, *kept_back = find_recommendations(replace(comparison, pairs=(found,)))
        assert cost.values["model"] == chosen
        assert cost.values["at_most"] == (0 if chosen == "resnet" else 0.01)
        # who reads that the dearer one is recommended for cost is told what keeps the cheaper one back
        named = [(each.key, each.values["model"], each.values["at_most"]) for each in kept_back]
        assert named == ([("recommend.kept_back", "lenet", high)] if chosen == "resnet" else [])


def test_a_model_that_is_best_and_fastest_is_recommended_for_both():
    found = build_comparison(**build_inputs(num_samples=500, lenet=0.99)).recommendations
    assert [finding.values["model"] for finding in found] == ["lenet", "lenet"]
    assert found[1].key == "recommend.fast_too"
    assert found[1].values["is_cheapest"]


def test_models_that_the_test_cannot_tell_from_the_best_are_named():
    comparison = build_comparison(**build_inputs(num_samples=300, resnet=0.93, finetune=0.93))
    best, tied = (comparison.recommendations[0].values[key] for key in ("model", "tied"))
    assert tied
    others = [model.name for model in comparison.models if model.name != best]
    assert tied == [name for name in others if decide_pair(comparison, comparison.get_pair(best, name)) is None]


def test_models_that_are_as_good_within_the_margin_are_said_to_be():
    inputs = build_inputs(num_samples=4000, num_seeds=3)
    inputs["predictions"]["resnet"] = inputs["predictions"]["lenet"]
    comparison = build_comparison(**inputs | {"margin": 0.03})
    found = comparison.verdict
    assert (found.key, found.values["model"], found.values["other"]) == ("verdict.equivalent", "lenet", "resnet")
    assert found.values["difference"] == 0
    assert -0.03 < found.values["difference_low"] < 0 < found.values["difference_high"] < 0.03
    # what the cheaper one costs stands beside it: training in a fifteenth of the time
    cost = comparison.cost[0].values
    assert (cost["model"], cost["other"]) == ("resnet", "lenet")
    assert next(row["ratio"] for row in cost["ratios"]) == pytest.approx(624 / 42.3, rel=1e-3)
    accuracy, cost = comparison.recommendations
    assert cost.values["model"] == "lenet"
    assert "lenet" not in accuracy.values["tied"]
    assert {"lenet", "resnet"} == {accuracy.values["model"], *accuracy.values["as_good"]}
    # the same data with a smaller margin prove nothing
    assert build_comparison(**inputs | {"margin": 0.0001}).verdict.key == "verdict.unclear"
    assert decide_pair(comparison, comparison.pairs[0]) is None


def test_a_pair_beside_the_verdicts_is_equivalent_by_its_adjusted_p(comparison):
    # far from both ends the interval lies within the margin
    pairs = tuple(
        replace(build_pair(0.001, -0.004, 0.006, 0.7, 0.01), baseline=pair.baseline, candidate=pair.candidate,
                equivalence_p=0.01, equivalence_p_adjusted=0.03)
        for pair in comparison.pairs
    )  # fmt: skip
    crowded = replace(comparison, pairs=pairs)
    keys = [judge_in_study(crowded, pair).key for pair in pairs]
    assert keys == ["verdict.equivalent", *["verdict.unclear"] * 5]
