"""Scores against hand-worked values and plain counting; Wilson's interval has a file of its own."""

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cotejo.evaluation.metrics import (
    compute_class_scores,
    compute_scores,
    count_confusions,
    draw_sample,
    normalize_rows,
)
from cotejo.evaluation.predict import predict_probabilities

NUM_CLASSES = 3
#: Predicted 0 0 1 1: class 2 has a sample, but no prediction.
Y_TRUE = np.array([0, 0, 1, 2])
Y_PROB = np.array([[0.8, 0.1, 0.1], [0.5, 0.25, 0.25], [0.1, 0.7, 0.2], [0.2, 0.5, 0.3]], np.float32)


def test_scores_of_a_hand_worked_example():
    scores = compute_scores(Y_TRUE, Y_PROB, NUM_CLASSES)
    # precision 1, 1/2, 0 and recall 1, 1, 0, so F1 1, 2/3, 0; the classes have 2, 1 and 1 of the 4 samples
    assert scores == pytest.approx(
        {
            "test_accuracy": 3 / 4,
            "test_loss": -np.log([0.8, 0.5, 0.7, 0.3]).mean(),
            "test_macro_precision": (1 + 1 / 2 + 0) / 3,
            "test_macro_recall": 2 / 3,
            "test_macro_f1": (1 + 2 / 3 + 0) / 3,
            "test_weighted_precision": (2 * 1 + 1 / 2 + 0) / 4,
            "test_weighted_recall": 3 / 4,
            "test_weighted_f1": (2 * 1 + 2 / 3 + 0) / 4,
        },
        rel=1e-6,
    )


def test_a_class_without_a_sample_and_a_prediction_scores_zero_and_is_not_dropped():
    y_prob = np.pad(Y_PROB, ((0, 0), (0, 1)))
    with_empty, without = compute_scores(Y_TRUE, y_prob, NUM_CLASSES + 1), compute_scores(Y_TRUE, Y_PROB, NUM_CLASSES)
    assert with_empty["test_macro_f1"] == pytest.approx(without["test_macro_f1"] * 3 / 4)
    assert with_empty["test_weighted_f1"] == pytest.approx(without["test_weighted_f1"])


def test_a_confident_mistake_costs_much_and_not_infinitely_much():
    scores = compute_scores(np.array([1, 0]), np.array([[1, 0], [1, 0]], np.float32), 2)
    assert 10 < scores["test_loss"] < 100
    assert scores["test_accuracy"] == 0.5


def test_class_scores_are_means_over_the_seeds_with_a_row_for_every_class():
    y_pred = np.array([[0, 0, 1, 1], [0, 1, 1, 1]])
    table = compute_class_scores(Y_TRUE, y_pred, ["bag", "coat", "dress"]).set_index("class")
    assert list(table.index) == ["bag", "coat", "dress"]
    assert table["precision"].to_list() == pytest.approx([1, (1 / 2 + 1 / 3) / 2, 0])
    assert table["recall"].to_list() == pytest.approx([(1 + 1 / 2) / 2, 1, 0])
    assert table["f1"].to_list() == pytest.approx([(1 + 2 / 3) / 2, (2 / 3 + 1 / 2) / 2, 0])
    assert table["support"].to_list() == [2, 1, 1]


def labels(*shape):
    return arrays(np.int64, shape, elements=st.integers(0, NUM_CLASSES - 1))


@given(st.data(), st.integers(1, 30), st.integers(1, 4))
def test_confusions_count_every_prediction_once_rows_true_columns_predicted(data, num_samples, num_seeds):
    y_true, y_pred = data.draw(labels(num_samples)), data.draw(labels(num_seeds, num_samples))
    expected = np.zeros((NUM_CLASSES, NUM_CLASSES), int)
    for row in y_pred:
        for actual, predicted in zip(y_true, row, strict=True):
            expected[actual, predicted] += 1
    received = count_confusions(y_true, y_pred, NUM_CLASSES)
    np.testing.assert_array_equal(received, expected)
    assert received.dtype == np.int64


@given(st.data(), st.integers(1, 30))
def test_the_diagonal_of_the_confusions_is_the_accuracy(data, num_samples):
    y_true, y_pred = data.draw(labels(num_samples)), data.draw(labels(num_samples))
    scores = compute_scores(y_true, np.eye(NUM_CLASSES, dtype=np.float32)[y_pred], NUM_CLASSES)
    confusions = count_confusions(y_true, y_pred[np.newaxis], NUM_CLASSES)
    assert scores["test_accuracy"] == pytest.approx(np.trace(confusions) / num_samples)


@given(st.integers(1, 300), st.integers(1, 400), st.integers(0, 2**32 - 1))
def test_a_sample_is_drawn_without_replacement_and_the_seed_decides_it(num_samples, sample_size, seed):
    sample = draw_sample(num_samples, sample_size, seed)
    assert len(sample) == min(sample_size, num_samples)
    assert (np.diff(sample) > 0).all(), "sorted, none twice"
    assert sample.min() >= 0
    assert sample.max() < num_samples
    np.testing.assert_array_equal(sample, draw_sample(num_samples, sample_size, seed))


def test_seeds_draw_different_samples_and_all_images_have_a_chance():
    samples = [tuple(draw_sample(20, 5, seed)) for seed in range(100)]
    assert len(set(samples)) > 90
    assert set().union(*samples) == set(range(20))


def test_float32_probabilities_are_made_to_sum_to_1_in_float64():
    y_prob = np.full((2, 3), np.float32(1 / 3))
    assert np.abs(y_prob.astype(np.float64).sum(axis=1) - 1).max() > 1e-9, "the test needs rows that don't sum to 1"
    np.testing.assert_allclose(normalize_rows(y_prob).sum(axis=1), 1, atol=1e-15)


@pytest.mark.parametrize("batch_size", [1, 4, 5, 10, 64])
def test_every_image_is_answered_once_and_in_its_place(batch_size):
    # a model that answers with the number written into the image's pixel
    pixel = keras.Input((1, 1, 1), dtype="uint8")
    number = keras.layers.Flatten()(keras.layers.Rescaling(1.0)(pixel))
    model = keras.Model(pixel, keras.layers.Concatenate()([number, keras.layers.Rescaling(-1.0)(number)]))
    numbers = np.random.default_rng(0).permutation(10)
    answers = predict_probabilities(model, numbers.astype(np.uint8).reshape(-1, 1, 1, 1), batch_size)
    np.testing.assert_array_equal(answers, np.stack([numbers, -numbers], axis=1))
    assert answers.dtype == np.float32
