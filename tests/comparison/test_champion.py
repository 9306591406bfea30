"""Which archive the study puts forward: model and seed are chosen without the test images."""

from dataclasses import replace

import numpy as np
import pytest

from cotejo.comparison.champion import find_champion
from synthetic_study import MODELS, build_comparison, build_inputs, digest_of, load_metrics, measure_again


@pytest.fixture(scope="module")
def inputs():
    return build_inputs(num_samples=300, num_seeds=3)


@pytest.fixture(scope="module")
def comparison(inputs):
    return build_comparison(**inputs)


def serve(comparison, model, tied):
    return replace(comparison, served=model, served_ties=tuple(tied))


def set_val_accuracies(inputs, **accuracies):
    """Sets which validation images each model classifies correctly: the same images in the same order of difficulty."""
    for name, accuracy in accuracies.items():
        arrays = inputs["predictions"][name]
        num_images = arrays["val_correct"].shape[1]
        arrays["val_correct"] = np.tile(np.arange(num_images) < accuracy * num_images, (len(arrays["seeds"]), 1))


def shuffle_answers(inputs, name, seed=0):
    """Destroys a model's answers to the test images: each image gets another one's probabilities."""
    arrays = inputs["predictions"][name]
    arrays["y_prob"] = np.random.default_rng(seed).permutation(arrays["y_prob"], axis=1)
    measure_again(inputs, name)


def set_seeds(comparison, name, **columns):
    model = comparison.get_model(name)
    seeds = tuple(
        replace(seed, **{key: values[row] for key, values in columns.items()}) for row, seed in enumerate(model.seeds)
    )
    models = tuple(replace(model, seeds=seeds) if other is model else other for other in comparison.models)
    return replace(comparison, models=models)


def test_it_is_the_model_that_the_comparison_serves(comparison, inputs):
    for name in MODELS:
        champion = find_champion(serve(comparison, name, []), load_metrics(inputs["metrics"]))
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
    champion = find_champion(serve(changed, "resnet", []), load_metrics(inputs["metrics"]))
    assert (champion["sha256"], champion["tags"]["seed"]) == (digest_of("resnet", chosen), str(chosen))


@pytest.mark.parametrize("best", MODELS)
def test_the_best_model_on_the_validation_images_is_served_whatever_the_test_images_say(best):
    inputs = build_inputs(num_samples=300, num_seeds=3)
    set_val_accuracies(inputs, **(dict.fromkeys(MODELS, 0.8) | {best: 0.9}))
    before = build_comparison(**inputs)
    champion = find_champion(before, load_metrics(inputs["metrics"]))
    assert (before.served, before.served_ties, champion["tags"]["model"]) == (best, (), best)
    # the test images now speak against it, and then for nothing at all
    for names in ([best], list(MODELS)):
        for name in names:
            shuffle_answers(inputs, name)
        after = build_comparison(**inputs)
        assert after.get_model(best).test_accuracy < 0.3
        assert (after.served, after.served_ties) == (before.served, before.served_ties)
        again = find_champion(after, load_metrics(inputs["metrics"]))
        for key in ("path", "sha256", "compared", "equals"):
            assert again[key] == champion[key]
    assert (
        find_champion(after, load_metrics(inputs["metrics"]))["tags"]["test_accuracy"]
        != champion["tags"]["test_accuracy"]
    )


def test_models_that_the_validation_images_do_not_decide_between_are_named():
    inputs = build_inputs(num_samples=300, num_seeds=3)
    set_val_accuracies(inputs, lenet=0.60, resnet=0.9, transfer=0.893, finetune=0.75)
    comparison = build_comparison(**inputs)
    assert (comparison.served, comparison.served_ties) == ("resnet", ("transfer",))
    champion = find_champion(comparison, load_metrics(inputs["metrics"]))
    assert champion["tags"]["tied"] == "transfer"
    assert "On the validation images not decided against: transfer." in champion["description"]


def test_of_models_with_as_many_correct_validation_images_the_lower_cross_entropy_is_served():
    inputs = build_inputs(num_samples=300, num_seeds=2)
    set_val_accuracies(inputs, **dict.fromkeys(MODELS, 0.9))
    for lowest in MODELS:
        for name in MODELS:
            for row in inputs["metrics"][name]["per_seed"]:
                row["val_cross_entropy"] = 0.2 if name == lowest else 0.3
        comparison = build_comparison(**inputs)
        assert (comparison.served, set(comparison.served_ties)) == (lowest, set(MODELS) - {lowest})


def test_models_that_are_not_decided_are_its_equals_with_all_their_seeds(comparison, inputs):
    champion = find_champion(serve(comparison, "resnet", ["finetune"]), load_metrics(inputs["metrics"]))
    assert set(champion["equals"]) == {digest_of(name, seed) for name in ("resnet", "finetune") for seed in range(3)}
    assert set(champion["compared"]) == {digest_of(name, seed) for name in MODELS for seed in range(3)}
    assert champion["tags"]["tied"] == "finetune"


def test_a_reader_of_the_registry_sees_the_scores_with_their_interval_and_the_commit(comparison, inputs):
    champion = find_champion(comparison, load_metrics(inputs["metrics"]))
    model = comparison.get_model(champion["tags"]["model"])
    tags = champion["tags"]
    shown = ("val_accuracy", "val_accuracy_low", "val_accuracy_high", "test_accuracy", "test_accuracy_low",
             "test_accuracy_high", "test_macro_f1")  # fmt: skip
    assert [float(tags[key]) for key in shown] == [getattr(model, key) for key in shown]
    assert (tags["git.commit"], tags["git.dirty"], tags["data.sha256"]) == (
        inputs["facts"]["git_commit"], "false", inputs["dataset"]["digest"])  # fmt: skip
    assert f"95% interval {model.test_accuracy_low:.2%} to {model.test_accuracy_high:.2%}" in champion["description"]
