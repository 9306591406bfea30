"""Bootstrap intervals against scipy's own resampling of whole images."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.special import softmax
from sklearn.metrics import f1_score

from cotejo.evaluation.uncertainty import bootstrap_macro_f1, bootstrap_mean, choose_num_resamples, group_values


def predict(generator, y_true, num_seeds, accuracy, num_classes):
    wrong = generator.integers(0, num_classes, size=(num_seeds, len(y_true)))
    return np.where(generator.random((num_seeds, len(y_true))) < accuracy, y_true, wrong)


def compute_macro_f1(y_true, y_pred, num_classes):
    """Of one seed, by counting: scikit-learn's takes too long for thousands of resamples."""
    true, predicted = np.eye(num_classes)[y_true], np.eye(num_classes)[y_pred]
    found, named = (true * predicted).sum(axis=0), true.sum(axis=0) + predicted.sum(axis=0)
    return np.divide(2 * found, named, out=np.zeros(num_classes), where=named > 0).mean()


@pytest.fixture(scope="module")
def losses():
    generator = np.random.default_rng(4)
    y_prob = softmax(generator.normal(size=(3000, 10)) + 5 * np.eye(10)[np.arange(3000) % 10], axis=1)
    return -np.log(y_prob[np.arange(3000), np.arange(3000) % 10])


def test_the_interval_of_macro_f1_is_that_of_resampled_images():
    generator = np.random.default_rng(0)
    y_true = generator.integers(0, 4, 250)
    y_pred = predict(generator, y_true, 2, 0.7, 4)

    def compute_f1(index):
        return np.mean([compute_macro_f1(y_true[index], row[index], 4) for row in y_pred])

    scores = [f1_score(y_true, row, labels=range(4), average="macro") for row in y_pred]
    assert compute_f1(np.arange(250)) == pytest.approx(np.mean(scores))
    expected = stats.bootstrap(
        (np.arange(250),), compute_f1, n_resamples=4000, vectorized=False, method="percentile", confidence_level=0.9,
        rng=np.random.default_rng(5),
    ).confidence_interval  # fmt: skip
    found = bootstrap_macro_f1(y_true, y_pred, 4, 0.9, num_resamples=20_000)
    width = expected.high - expected.low
    assert (found.low, found.high) == pytest.approx(expected, abs=0.05 * width)
    assert found.low < compute_f1(np.arange(250)) < found.high


def test_a_class_that_no_image_has_scores_0_as_in_scikit_learn():
    # 0 and 1 always right, 2 neither present nor predicted: macro F1 2/3 in every resample that holds both
    y_true = np.arange(40) % 2
    assert bootstrap_macro_f1(y_true, y_true[None], 3, 0.95) == pytest.approx((2 / 3, 2 / 3))


@pytest.mark.parametrize("num_classes", [2, 10, 300])
def test_many_seeds_and_classes_are_told_apart(num_classes):
    """300 classes to the 8th power have no room in a 64-bit number."""
    generator = np.random.default_rng(1)
    y_true = generator.integers(0, num_classes, 60)
    y_pred = predict(generator, y_true, 7, 0.8, num_classes)
    found = bootstrap_macro_f1(y_true, y_pred, num_classes, 0.9, num_resamples=2000)
    resampled = [
        np.mean([compute_macro_f1(y_true[index], row[index], num_classes) for row in y_pred])
        for index in generator.integers(0, 60, (200, 60))
    ]
    low, high = np.quantile(resampled, [0.05, 0.95])
    assert found == pytest.approx((low, high), abs=0.25 * (high - low))


def test_the_interval_of_the_loss_is_that_of_resampled_images(losses):
    expected = stats.bootstrap(
        (losses,), np.mean, n_resamples=6000, method="percentile", batch=500, rng=np.random.default_rng(5)
    ).confidence_interval
    found = bootstrap_mean(losses, 0.95, num_resamples=20_000)
    assert found == pytest.approx(tuple(expected), abs=0.03 * (expected.high - expected.low))


@given(st.lists(st.floats(0, 36), min_size=2, max_size=300))
def test_groups_keep_the_mean_and_all_but_a_hundred_thousandth_of_the_variance(values):
    values = np.array(values)
    means, sizes = group_values(values)
    assert sizes.sum() == len(values)
    assert np.average(means, weights=sizes) == pytest.approx(values.mean())
    variance = np.average((means - values.mean()) ** 2, weights=sizes)
    assert variance == pytest.approx(values.var(), rel=1.4e-5, abs=1e-25)


@pytest.mark.parametrize("spread", [1e-3, 1e-9, 0])
def test_the_equal_losses_of_an_untrained_net_keep_their_spread(spread):
    values = np.log(10) + spread * np.random.default_rng(0).normal(size=5000)
    found = bootstrap_mean(values, 0.95)
    assert found.high - found.low == pytest.approx(2 * 1.96 * spread / np.sqrt(5000), rel=0.05, abs=1e-14)


def test_the_same_predictions_have_the_same_interval_again(losses):
    y_true = np.arange(300) % 3
    y_pred = predict(np.random.default_rng(0), y_true, 2, 0.9, 3)
    first, again = (bootstrap_macro_f1(y_true, y_pred, 3, 0.95, num_resamples=500) for _ in range(2))
    assert first == again
    first, again = (bootstrap_mean(losses, 0.95, num_resamples=500) for _ in range(2))
    assert first == again


@pytest.mark.parametrize(("confidence", "expected"), [(0.5, 4000), (0.95, 4000), (0.995, 40_000), (0.9999, 100_000)])
def test_a_rarer_miss_needs_more_resamples_up_to_a_bound(confidence, expected):
    assert choose_num_resamples(confidence) == expected


def test_a_million_images_take_seconds():
    generator = np.random.default_rng(2)
    y_true = generator.integers(0, 10, 1_000_000)
    y_pred = predict(generator, y_true, 3, 0.93, 10)
    values = generator.exponential(0.3, 1_000_000)
    start = time.process_time()
    bootstrap_macro_f1(y_true, y_pred, 10, 0.95)
    bootstrap_mean(values, 0.95)
    assert time.process_time() - start < 15  # 3 on a machine of 2026 with nothing else to do
