"""The conclusions that a comparison draws, rule by rule."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from cotejo.comparison.records import Pair
from cotejo.comparison.verdict import build_comparison, decide_pair, find_answers, find_recommendations, judge_pair
from cotejo.errors import DataError
from synthetic_study import CLASS_NAMES, MODELS, build_inputs


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
        (0.02, 0.001, 0.039, 0.05, 0.01, 1, "unclear_test"),
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
    accuracy, _ = find_recommendations(crowded)
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


def test_equal_models_cannot_be_told_apart():
    comparison = build_comparison(**build_inputs(num_samples=500, resnet=0.895))
    assert comparison.verdict.key == "verdict.unclear"
    assert comparison.pairs[0].low < 0 < comparison.pairs[0].high


def test_a_model_compared_with_its_own_copy_is_the_same():
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
    assert all(pair.p_adjusted >= pair.p_value for pair in comparison.pairs)
    assert comparison.get_pair("resnet", "lenet") is comparison.pairs[0]


def test_finetunes_training_time_includes_transfers(comparison):
    models = {model.name: model for model in comparison.models}
    assert models["finetune"].train_time_s == pytest.approx(512.5 + 96.5)
    assert models["finetune"].epoch_time_s == pytest.approx(101.5)
    assert find(comparison.notes, "note.finetune_time")


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


def test_slower_is_explained_by_more_than_parameters(comparison):
    slower, why = answer(comparison, "slower")
    assert (slower.key, slower.values["slow"], slower.values["ratio"]) == (
        "answer.slower", "resnet", pytest.approx(61.8 / 4.02))  # fmt: skip
    assert why.key == "answer.why_more"
    assert why.values["slow_images_per_s"] == 874.0


def test_a_slower_model_with_fewer_parameters_is_not_explained_by_its_size():
    inputs = build_inputs(num_samples=300)
    inputs["metrics"]["resnet"]["parameters"] = 1000
    assert answer(build_comparison(**inputs), "slower")[1].key == "answer.why_fewer"


def test_epochs_that_take_the_same_time_have_no_slower_model():
    inputs = build_inputs(num_samples=300)
    inputs["timings"]["train-resnet"] = inputs["timings"]["train-lenet"]
    assert [found.key for found in answer(build_comparison(**inputs), "slower")] == ["answer.same_time"]


def set_losses(comparison, losses_of_lenet, losses_of_resnet):
    """Returns the comparison with other cross-entropies on validation images, a seed each."""
    models = []
    for name, losses in (("lenet", losses_of_lenet), ("resnet", losses_of_resnet)):
        model = comparison.get_model(name)
        first = model.seeds[0]
        seeds = tuple(replace(first, seed=seed, val_cross_entropy=float(loss)) for seed, loss in enumerate(losses))
        models.append(replace(model, seeds=seeds, val_cross_entropy=float(np.mean(losses))))
    return replace(comparison, models=tuple(models))


@pytest.mark.parametrize(
    ("losses_of_lenet", "losses_of_resnet", "key", "p_value"),
    [
        ((0.30, 0.31), (0.40, 0.41), "answer.trained_better", 0.00496),  # 2 degrees: 1 - t / sqrt(t² + 2), t = 14.14
        ((0.30, 0.31), (0.32, 0.33), "answer.trained_unclear", 0.10557),  # the seeds don't overlap, yet t = 2.83
        ((0.30, 0.30), (0.30, 0.30), "answer.trained_unclear", 1.0),
        ((0.30, 0.30), (0.31, 0.31), "answer.trained_better", 0.0),
    ],
)
def test_training_is_better_by_welchs_test_over_the_seeds(comparison, losses_of_lenet, losses_of_resnet, key, p_value):
    found = find_answers(set_losses(comparison, losses_of_lenet, losses_of_resnet))[1].findings[0]
    assert found.key == key
    assert found.values["low"] == "lenet"
    assert found.values["p_value"] == pytest.approx(p_value, abs=1e-4)


def test_a_smoothed_validation_loss_does_not_decide_who_trained_better():
    inputs = build_inputs(num_samples=300)
    for model, cross_entropy, val_loss in (("lenet", 0.40, 0.41), ("resnet", 0.30, 0.90)):
        for seed, row in enumerate(inputs["metrics"][model]["per_seed"]):
            row |= {"val_cross_entropy": cross_entropy + seed / 100, "val_loss": val_loss + seed / 100}
    found = answer(build_comparison(**inputs), "trained")[0]
    assert (found.key, found.values["low"]) == ("answer.trained_better", "resnet")
    assert found.values["low_cross_entropy"] == pytest.approx(0.305)
    assert found.values["high_cross_entropy"] == pytest.approx(0.405)


def test_one_training_each_proves_nothing_about_training(comparison):
    found = find_answers(set_losses(comparison, (0.3,), (0.4, 0.5)))[1].findings[0]
    assert found.key == "answer.trained_one_seed"
    assert "p_value" not in found.values


def test_models_that_train_alike_are_seldom_told_apart(comparison):
    generator = np.random.default_rng(11)
    alarms = 0
    for _ in range(1000):
        alike = set_losses(comparison, *generator.normal(0.3, 0.01, size=(2, 2)))
        alarms += find_answers(alike)[1].findings[0].key == "answer.trained_better"
    # at most 50 expected (Welch's test is cautious with two seeds), plus three standard deviations
    assert alarms <= 71


def test_gaps_of_the_kept_epoch_are_stated_for_both():
    inputs = build_inputs(num_samples=300)
    for model, gap in (("lenet", -0.01), ("resnet", 0.08)):
        for row in inputs["metrics"][model]["per_seed"]:
            row["train_accuracy"] = row["val_accuracy"] + gap
    found = answer(build_comparison(**inputs), "trained")[1]
    assert found.key == "answer.gaps"
    assert (found.values["baseline"], found.values["candidate"]) == ("lenet", "resnet")
    assert (found.values["baseline_gap"], found.values["candidate_gap"]) == pytest.approx((-0.01, 0.08))


def test_classes_are_named_only_if_their_interval_excludes_0():
    inputs = build_inputs(num_samples=2000, resnet=0.895)
    data = inputs["predictions"]["resnet"]
    bags = data["y_true"] == CLASS_NAMES.index("Bag")
    data["y_prob"][:, bags] = np.eye(10, dtype=np.float32)[CLASS_NAMES.index("Sandal")]
    comparison = build_comparison(**inputs)
    found = answer(comparison, "classes")[0].values
    assert {row["class_name"] for row in found["worse"]} == {"Bag", "Sandal"}
    assert comparison.differences[0].class_name == "Bag"
    assert comparison.differences[0].candidate == 0
    clear = {row.class_name for row in comparison.differences if row.low > 0 or row.high < 0}
    assert clear == {row["class_name"] for row in found["worse"] + found["better"]}


def test_most_confused_pairs_are_those_of_the_counts(comparison):
    model = comparison.models[0]
    counts = np.array(model.counts)
    shares = counts / counts.sum(axis=1, keepdims=True)
    np.fill_diagonal(shares, 0)
    first = model.confused[0]
    assert first.share == pytest.approx(shares.max())
    assert (first.true_class, first.predicted_class) == ("Shirt", "T-shirt/top")
    assert [pair.share for pair in model.confused] == sorted((pair.share for pair in model.confused), reverse=True)


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


def test_a_models_interval_keeps_the_confidence_that_it_was_computed_with():
    comparison = build_comparison(**build_inputs(num_samples=300) | {"confidence": 0.9})
    assert {model.confidence for model in comparison.models} == {0.95}
    assert find(comparison.notes, "note.wilson").values["confidence"] == 0.95
    assert find(comparison.notes, "note.f1").values["confidence"] == 0.9


def test_without_times_cost_is_parameters():
    comparison = build_comparison(**build_inputs(num_samples=300) | {"timings": {}})
    assert [row["cost"] for row in comparison.cost[0].values["ratios"]] == ["parameters", "operations"]
    assert answer(comparison, "costs")[0].key == "answer.costs_untimed"
    assert comparison.recommendations[1].key == "recommend.small"
    assert answer(comparison, "slower")[0].key == "answer.no_time"
    assert find(comparison.warnings, "warning.untimed").values["models"] == list(MODELS)


def test_recommendations_name_the_most_accurate_and_the_fastest(comparison):
    accuracy, cost = comparison.recommendations
    assert accuracy.values["model"] == max(comparison.models, key=lambda model: model.test_accuracy).name
    assert (cost.key, cost.values["model"], cost.values["best"]) == ("recommend.fast", "lenet", "resnet")
    assert cost.values["given_up"] == pytest.approx(comparison.pairs[0].value)


def test_a_cheap_model_beyond_the_margin_is_not_recommended():
    inputs = build_inputs(num_samples=500, lenet=0.7)
    _, cost = build_comparison(**{**inputs, "margin": 0.01}).recommendations
    assert cost.values["model"] != "lenet"
    _, cost = build_comparison(**{**inputs, "margin": 0.5}).recommendations
    assert cost.values["model"] == "lenet"


@pytest.mark.parametrize(("high", "chosen"), [(0.0101, "resnet"), (0.01, "lenet")])
def test_a_cheap_model_must_be_within_the_margin_for_certain(high, chosen):
    models = {name: MODELS[name] for name in ("lenet", "resnet")}
    comparison = build_comparison(**build_inputs(num_samples=300, resnet=0.93, models=models))
    pair = replace(comparison.pairs[0], value=0.005, low=0.0, high=high)
    turned = replace(pair, baseline="resnet", candidate="lenet", value=-0.005, low=-high, high=0.0)
    for found in (pair, turned):
        _, cost = find_recommendations(replace(comparison, pairs=(found,)))
        assert cost.values["model"] == chosen
        assert cost.values["at_most"] == (0 if chosen == "resnet" else 0.01)


def test_a_model_that_is_best_and_fastest_is_recommended_for_both():
    found = build_comparison(**build_inputs(num_samples=500, lenet=0.99)).recommendations
    assert [finding.values["model"] for finding in found] == ["lenet", "lenet"]
    assert found[1].key == "recommend.fast_too"


def test_models_that_the_test_cannot_tell_from_the_best_are_named():
    comparison = build_comparison(**build_inputs(num_samples=300, resnet=0.93, finetune=0.93))
    best, tied = (comparison.recommendations[0].values[key] for key in ("model", "tied"))
    assert tied
    others = [model.name for model in comparison.models if model.name != best]
    assert tied == [name for name in others if decide_pair(comparison, comparison.get_pair(best, name)) is None]


def test_models_tested_on_different_images_are_refused():
    inputs = build_inputs(num_samples=300)
    inputs["predictions"]["resnet"]["y_true"] = inputs["predictions"]["resnet"]["y_true"][::-1]
    with pytest.raises(DataError, match="same test images"):
        build_comparison(**inputs)


def test_a_model_without_numbers_is_named():
    inputs = build_inputs(num_samples=300)
    del inputs["metrics"]["resnet"]
    with pytest.raises(DataError, match="metrics and predictions of resnet"):
        build_comparison(**inputs)


def test_no_number_is_missing_or_infinite(comparison):
    for row in (*comparison.models, *comparison.pairs, *comparison.differences):
        assert all(math.isfinite(value) for value in vars(row).values() if isinstance(value, float))


def test_confidence_widens_every_interval():
    inputs = build_inputs(num_samples=500)
    narrow, wide = (build_comparison(**inputs | {"confidence": confidence}) for confidence in (0.8, 0.99))
    assert wide.pairs[0].low < narrow.pairs[0].low
    by_name = {row.class_name: row for row in wide.differences}
    assert all(by_name[row.class_name].low <= row.low for row in narrow.differences)
