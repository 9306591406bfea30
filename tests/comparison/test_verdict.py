"""The verdict, the recommendations and the warnings, rule by rule."""

import re
from dataclasses import replace

import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from cotejo.comparison.records import Pair
from cotejo.comparison.verdict import (
    DECIDED,
    choose_for_cost,
    decide_pair,
    find_recommendations,
    judge_in_study,
    judge_pair,
)
from cotejo.estimation.estimates import estimate_mean, summarize_scores
from cotejo.report.render import render_html, render_markdown
from cotejo.report.wording import LANGUAGES
from synthetic_study import MODELS, build_comparison, build_inputs, keep_seeds, measure_again


@pytest.fixture(scope="module")
def comparison():
    return build_comparison(**build_inputs(num_seeds=3, resnet=0.93))


def find(findings, key):
    return next(finding for finding in findings if finding.key == key)


def answer(comparison, question):
    return next(entry.findings for entry in comparison.answers if entry.question == question)


def build_pair(value, low, high, p_adjusted, margin=0.0, num_seeds=3):
    """A pair with a 95% interval; two one-sided tests reject at 2.5% each if it lies within the margin."""
    error = (high - low) / 2 / stats.t.ppf(0.975, 9)
    equivalence = float(stats.t.sf((margin - abs(value)) / error, 9))
    return Pair(baseline="lenet", candidate="resnet", num_seeds=num_seeds, value=value, low=low, high=high,
                files_low=low, files_high=high, all_low=low, all_high=high,
                p_value=float(2 * stats.t.sf(abs(value) / error, 9)), p_adjusted=p_adjusted, image_share=0.5,
                equivalence_p=equivalence, equivalence_p_adjusted=equivalence)  # fmt: skip


@pytest.mark.parametrize(
    ("value", "low", "high", "p_adjusted", "margin", "num_seeds", "key"),
    [
        # the adjusted p is small
        (0.02, 0.01, 0.03, 0.001, 0.0, 3, "better"),
        (0.02, 0.01, 0.03, 0.001, 0.029, 3, "better"),
        (0.02, 0.01, 0.03, 0.001, 0.031, 3, "better_within"),
        (-0.02, -0.03, -0.01, 0.001, 0.031, 1, "better_within"),
        (0.02, 0.001, 0.039, 0.05 - 1e-9, 0.01, 1, "better"),
        # it isn't, and the interval includes 0
        (0.02, -0.01, 0.05, 0.2, 0.0, 3, "unclear"),
        (0.02, 0.0, 0.04, 0.051, 0.0, 3, "unclear"),
        (0.0, -0.01, 0.01, 1.0, 0.0, 3, "unclear"),
        (0.0, -0.01, 0.01, 1.0, 0.02, 3, "equivalent"),
        (0.002, -0.004, 0.008, 0.5, 0.007, 3, "unclear"),
        (0.002, -0.004, 0.008, 0.5, 0.009, 3, "equivalent"),
        (-0.002, -0.008, 0.004, 0.5, 0.009, 1, "equivalent"),
        # it isn't, though the interval excludes 0: other pairs were compared too
        (0.02, 0.001, 0.039, 0.06, 0.01, 1, "unclear_many"),
        (0.02, 0.001, 0.039, 0.05 + 1e-9, 0.01, 1, "unclear_many"),
        (0.02, 0.001, 0.039, 0.06, 0.04, 1, "equivalent"),
    ],
)
def test_the_verdict_follows_its_table_of_rules(value, low, high, p_adjusted, margin, num_seeds, key):
    pair = build_pair(value, low, high, p_adjusted, margin, num_seeds)
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


def test_every_pair_the_verdicts_too_is_decided_by_its_adjusted_p(comparison):
    changed = {"value": 0.02, "low": 0.001, "high": 0.039, "p_value": 0.04, "equivalence_p_adjusted": 1.0}
    pairs = tuple(
        replace(pair, **changed, p_adjusted=p)
        for pair, p in zip(comparison.pairs, (0.045, 0.049, 0.06, 0.2, 0.2, 0.2), strict=True)
    )
    crowded = replace(comparison, pairs=pairs, margin=0.5)
    assert [decide_pair(crowded, pair) is not None for pair in pairs] == [True, True, False, False, False, False]
    assert [judge_in_study(crowded, pair).key for pair in pairs[2:]] == ["verdict.unclear_many"] * 4
    accuracy, *_ = find_recommendations(crowded)
    assert (accuracy.key, accuracy.values["model"]) == ("recommend.accuracy_open", "resnet")
    undecided = {name for pair in pairs[2:] for name in (pair.baseline, pair.candidate) if "resnet" in str(pair)}
    assert set(accuracy.values["tied"]) == undecided - {"lenet", "resnet"}


@pytest.mark.parametrize("num_seeds", [1, 2, 3])
def test_an_interval_with_0_decides_no_pair(num_seeds):
    found = build_comparison(**build_inputs(num_samples=500, num_seeds=num_seeds, resnet=0.97, transfer=0.8))
    decided = [pair for pair in found.pairs if decide_pair(found, pair)]
    assert all(pair.low > 0 or pair.high < 0 for pair in decided)
    assert decided if num_seeds != 2 else True


def test_verdict_and_cost_of_a_clear_difference(comparison):
    pair = comparison.pairs[0]
    models = {model.name: model for model in comparison.models}
    assert comparison.verdict.key == "verdict.better"
    assert pair.value == pytest.approx(models["resnet"].test_accuracy - models["lenet"].test_accuracy)
    cost = find(comparison.cost, "cost.ratios").values
    assert (cost["model"], cost["other"]) == ("resnet", "lenet")
    assert {row["cost"]: row["ratio"] for row in cost["ratios"]} == pytest.approx({
        "train_time_s": 624 / 42.3, "parameters": 227_210 / 61_706, "latency_p50_s": 0.0042 / 0.0011,
        "operations": 87_600_000 / 846_000})  # fmt: skip


def test_each_model_is_said_to_cost_more_in_what_it_costs_more():
    inputs = build_inputs(num_samples=500, num_seeds=3, lenet=0.99)
    inputs["metrics"]["lenet"]["parameters"] = 454_420
    comparison = build_comparison(**inputs)
    assert comparison.verdict.values["winner"] == "lenet"
    winner, loser = (finding.values for finding in comparison.cost)
    assert (winner["model"], winner["ratios"]) == ("lenet", [{"cost": "parameters", "ratio": 2.0}])
    assert loser["model"] == "resnet"
    expected = {
        "train_time_s": 624 / 42.3,
        "latency_p50_s": 0.0042 / 0.0011,
        "operations": 87_600_000 / 846_000,
    }
    assert {row["cost"]: row["ratio"] for row in loser["ratios"]} == pytest.approx(expected)


def test_equal_models_are_not_decided():
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
        declared, *others = (getattr(pair, own) for pair in comparison.pairs)
        # four fifths of the false alarms are the declared pair's; once it is decided, the others share all of them
        declared = min(1, declared / 0.8)
        holm = multipletests(others, method="holm")[1]
        expected = [declared, *(min(1, p / 0.2, max(declared, p)) for p in holm)]
        assert [getattr(pair, adjusted) for pair in comparison.pairs] == pytest.approx(expected)
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
    assert find(comparison.warnings, "warning.single_seed").values["models"] == list(MODELS)
    assert comparison.verdict.values["is_one_training"]
    assert "note.interval" not in {note.key for note in comparison.notes}
    assert find(comparison.notes, "note.one_training")


def test_models_with_few_seeds_are_warned_of_by_name():
    inputs = build_inputs(num_samples=300, num_seeds=3)
    keep_seeds(inputs, "lenet", 2)
    keep_seeds(inputs, "finetune", 1)
    comparison = build_comparison(**inputs)
    assert [(finding.key, finding.values["models"]) for finding in comparison.warnings] == [
        ("warning.single_seed", ["finetune"]), ("warning.two_seeds", ["lenet"])]  # fmt: skip


@pytest.mark.parametrize("num_alone", [1, 4])
def test_one_training_of_any_model_withholds_the_recommendations(num_alone):
    inputs = build_inputs(num_samples=300, num_seeds=3)
    for name in list(MODELS)[-num_alone:]:
        keep_seeds(inputs, name, 1)
    comparison = build_comparison(**inputs)
    assert [finding.key for finding in comparison.recommendations] == ["recommend.withheld", "recommend.served"]
    assert comparison.recommendations[1].values["model"] == comparison.served
    assert comparison.verdict.values["is_one_training"] == (num_alone == 4)


def test_a_sound_study_has_no_warnings(comparison):
    assert comparison.warnings == ()


def test_random_weights_do_not_matter_without_transfer():
    models = {name: MODELS[name] for name in ("lenet", "resnet")}
    comparison = build_comparison(**build_inputs(num_samples=300, num_seeds=3, weights="random", models=models))
    assert comparison.warnings == ()
    assert len(comparison.pairs) == 1


def test_times_from_different_machines_are_warned_of():
    inputs = build_inputs(num_samples=300, num_seeds=3)
    inputs["timings"]["train-resnet"] = inputs["timings"]["train-resnet"] | {"device": "gpu"}
    assert [finding.key for finding in build_comparison(**inputs).warnings] == ["warning.machines"]


def test_another_processor_is_warned_of_but_not_an_unknown_one():
    inputs = build_inputs(num_samples=300, num_seeds=3)
    timing = inputs["timings"]["train-resnet"]
    inputs["timings"]["train-resnet"] = timing | {"machine": "Intel Xeon, 2 cores"}
    assert [finding.key for finding in build_comparison(**inputs).warnings] == ["warning.machines"]
    inputs["timings"]["train-resnet"] = {key: value for key, value in timing.items() if key != "machine"}
    assert build_comparison(**inputs).warnings == ()


def test_without_times_cost_is_parameters():
    comparison = build_comparison(**build_inputs(num_samples=300) | {"timings": {}, "margin": 0.5})
    assert [row["cost"] for row in comparison.cost[0].values["ratios"]] == ["parameters", "operations"]
    cost = find(comparison.recommendations, "recommend.cost").values
    assert (cost["model"], cost["is_timed"]) == ("lenet", False)
    best = comparison.get_model(cost["best"])
    assert cost["ratio"] == pytest.approx(best.parameters / 61_706)
    assert answer(comparison, "slower")[0].key == "answer.no_time"
    assert find(comparison.warnings, "warning.untimed").values["models"] == list(MODELS)


def test_recommendations_name_the_most_accurate_and_the_fastest(comparison):
    accuracy, cost, served = find_recommendations(replace(comparison, margin=0.5))
    best = max(comparison.models, key=lambda model: model.test_accuracy).name
    assert (accuracy.key, accuracy.values["model"]) == ("recommend.accuracy", best)
    assert (cost.key, cost.values["model"], cost.values["best"]) == ("recommend.cost", "lenet", "resnet")
    # against whichever other model its loss may be the largest
    bounds = [pair.all_high if pair.baseline == "lenet" else -pair.all_low
              for pair in comparison.pairs if "lenet" in (pair.baseline, pair.candidate)]  # fmt: skip
    assert cost.values["at_most"] == max(bounds)
    assert cost.values["ratio"] == pytest.approx(624 / 42.3)
    assert (served.key, served.values) == ("recommend.served", {"model": comparison.served})


def test_the_interval_of_the_model_that_is_recommended_is_wider_for_having_been_chosen():
    inputs = build_inputs(num_samples=500, num_seeds=3, resnet=0.97)
    comparison = build_comparison(**inputs)
    accuracy = comparison.recommendations[0].values
    arrays = inputs["predictions"]["resnet"]
    scores = summarize_scores(arrays["y_prob"].argmax(axis=2) == arrays["y_true"])
    own = estimate_mean(scores, 0.95).compute_interval(0.95)
    # the best of four: each may err in 1.25% of the studies
    chosen = estimate_mean(scores, 0.95).compute_interval(1 - 0.05 / 4)
    assert (accuracy["model"], accuracy["confidence"]) == ("resnet", 0.95)
    assert (accuracy["low"], accuracy["high"]) == pytest.approx(chosen)
    assert chosen[0] < own[0] < accuracy["accuracy"] < own[1] < chosen[1]


def test_a_cheap_model_beyond_the_margin_is_not_recommended():
    inputs = build_inputs(num_samples=500, num_seeds=3, lenet=0.7)
    _, cost, *_ = build_comparison(**{**inputs, "margin": 0.01}).recommendations
    assert "lenet" not in (cost.values["model"], cost.values["safe"])
    _, cost, *_ = build_comparison(**{**inputs, "margin": 0.5}).recommendations
    assert (cost.key, cost.values["model"]) == ("recommend.cost", "lenet")


@pytest.mark.parametrize(("high", "chosen"), [(0.0101, "resnet"), (0.01, "lenet")])
def test_a_cheap_model_must_be_within_the_margin_for_certain(high, chosen):
    models = {name: MODELS[name] for name in ("lenet", "resnet")}
    comparison = build_comparison(**build_inputs(num_samples=300, resnet=0.93, models=models))
    # its own interval lies within the margin in any case; the one that holds for all models at once decides
    pair = replace(comparison.pairs[0], value=0.005, low=0.001, high=0.009, all_low=0.0, all_high=high)
    turned = replace(pair, baseline="resnet", candidate="lenet", value=-0.005, low=-0.009, high=-0.001,
                     all_low=-high, all_high=0.0)  # fmt: skip
    for found in (pair, turned):
        _, cost, _ = find_recommendations(replace(comparison, pairs=(found,)))
        # the cheaper one is named in any case: that it isn't recommended has a reason that is said
        assert (cost.values["model"], cost.values["at_most"], cost.values["safe"]) == ("lenet", high, chosen)
        assert cost.key == ("recommend.cost" if chosen == "lenet" else "recommend.cost_open")


def build_triple(*bounds):
    """Pairs of three models, of which a is the cheapest; each is given its bounds for all at once."""
    names = (("a", "b"), ("a", "c"), ("b", "c"))
    return [replace(build_pair(0.0, -0.1, 0.1, 1.0), baseline=first, candidate=second, all_low=low, all_high=high)
            for (first, second), (low, high) in zip(names, bounds, strict=True)]  # fmt: skip


@pytest.mark.parametrize(
    ("bounds", "chosen", "still_open"),
    [
        # a loses little to both
        ([(-0.01, 0.01), (0.0, 0.02), (-0.01, 0.03)], "a", None),
        # a may lose too much to c, though c isn't the best that was observed
        ([(-0.01, 0.01), (-0.03, 0.03), (-0.05, 0.01)], "b", "a"),
        # a loses too much for certain
        ([(0.03, 0.05), (0.03, 0.06), (-0.03, 0.01)], "b", None),
        # a loses too much to b, b may lose too much to c, so c alone is within the margin
        ([(0.03, 0.05), (0.03, 0.06), (0.0, 0.03)], "c", "b"),
        # each may lose too much to another one
        ([(-0.05, 0.05), (-0.05, 0.05), (-0.05, 0.05)], None, "a"),
    ],
    ids=["cheapest", "open", "too-bad", "one-after-another", "none"],
)
def test_the_cheapest_model_is_bounded_against_every_other_one(bounds, chosen, still_open):
    found = choose_for_cost(build_triple(*bounds), {"a": 1.0, "b": 2.0, "c": 3.0}, 0.02)
    assert (found.chosen, found.still_open) == (chosen, still_open)
    assert found.losses["a"] == (max(bounds[0][0], bounds[1][0]), max(0.0, bounds[0][1], bounds[1][1]))
    assert found.losses["c"] == (max(-bounds[1][1], -bounds[2][1]), max(0.0, -bounds[1][0], -bounds[2][0]))


def test_a_model_that_costs_the_same_leaves_nothing_open():
    pairs = build_triple((-0.01, 0.03), (-0.01, 0.03), (-0.01, 0.01))
    assert choose_for_cost(pairs, {"a": 1.0, "b": 1.05, "c": 3.0}, 0.02).still_open is None
    assert choose_for_cost(pairs, {"a": 1.0, "b": 1.2, "c": 3.0}, 0.02).still_open == "a"


def test_a_model_that_trains_in_no_time_has_no_ratio_and_is_named_all_the_same():
    inputs = build_inputs(num_samples=500, num_seeds=3)
    for row in inputs["timings"]["train-lenet"]["per_seed"]:
        row["train_time_s"] = 0
    for margin, key in ((0.5, "recommend.cost"), (0.001, "recommend.cost_open")):
        comparison = build_comparison(**inputs | {"margin": margin})
        cost = find(comparison.recommendations, key).values
        assert (cost["model"], cost["ratio"], cost["is_cheapest"]) == ("lenet", None, True)
        assert all("train_time_s" not in {row["cost"] for row in finding.values["ratios"]}
                   for finding in comparison.cost)  # fmt: skip
        for language in LANGUAGES:
            for text in (render_html(comparison, {}, language, gallery={}), render_markdown(comparison, language)):
                assert not {"inf", "nan", "inf×", "nan×"} & set(text.split())
                assert "None times" not in " ".join(text.split())


@pytest.mark.parametrize("num_seeds", [1, 3])
def test_five_test_images_decide_nothing_and_have_a_page(num_seeds):
    comparison = build_comparison(**build_inputs(num_samples=5, num_seeds=num_seeds, lenet=0.4, resnet=0.95))
    keys = {judge_in_study(comparison, pair).key for pair in comparison.pairs}
    assert not keys & {*DECIDED, "verdict.equivalent"}
    assert all(pair.high - pair.low > 0.5 for pair in comparison.pairs)
    assert not any(row.is_clear for row in comparison.differences)
    for language in LANGUAGES:
        page = render_html(comparison, {}, language, gallery={})
        assert page.count("<table") == page.count("</table>") > 5
        assert not re.search(r"\bnan\b", render_markdown(comparison, language))


def test_a_model_that_is_best_and_fastest_is_recommended_for_both():
    found = build_comparison(**build_inputs(num_samples=1000, num_seeds=3, lenet=0.99)).recommendations
    assert [finding.key for finding in found] == ["recommend.accuracy", "recommend.cost", "recommend.served"]
    assert [finding.values["model"] for finding in found] == ["lenet", "lenet", "lenet"]
    assert found[1].values["is_cheapest"]
    assert found[1].values["is_ahead"]


def test_models_that_are_not_decided_from_the_best_are_named():
    comparison = build_comparison(**build_inputs(num_samples=300, resnet=0.93, finetune=0.93))
    found = find(comparison.recommendations, "recommend.accuracy_open").values
    best, tied = found["model"], found["tied"]
    assert tied
    assert not found["as_good"]
    others = [model.name for model in comparison.models if model.name != best]
    assert tied == [name for name in others if decide_pair(comparison, comparison.get_pair(best, name)) is None]


def test_models_that_are_as_good_within_the_margin_are_said_to_be():
    inputs = build_inputs(num_samples=4000, num_seeds=3, models=("lenet", "resnet"))
    inputs["predictions"]["resnet"] = inputs["predictions"]["lenet"]
    measure_again(inputs, "resnet")
    comparison = build_comparison(**inputs | {"margin": 0.03})
    found = comparison.verdict
    assert (found.key, found.values["model"], found.values["other"]) == ("verdict.equivalent", "lenet", "resnet")
    assert found.values["difference"] == 0
    assert -0.03 < found.values["difference_low"] < 0 < found.values["difference_high"] < 0.03
    # what the cheaper one costs stands beside it: training in a fifteenth of the time
    cost = comparison.cost[0].values
    assert (cost["model"], cost["other"]) == ("resnet", "lenet")
    assert next(row["ratio"] for row in cost["ratios"]) == pytest.approx(624 / 42.3, rel=1e-3)
    accuracy, cost, _ = comparison.recommendations
    assert cost.values["model"] == "lenet"
    assert accuracy.key == "recommend.accuracy"
    assert "lenet" not in accuracy.values["tied"]
    assert {"lenet", "resnet"} == {accuracy.values["model"], *accuracy.values["as_good"]}
    # the same data with a smaller margin prove nothing
    assert build_comparison(**inputs | {"margin": 0.0001}).verdict.key == "verdict.unclear"
    assert decide_pair(comparison, comparison.pairs[0]) is None


def test_a_pair_is_equivalent_by_its_adjusted_p(comparison):
    # far from both ends the interval lies within the margin
    pairs = tuple(
        replace(build_pair(0.001, -0.004, 0.006, 0.7, 0.01), baseline=pair.baseline, candidate=pair.candidate,
                equivalence_p=0.01, equivalence_p_adjusted=p)
        for pair, p in zip(comparison.pairs, (0.0249, 0.03, 0.02, 0.03, 0.03, 0.03), strict=True)
    )  # fmt: skip
    crowded = replace(comparison, pairs=pairs)
    keys = [judge_in_study(crowded, pair).key for pair in pairs]
    assert keys == [f"verdict.{key}" for key in ("equivalent", "unclear", "equivalent", *["unclear"] * 3)]
