"""What a comparison answers to the questions of the study, rule by rule."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from cotejo.comparison.answers import find_answers
from cotejo.comparison.verdict import (
    build_comparison,
)
from cotejo.report.render import render_html
from synthetic_study import CLASS_NAMES, build_inputs


@pytest.fixture(scope="module")
def comparison():
    return build_comparison(**build_inputs(resnet=0.93))


def find(findings, key):
    return next(finding for finding in findings if finding.key == key)


def answer(comparison, question):
    return next(entry.findings for entry in comparison.answers if entry.question == question)


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


@pytest.mark.parametrize(
    ("of_resnet", "key"),
    [(9900, "fewer"), (9960, "as_many"), (10_000, "as_many"), (10_400, "as_many"), (10_600, "more")],
)
def test_a_ratio_of_parameters_that_the_report_would_call_1_is_as_many(of_resnet, key):
    inputs = build_inputs(num_samples=300)
    inputs["metrics"]["lenet"]["parameters"], inputs["metrics"]["resnet"]["parameters"] = 10_000, of_resnet
    comparison = build_comparison(**inputs)
    assert answer(comparison, "slower")[1].key == f"answer.why_{key}"
    for language, said in (("en", "as many parameters"), ("es", "los mismos parámetros")):
        page = render_html(comparison, {}, language, gallery={})
        assert (said in " ".join(page.split())) == (key == "as_many")


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


def test_the_difference_is_shown_from_several_sides(comparison):
    found = find(answer(comparison, "tested"), "answer.evidence").values
    pair = comparison.pairs[0]
    assert found["bootstrap_low"] < pair.value < found["bootstrap_high"]
    assert (found["num_trainings"], len(pair.mcnemar)) == (2, 2)
    data = build_inputs(resnet=0.93)["predictions"]
    for row, a, b in zip(pair.mcnemar, *(data[name]["y_prob"].argmax(-1) for name in ("lenet", "resnet")), strict=True):
        right_a, right_b = a == data["lenet"]["y_true"], b == data["lenet"]["y_true"]
        assert (row.only_baseline, row.only_candidate) == ((right_a & ~right_b).sum(), (right_b & ~right_a).sum())
    accuracies = [[seed.test_accuracy for seed in comparison.get_model(name).seeds] for name in ("resnet", "lenet")]
    assert found["seeds_p_value"] == pytest.approx(stats.ttest_ind(*accuracies, equal_var=False).pvalue)
    assert 0 < found["image_share"] < 1


def test_with_one_training_each_nothing_is_said_of_seeds():
    comparison = build_comparison(**build_inputs(num_samples=300, num_seeds=1))
    found = find(answer(comparison, "tested"), "answer.evidence").values
    assert (found["seeds_p_value"], found["image_share"], found["num_trainings"]) == (None, None, 1)
    assert {model.seed_spread for model in comparison.models} == {None}
    assert find(answer(comparison, "trust"), "answer.calibrated_one_seed")


def set_seeds(inputs, model, **columns):
    """Sets what each seed of a model measured."""
    for key, values in columns.items():
        for row, value in zip(inputs["metrics"][model]["per_seed"], values, strict=True):
            row[key] = value


def test_training_beyond_the_best_epoch_is_said():
    inputs = build_inputs(num_samples=300)
    set_seeds(inputs, "lenet", epochs=[10, 10], min_val_epoch=[4, 6], best_epoch=[4, 6], final_gap=[0.3, 0.5],
              val_cross_entropy=[0.4, 0.4], train_cross_entropy=[0.3, 0.35])  # fmt: skip
    set_seeds(inputs, "resnet", epochs=[10, 10], min_val_epoch=[10, 10], best_epoch=[10, 10])
    lenet, resnet = answer(build_comparison(**inputs), "trained")[2:]
    assert (lenet.key, lenet.values["model"]) == ("answer.overfits", "lenet")
    expected = {"min_val_epoch": 5, "epochs": 10, "waited": 5, "kept_gap": 0.075, "final_gap": 0.4}
    assert {key: lenet.values[key] for key in expected} == pytest.approx(expected)
    assert (resnet.key, resnet.values["model"]) == ("answer.improves", "resnet")


@pytest.mark.parametrize(
    ("errors_of_lenet", "errors_of_resnet", "key"),
    [
        ([0.010, 0.011], [0.050, 0.051], "answer.calibrated_better"),
        ([0.010, 0.050], [0.020, 0.060], "answer.calibrated_unclear"),
    ],
)
def test_calibration_is_better_by_a_test_over_the_seeds(errors_of_lenet, errors_of_resnet, key):
    inputs = build_inputs(num_samples=300)
    for model, errors in (("lenet", errors_of_lenet), ("resnet", errors_of_resnet)):
        set_seeds(inputs, model, test_ece=errors)
        inputs["metrics"][model]["test_ece"] = np.mean(errors)
    found = answer(build_comparison(**inputs), "trust")[0]
    assert (found.key, found.values["low"], found.values["high"]) == (key, "lenet", "resnet")
    assert found.values["p_value"] == pytest.approx(
        stats.ttest_ind(errors_of_lenet, errors_of_resnet, equal_var=False).pvalue
    )


@pytest.mark.parametrize(
    ("temperatures", "key"),
    [
        ((1.38, 1.4, 1.41), "answer.overconfident"),
        ((0.9, 0.88, 0.91), "answer.underconfident"),
        ((1.0, 1.06, 1.09), "answer.about_confident"),
        ((1.4,), "answer.about_confident"),
    ],
)
def test_the_seeds_temperatures_say_whether_a_model_is_too_sure(temperatures, key):
    inputs = build_inputs(num_samples=300, num_seeds=len(temperatures))
    metrics = inputs["metrics"]["lenet"]
    metrics["temperature"] = float(np.mean(temperatures))
    for row, temperature in zip(metrics["per_seed"], temperatures, strict=True):
        row["temperature"] = temperature
    found = answer(build_comparison(**inputs), "trust")[1]
    assert (found.key, found.values["model"], found.values["coverage"]) == (key, "lenet", 0.8)
    expected = stats.ttest_1samp(np.log(temperatures), 0).pvalue if len(temperatures) > 1 else None
    assert found.values["p_value"] == (expected and pytest.approx(expected))
    points = {row["coverage"]: row["risk"] for row in inputs["metrics"]["lenet"]["risk_coverage"]}
    assert found.values["risk"] == points[0.8]


@pytest.mark.parametrize(
    ("of_lenet", "of_resnet", "key"),
    [
        ((0.75, 0.76, 0.74), (0.70, 0.71, 0.69), "answer.more_robust"),
        ((0.75, 0.70, 0.80), (0.70, 0.75, 0.65), "answer.robust_unclear"),
        ((0.75,), (0.70,), "answer.robust_one_seed"),
    ],
)
def test_the_seeds_say_which_model_holds_up_better(of_lenet, of_resnet, key):
    inputs = build_inputs(num_samples=300, num_seeds=len(of_lenet))
    for name, values in (("lenet", of_lenet), ("resnet", of_resnet)):
        metrics = inputs["metrics"][name]
        metrics["test_corrupted_accuracy"] = float(np.mean(values))
        for row, value in zip(metrics["per_seed"], values, strict=True):
            row["test_corrupted_accuracy"] = value
    found = answer(build_comparison(**inputs), "robustness")[0]
    assert (found.key, found.values["high"], found.values["low"]) == (key, "lenet", "resnet")
    if len(of_lenet) > 1:
        expected = stats.ttest_ind(of_lenet, of_resnet, equal_var=False).pvalue
        assert found.values["p_value"] == pytest.approx(expected)


def test_the_worst_corruption_is_named_with_its_hardest_severity():
    inputs = build_inputs(num_samples=300)
    rows = inputs["metrics"]["resnet"]["robustness"]
    for row in rows:
        row |= {"accuracy": {"contrast": 0.4, "none": 0.9}.get(row["corruption"], 0.7), "low": 0.1, "high": 0.99}
    rows[-1]["accuracy"] = 0.2  # once lower than any contrast, but not over all severities
    found = answer(build_comparison(**inputs), "robustness")[2].values
    assert (found["model"], found["worst"], found["severity"]) == ("resnet", "contrast", 5)
    assert (found["clean"], found["worst_accuracy"], found["hardest_accuracy"]) == pytest.approx((0.9, 0.4, 0.4))


def test_costs_of_use_are_listed(comparison):
    found = answer(comparison, "costs")
    assert [entry.values["model"] for entry in found] == ["lenet", "resnet"]
    assert (found[1].key, found[1].values["latency_p50_s"], found[1].values["operations"]) == (
        "answer.costs", 0.0042, 87_600_000)  # fmt: skip
