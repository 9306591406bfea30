"""Which archive the study puts forward: that of the recommended model, its seed chosen without the test images."""

from dataclasses import replace

import pytest

from cotejo.comparison.champion import find_champion
from cotejo.comparison.verdict import build_comparison
from synthetic_study import MODELS, build_inputs, digest_of


@pytest.fixture(scope="module")
def inputs():
    return build_inputs(num_samples=300, num_seeds=3)


@pytest.fixture(scope="module")
def comparison(inputs):
    return build_comparison(**inputs)


def recommend(comparison, model, tied):
    accuracy, cost, *_ = comparison.recommendations
    values = {"model": model, "accuracy": 0.9, "tied": tied, "as_good": []}
    return replace(comparison, recommendations=(replace(accuracy, values=values), cost))


def set_seeds(comparison, name, **columns):
    model = comparison.get_model(name)
    seeds = tuple(
        replace(seed, **{key: values[row] for key, values in columns.items()}) for row, seed in enumerate(model.seeds)
    )
    models = tuple(replace(model, seeds=seeds) if other is model else other for other in comparison.models)
    return replace(comparison, models=models)


def test_it_is_the_model_that_the_report_recommends_for_accuracy(comparison, inputs):
    for name in MODELS:
        champion = find_champion(recommend(comparison, name, []), inputs["metrics"])
        seed = int(champion["tags"]["seed"])
        assert champion["tags"]["model"] == name
        assert champion["path"] == f"models/{name}/seed-{seed}/model.keras"
        assert champion["sha256"] == digest_of(name, seed)


@pytest.mark.parametrize(
    ("losses", "accuracies", "chosen"),
    [((0.3, 0.2, 0.4), (0.99, 0.80, 0.99), 1), ((0.3, 0.3, 0.2), (0.9, 0.9, 0.1), 2), ((0.3, 0.3, 0.3), (1, 2, 3), 0)],
    ids=["best-on-test-loses", "worst-on-test-wins", "first-of-equals"],
)
def test_the_seed_is_chosen_by_validation_images_whatever_the_test_images_say(
    comparison, inputs, losses, accuracies, chosen
):
    changed = set_seeds(comparison, "resnet", val_cross_entropy=losses, test_accuracy=accuracies)
    champion = find_champion(recommend(changed, "resnet", []), inputs["metrics"])
    assert (champion["sha256"], champion["tags"]["seed"]) == (digest_of("resnet", chosen), str(chosen))


def test_models_that_can_not_be_told_apart_are_its_equals_with_all_their_seeds(comparison, inputs):
    champion = find_champion(recommend(comparison, "resnet", ["finetune"]), inputs["metrics"])
    assert set(champion["equals"]) == {digest_of(name, seed) for name in ("resnet", "finetune") for seed in range(3)}
    assert set(champion["compared"]) == {digest_of(name, seed) for name in MODELS for seed in range(3)}
    assert champion["tags"]["tied"] == "finetune"


def test_a_reader_of_the_registry_sees_the_scores_with_their_interval_and_the_commit(comparison, inputs):
    champion = find_champion(comparison, inputs["metrics"])
    model = comparison.get_model(champion["tags"]["model"])
    tags = champion["tags"]
    shown = ("test_accuracy", "test_accuracy_low", "test_accuracy_high", "test_macro_f1")
    assert [float(tags[key]) for key in shown] == [getattr(model, key) for key in shown]
    assert (tags["git.commit"], tags["git.dirty"], tags["data.sha256"]) == (
        inputs["facts"]["git_commit"], "false", inputs["dataset"]["digest"])  # fmt: skip
    assert f"95% interval {model.test_accuracy_low:.2%} to {model.test_accuracy_high:.2%}" in champion["description"]
