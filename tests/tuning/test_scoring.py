"""The score of a model on each image, against NumPy and scikit-learn."""

import keras
import numpy as np
import pytest
from sklearn.metrics import log_loss

from cotejo.data.readers import LabelledImages
from cotejo.errors import ModelError
from cotejo.tuning.scoring import score_images

IMAGES = LabelledImages(
    np.random.default_rng(0).integers(0, 256, (7, 2, 2, 1), dtype=np.uint8), np.array([0, 1, 2, 0, 1, 2, 0])
)


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Rescaling(1 / 255), keras.layers.Flatten(), keras.layers.Dense(3, activation="softmax")]
    return keras.Sequential([keras.Input((2, 2, 1), dtype="uint8"), *layers])


@pytest.mark.parametrize("max_bytes_in_graph", [0, 2**20])
def test_each_image_is_scored_once_the_smaller_last_batch_included(model, max_bytes_in_graph):
    y_prob = np.float64(model(IMAGES.images, training=False))
    y_prob /= y_prob.sum(axis=1, keepdims=True)  # as scikit-learn wants it: float32 is a little off
    correct = score_images(model, IMAGES, "val_accuracy", 3, max_bytes_in_graph)
    assert correct.dtype == np.bool_
    assert correct.tolist() == (y_prob.argmax(axis=1) == IMAGES.labels).tolist()
    losses = score_images(model, IMAGES, "val_cross_entropy", 3, max_bytes_in_graph)
    assert losses.dtype == np.float32
    assert losses == pytest.approx(-np.log(y_prob[np.arange(7), IMAGES.labels]), rel=1e-5)
    assert losses.mean() == pytest.approx(log_loss(IMAGES.labels, y_prob), rel=1e-5)


def test_probabilities_that_are_no_numbers_are_refused(model):
    broken = keras.models.clone_model(model)
    broken.layers[-1].set_weights([np.full((4, 3), np.nan), np.zeros(3)])
    with pytest.raises(ModelError, match=r"expected finite probabilities .*\. Received: nan\."):
        score_images(broken, IMAGES, "val_accuracy", 3, 0)
