"""Many models and many images: what compare holds of them at once, and what it makes of them."""

import itertools
import weakref
from collections.abc import Mapping

import numpy as np
import pytest

from cotejo.comparison.verdict import build_comparison
from synthetic_study import build_inputs


class Files(Mapping):
    """Predictions of many models, made anew when asked for; knows how many probabilities are held at once."""

    def __init__(self, num_models, num_samples):
        self.accuracies = {f"model-{index}": 0.80 + 0.01 * index for index in range(num_models)}
        self.y_true = np.arange(num_samples) % 10
        self.num_held = self.most_held = 0

    def __getitem__(self, name):
        return File(self, name)

    def __iter__(self):
        return iter(self.accuracies)

    def __len__(self):
        return len(self.accuracies)

    def predict(self, name):
        generator = np.random.default_rng(list(self.accuracies).index(name))
        right = generator.random((1, len(self.y_true))) < self.accuracies[name]
        predicted = np.where(right, self.y_true, (self.y_true + 1) % 10)
        y_prob = np.full((*predicted.shape, 10), 0.05, dtype=np.float32)
        np.put_along_axis(y_prob, predicted[..., None], 0.55, axis=-1)
        self.num_held += 1
        self.most_held = max(self.most_held, self.num_held)
        weakref.finalize(y_prob, self.let_go)
        return y_prob

    def let_go(self):
        self.num_held -= 1


class File(Mapping):
    def __init__(self, files, name):
        self.files, self.name = files, name

    def __getitem__(self, key):
        arrays = {"seeds": lambda: np.array([0]), "y_true": lambda: self.files.y_true,
                  "y_prob": lambda: self.files.predict(self.name)}  # fmt: skip
        return arrays[key]()

    def __iter__(self):
        return iter(("seeds", "y_true", "y_prob"))

    def __len__(self):
        return 3


@pytest.fixture(scope="module")
def files():
    return Files(num_models=20, num_samples=3000)


@pytest.fixture(scope="module")
def comparison(files):
    inputs = build_inputs(num_samples=100, num_seeds=1)
    metrics = dict.fromkeys(files, inputs["metrics"]["lenet"])
    stages = dict.fromkeys(files, ("train-lenet",))
    return build_comparison(**inputs | {"metrics": metrics, "predictions": files, "stages": stages,
                                        "baseline": "model-3", "candidate": "model-12"})  # fmt: skip


def test_twenty_models_are_compared_each_with_each(files, comparison):
    assert {frozenset((pair.baseline, pair.candidate)) for pair in comparison.pairs} == {
        frozenset(pair) for pair in itertools.combinations(files, 2)}  # fmt: skip
    accuracies = {name: (files.predict(name)[0].argmax(-1) == files.y_true).mean() for name in files}
    for pair in comparison.pairs:
        assert pair.value == pytest.approx(accuracies[pair.candidate] - accuracies[pair.baseline])
        assert pair.low < pair.value < pair.high
    assert (comparison.pairs[0].baseline, comparison.pairs[0].candidate) == ("model-3", "model-12")


def test_probabilities_of_no_more_than_two_models_are_held_at_once(files, comparison):
    assert len(comparison.errors) == 20
    assert files.most_held == 2
