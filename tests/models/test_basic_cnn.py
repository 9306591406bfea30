"""The network of the first lessons, against one built as the tutorial builds it."""

import keras
import numpy as np
import pytest

from answers import answer
from cotejo.errors import ModelError
from cotejo.models.basic_cnn import build_model
from cotejo.schema.trainings import MIN_INPUT_SIZES
from declared import declare


def build(**changes):
    settings = declare("lenet", architecture="basic_cnn", **{"activation": "relu", "input_size": 28, **changes})
    return build_model(settings, (28, 28, 1), 10)


@pytest.fixture(scope="module")
def basic_cnn():
    return build()


def test_it_has_as_many_parameters_as_its_kernels_and_biases(basic_cnn):
    expected = (3 * 3 * 1 * 32 + 32) + (3 * 3 * 32 * 64 + 64) + (5 * 5 * 64 * 64 + 64) + (64 * 10 + 10)
    assert basic_cnn.count_params() == expected == 121_930


def test_it_answers_as_the_tutorials_net_that_is_given_pixels_from_0_to_1(basic_cnn):
    tutorial = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Conv2D(32, 3, activation="relu"),
            keras.layers.MaxPooling2D(2),
            keras.layers.Conv2D(64, 3, activation="relu"),
            keras.layers.MaxPooling2D(2),
            keras.layers.Flatten(),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    tutorial.set_weights(basic_cnn.get_weights())
    images = np.random.default_rng(0).integers(0, 256, (3, 28, 28, 1), np.uint8)
    y_prob = answer(basic_cnn, images)
    np.testing.assert_allclose(y_prob, answer(tutorial, images / np.float32(255)), atol=1e-6)
    assert (y_prob.shape, y_prob.dtype, basic_cnn.input.dtype) == ((3, 10), np.float32, "uint8")


def test_inputs_are_at_least_10_pixels():
    assert build(input_size=MIN_INPUT_SIZES["basic_cnn"]).get_layer("pool2").output.shape == (None, 1, 1, 64)
    with pytest.raises(ModelError, match=r"basic_cnn: expected at least 10 pixels\. Received: input_size 9\. Raise"):
        build_model(
            declare("lenet", architecture="basic_cnn").model_copy(
                update={"input_size": MIN_INPUT_SIZES["basic_cnn"] - 1}
            ),
            (28, 28, 1),
            10,
        )
