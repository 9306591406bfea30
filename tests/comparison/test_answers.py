"""What a comparison answers to the questions of the study, rule by rule."""

from types import SimpleNamespace

import numpy as np
import pytest

from cotejo.comparison.answers import compute_ratio
from cotejo.comparison.pairs import build_claims
from cotejo.evaluation.scores import score_losses
from cotejo.report.render import render_html
from synthetic_study import CLASS_NAMES, build_comparison, build_inputs, keep_seeds, measure_again


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


def change(inputs, name, key, do):
    """Changes an array of a model's predictions by image."""
    arrays = inputs["predictions"][name]
    arrays[key] = do(arrays[key]).astype(arrays[key].dtype)


def sharpen(y_prob):
    """Makes probabilities surer, the most of the least sure; no answer changes."""
    powers = y_prob.astype(np.float64) ** 4
    return powers / powers.sum(axis=2, keepdims=True)


#: A score of the exploratory questions: the question, how its findings begin, the claim, and what makes resnet better.
CLAIMS = {
    "losses": ("trained", "trained", "val_cross_entropy", lambda inputs: change(inputs, "resnet", "val_losses",
                                                                            lambda losses: 0.7 * losses)),
    "confidence": ("trust", "calibrated", "confidence_gap", lambda inputs: change(inputs, "resnet", "y_prob", sharpen)),
    "corruptions": ("robustness", "robust", "corrupted_accuracy",
                    lambda inputs: change(inputs, "resnet", "corrupted_correct",
                                          lambda counts: np.minimum(25, counts + 3))),
}  # fmt: skip


def build_twins(num_seeds, num_samples=600):
    """Inputs of a study in which resnet's predictions are lenet's."""
    inputs = build_inputs(num_samples=num_samples, num_seeds=num_seeds)
    inputs["predictions"]["resnet"] = {key: array.copy() for key, array in inputs["predictions"]["lenet"].items()}
    measure_again(inputs, "resnet")
    return inputs


@pytest.mark.parametrize("num_seeds", [1, 3])
@pytest.mark.parametrize("claim", CLAIMS)
def test_a_clear_difference_is_found(claim, num_seeds):
    question, key, name, plant = CLAIMS[claim]
    inputs = build_twins(num_seeds)
    plant(inputs)
    comparison = build_comparison(**inputs)
    found = answer(comparison, question)[0]
    assert (found.key, found.values["better"], found.values["other"]) == (f"answer.{key}_better", "resnet", "lenet")
    assert found.values["is_one_training"] == (num_seeds == 1)
    kept = comparison.claims[name]
    assert (found.values["better_value"], found.values["other_value"]) == (kept.candidate, kept.baseline)
    assert kept.value == pytest.approx(kept.candidate - kept.baseline)
    assert (found.values["low"], found.values["high"]) == (kept.low, kept.high)
    assert kept.low < kept.value < kept.high


@pytest.mark.parametrize("claim", CLAIMS)
def test_a_difference_is_stated_as_that_of_the_better_model(claim):
    question, key, name, plant = CLAIMS[claim]
    inputs = build_twins(3)
    plant(inputs)
    comparison = build_comparison(**inputs | {"baseline": "resnet", "candidate": "lenet"})
    found, kept = answer(comparison, question)[0], comparison.claims[name]
    assert (found.key, found.values["better"]) == (f"answer.{key}_better", "resnet")
    # the claim is lenet minus resnet, the sentence resnet's
    assert (found.values["low"], found.values["high"]) == (-kept.high, -kept.low)


@pytest.mark.parametrize("num_seeds", [1, 3])
@pytest.mark.parametrize("claim", CLAIMS)
def test_the_same_predictions_are_not_decided(claim, num_seeds):
    question, key, name, _ = CLAIMS[claim]
    comparison = build_comparison(**build_twins(num_seeds))
    assert answer(comparison, question)[0].key == f"answer.{key}_unclear"
    assert comparison.claims[name].value == 0
    assert comparison.claims[name].low < 0 < comparison.claims[name].high


def test_claims_are_means_of_what_each_image_brings():
    inputs = build_inputs(num_samples=300, num_seeds=3)
    claims = build_comparison(**inputs).claims
    for side, name in (("baseline", "lenet"), ("candidate", "resnet")):
        arrays = inputs["predictions"][name]
        y_prob = arrays["y_prob"].astype(np.float64)
        gap = y_prob.max(axis=2).mean() - (y_prob.argmax(axis=2) == arrays["y_true"]).mean()
        assert getattr(claims["val_cross_entropy"], side) == pytest.approx(arrays["val_losses"].mean(), rel=1e-5)
        assert getattr(claims["confidence_gap"], side) == pytest.approx(abs(gap), rel=1e-5)
        assert getattr(claims["corrupted_accuracy"], side) == pytest.approx(arrays["corrupted_correct"].mean() / 25)


@pytest.mark.parametrize("claim", CLAIMS)
def test_more_seeds_on_the_same_images_do_not_shrink_an_interval(claim):
    _, _, name, _ = CLAIMS[claim]
    widths = {}
    for count in (2, 20):
        inputs = build_inputs(num_samples=300, num_seeds=1)
        for model in ("lenet", "resnet"):
            # trainings that answer alike: what differs are the images alone
            for key in ("y_prob", "val_losses", "val_correct", "corrupted_correct"):
                change(inputs, model, key, lambda array, count=count: np.repeat(array, count, axis=0))
            inputs["predictions"][model]["seeds"] = np.arange(count)
            rows = inputs["metrics"][model]["per_seed"]
            rows += [rows[0] | {"seed": seed} for seed in range(1, count)]
        kept = build_comparison(**inputs).claims[name]
        widths[count] = kept.high - kept.low
    assert widths[20] == pytest.approx(widths[2], rel=1e-6)


@pytest.mark.parametrize("num_seeds", [2, 20])
def test_images_that_suit_one_model_by_luck_seldom_make_it_better(num_seeds):
    generator = np.random.default_rng(11)
    alarms = 0
    for _ in range(200):
        # what an image costs either model is drawn once; its seeds hardly differ
        of_images = generator.exponential(0.3, size=(2, 1, 150))
        sides = of_images + 0.01 * generator.normal(size=(2, num_seeds, 150))
        claims = build_claims(SimpleNamespace(claims={"loss": tuple(map(score_losses, sides))}), 0.95)
        alarms += claims["loss"].is_clear
    assert alarms <= 19  # 10 expected, plus three standard deviations


def test_a_smoothed_validation_loss_does_not_decide_who_trained_better():
    inputs = build_twins(3)
    change(inputs, "resnet", "val_losses", lambda losses: 0.7 * losses)
    for row in inputs["metrics"]["resnet"]["per_seed"]:
        row["val_loss"] = 9.0
    found = answer(build_comparison(**inputs), "trained")[0]
    assert (found.key, found.values["better"]) == ("answer.trained_better", "resnet")
    assert found.values["better_value"] < 1


def test_one_training_of_one_model_is_said_beside_the_difference(comparison):
    inputs = build_twins(3)
    change(inputs, "resnet", "val_losses", lambda losses: 0.7 * losses)
    keep_seeds(inputs, "lenet", 1)
    found = answer(build_comparison(**inputs), "trained")[0]
    assert (found.key, found.values["is_one_training"]) == ("answer.trained_better", True)
    assert not answer(comparison, "trained")[0].values["is_one_training"]


@pytest.mark.parametrize(("one", "other", "ratio"), [(6, 3, 2), (0, 3, 0), (3, 0, None), (None, 3, None),
                                                    (3, None, None), (0.0, 0.0, None)])  # fmt: skip
def test_a_ratio_needs_both_numbers_and_something_to_divide_by(one, other, ratio):
    assert compute_ratio(one, other) == ratio


def test_classes_are_named_only_if_their_interval_excludes_0():
    inputs = build_inputs(num_samples=2000, resnet=0.895)
    data = inputs["predictions"]["resnet"]
    bags = data["y_true"] == CLASS_NAMES.index("Bag")
    data["y_prob"][:, bags] = np.eye(10, dtype=np.float32)[CLASS_NAMES.index("Sandal")]
    measure_again(inputs, "resnet")
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


def test_every_two_trainings_are_compared_too(comparison):
    pair = comparison.pairs[0]
    assert [(row.seed_baseline, row.seed_candidate) for row in pair.mcnemar] == [(0, 0), (1, 1)]
    data = build_inputs(resnet=0.93)["predictions"]
    for row, a, b in zip(pair.mcnemar, *(data[name]["y_prob"].argmax(-1) for name in ("lenet", "resnet")), strict=True):
        correct_a, correct_b = a == data["lenet"]["y_true"], b == data["lenet"]["y_true"]
        assert (row.only_baseline, row.only_candidate) == (
            (correct_a & ~correct_b).sum(),
            (correct_b & ~correct_a).sum(),
        )
    assert 0 < pair.image_share <= 1
    assert 0 < pair.detectable <= pair.detectable_high


def test_with_one_training_each_nothing_is_said_of_seeds():
    comparison = build_comparison(**build_inputs(num_samples=300, num_seeds=1))
    assert {(pair.num_seeds, pair.image_share, len(pair.mcnemar)) for pair in comparison.pairs} == {(1, None, 1)}
    assert {model.seed_spread for model in comparison.models} == {None}
    for pair in comparison.pairs:
        assert (pair.low, pair.high) == pytest.approx((pair.files_low, pair.files_high))
        assert pair.detectable == pair.detectable_high
    for question in ("trained", "trust", "robustness", "classes"):
        assert answer(comparison, question)[0].values["is_one_training"]


def set_seeds(inputs, model, **columns):
    """Sets what each seed of a model measured."""
    for key, values in columns.items():
        for row, value in zip(inputs["metrics"][model]["per_seed"], values, strict=True):
            row[key] = value


def test_training_beyond_the_best_epoch_is_said():
    inputs = build_inputs(num_samples=300)
    set_seeds(inputs, "lenet", epochs=[10, 10], min_val_epoch=[4, 6], best_epoch=[4, 6])
    set_seeds(inputs, "resnet", epochs=[10, 10], min_val_epoch=[10, 10], best_epoch=[10, 10])
    lenet, resnet = answer(build_comparison(**inputs), "trained")[1:]
    assert (lenet.key, lenet.values["model"]) == ("answer.overfits", "lenet")
    expected = {"min_val_epoch": 5, "epochs": 10, "num_seeds": 2}
    assert {key: lenet.values[key] for key in expected} == pytest.approx(expected)
    assert (resnet.key, resnet.values["model"]) == ("answer.improves", "resnet")


@pytest.mark.parametrize(
    ("gap", "low", "high", "key", "size"),
    [
        (0.03, 0.01, 0.05, "overconfident", (0.01, 0.05)),
        (-0.03, -0.05, -0.01, "underconfident", (0.01, 0.05)),
        (0.03, -0.01, 0.07, "about_confident", None),
        (-0.03, -0.07, 0.01, "about_confident", None),
    ],
)
def test_the_interval_says_whether_a_model_is_too_sure(gap, low, high, key, size):
    inputs = build_inputs(num_samples=300)
    metrics = inputs["metrics"]["lenet"]
    metrics |= {"test_confidence_gap": gap, "test_confidence_gap_low": low, "test_confidence_gap_high": high}
    found = answer(build_comparison(**inputs), "trust")[1]
    values = found.values
    assert (found.key, values["model"], values["coverage"]) == (f"answer.{key}", "lenet", 0.8)
    assert (values["gap"], values["gap_low"], values["gap_high"]) == (gap, low, high)
    assert size is None or (values["size_low"], values["size_high"]) == size
    risks = tuple(metrics[f"test_selective_risk{end}"] for end in ("", "_low", "_high"))
    assert (values["risk"], values["risk_low"], values["risk_high"]) == risks


def test_the_worst_corruption_is_named_with_its_hardest_severity():
    inputs = build_inputs(num_samples=300)
    rows = inputs["metrics"]["resnet"]["robustness"]
    for row in rows:
        row |= {"accuracy": {"contrast": 0.4, "none": 0.9}.get(row["corruption"], 0.7), "low": 0.1, "high": 0.99}
    rows[-1]["accuracy"] = 0.2  # once lower than any contrast, but not over all severities
    found = answer(build_comparison(**inputs), "robustness")[2].values
    assert (found["model"], found["worst"], found["severity"]) == ("resnet", "contrast", 5)
    assert (found["hardest_low"], found["hardest_high"]) == (0.1, 0.99)
    assert (found["clean"], found["worst_accuracy"], found["hardest_accuracy"]) == pytest.approx((0.9, 0.4, 0.4))
