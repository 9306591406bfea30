"""The predictions that compare reads: what it refuses, and what it holds of many models and images at once."""

import itertools
import weakref
from collections.abc import Mapping

import numpy as np
import pytest

from cotejo.errors import DataError
from synthetic_study import build_comparison, build_inputs, keep_seeds, measure_again

#: What else evaluate keeps of each image, of one training.
BY_IMAGE = {
    key: array
    for key, array in build_inputs(num_samples=100, num_seeds=1)["predictions"]["lenet"].items()
    if key not in ("seeds", "y_true", "y_prob")
}


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
        is_correct = generator.random((1, len(self.y_true))) < self.accuracies[name]
        predicted = np.where(is_correct, self.y_true, (self.y_true + 1) % 10)
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
        arrays = {
            "seeds": lambda: np.array([0]),
            "y_true": lambda: self.files.y_true,
            "y_prob": lambda: self.files.predict(self.name),
            **{name: lambda: BY_IMAGE[key] for name in BY_IMAGE},
        }
        return arrays[key]()  # fmt: skip

    def __iter__(self):
        return iter(("seeds", "y_true", "y_prob", *BY_IMAGE))

    def __len__(self):
        return 3 + len(BY_IMAGE)


@pytest.fixture(scope="module")
def files():
    return Files(num_models=20, num_samples=3000)


@pytest.fixture(scope="module")
def comparison(files):
    inputs = build_inputs(num_samples=100, num_seeds=1)
    metrics = {}
    for name in files:
        accuracy = float((files.predict(name)[0].argmax(-1) == files.y_true).mean())
        (row,) = inputs["metrics"]["lenet"]["per_seed"]
        metrics[name] = inputs["metrics"]["lenet"] | {"per_seed": [row | {"test_accuracy": accuracy}]}
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


def put(key, do):
    """Returns what changes an array of resnet's predictions."""

    def damage(inputs):
        arrays = inputs["predictions"]["resnet"]
        arrays[key] = do(arrays[key].copy())

    return damage


def write(value, index):
    def do(array):
        array[index] = value
        return array

    return do


def train_again(inputs):
    """Puts the predictions of other trainings in the place of those that the metrics are of."""
    arrays = inputs["predictions"]["resnet"]
    arrays["y_prob"] = np.roll(arrays["y_prob"], 1, axis=1)


def rename_seed(inputs):
    inputs["metrics"]["resnet"]["per_seed"][1]["seed"] = 7


@pytest.mark.parametrize(
    ("damage", "received"),
    [
        (put("y_true", lambda labels: labels[::-1]), "test images of lenet in the same order.* other true classes"),
        (put("images_sha256", lambda _: np.array("cd34" * 16)), "test images of lenet.* another digest of the images"),
        (put("y_prob", write(np.nan, (1, 3))), r"sum to 1 for each image\. Received: .* nan\."),
        (put("y_prob", write(np.inf, (0, 0, 2))), "sum to 1 for each image"),
        (put("y_prob", lambda y_prob: 1.001 * y_prob), r"sum to 1 for each image\. Received: .* sum of 1\.001\."),
        (put("y_prob", write([1.5, -0.5, *[0] * 8], (0, 0))), "probabilities from 0 to 1"),
        (put("y_prob", lambda y_prob: y_prob[:, :-1]), r"y_prob of shape .* Received: \(2, 299, 10\)"),
        (put("y_prob", lambda y_prob: y_prob[:1]), r"Received: \(1, 300, 10\) for 2 seeds and 300 images"),
        (put("y_prob", lambda y_prob: y_prob[0]), r"Received: \(300, 10\)"),
        (put("val_losses", write(np.nan, (1, 3))), r"val_losses .* 0 or more nats\. Received: .* 1 of which aren't"),
        (put("val_losses", write(-0.5, (0, slice(2)))), "val_losses .* 2 of which aren't"),
        (put("val_losses", lambda losses: losses[:, 1:]), r"val_losses of shape \(2, 300\).* \(2, 299\)\."),
        (put("val_correct", lambda correct: correct[:1]), r"val_correct of shape \(2, 300\).* \(1, 300\)\."),
        (put("val_correct", lambda correct: correct.astype(float)),
         r"val_correct .* each true or false\. Received: .* 600 of which aren't"),
        (put("corrupted_correct", write(26, (0, 1))), "corrupted_correct .* each 0 to 25. Received: .* 1 of which"),
        (put("corrupted_correct", lambda counts: counts[:, 1:]), "corrupted_correct of shape"),
        (train_again, r"predictions of reports/metrics/resnet\.json, with accuracies by seed of 0: 0\..*, 1: 0\."),
        (rename_seed, r"by seed of 0: 0\.\d+, 7: 0\.\d+\. Received: 0: 0\.\d+, 1: 0\.\d+\."),
    ],
    ids=["other-classes", "other-digest", "nan", "infinite", "sum", "negative", "images", "seeds", "shape",
         "loss-nan", "loss-negative", "loss-images", "val-seeds", "val-numbers", "corrupted-count", "corrupted-images",
         "other-trainings", "other-seeds"],
)  # fmt: skip
def test_predictions_that_can_not_be_compared_are_refused_in_one_line(damage, received):
    inputs = build_inputs(num_samples=300)
    damage(inputs)
    with pytest.raises(DataError, match=received) as caught:
        build_comparison(**inputs)
    line = str(caught.value)
    assert "reports/predictions/resnet.npz" in line
    assert "dvc repro" in line
    assert "\n" not in line


def test_rounding_of_float32_is_no_fault():
    inputs = build_inputs(num_samples=300)
    arrays = inputs["predictions"]["resnet"]
    arrays["y_prob"] = arrays["y_prob"] * np.float32(1 + 3e-7)
    measure_again(inputs, "resnet")
    assert build_comparison(**inputs)


@pytest.mark.parametrize("num_images", [0, 1])
def test_fewer_than_two_images_are_refused(num_images):
    inputs = build_inputs(num_samples=300)
    for arrays in inputs["predictions"].values():
        arrays["y_true"], arrays["y_prob"] = arrays["y_true"][:num_images], arrays["y_prob"][:, :num_images]
    with pytest.raises(DataError, match=rf"at least 2 test images .* Received: {num_images}\. .*test_fraction"):
        build_comparison(**inputs)


def test_models_with_other_numbers_of_seeds_are_compared():
    inputs = build_inputs(num_samples=600, num_seeds=4)
    keep_seeds(inputs, "resnet", 2)
    comparison = build_comparison(**inputs)
    pair = comparison.pairs[0]
    means, spreads = [], []
    for name in ("lenet", "resnet"):
        arrays = inputs["predictions"][name]
        accuracies = (arrays["y_prob"].argmax(axis=2) == arrays["y_true"]).mean(axis=1)
        means.append(accuracies.mean())
        spreads.append(comparison.get_model(name).seed_spread)
        assert spreads[-1] == pytest.approx(accuracies.std(ddof=1))
    assert pair.value == pytest.approx(means[1] - means[0])
    assert pair.low < pair.value < pair.high
    # two trainings of the one are compared with the first two of the other
    assert pair.num_seeds == 2
    assert [(row.seed_baseline, row.seed_candidate) for row in pair.mcnemar] == [(0, 0), (1, 1)]
    assert comparison.get_pair("lenet", "finetune").num_seeds == 4
