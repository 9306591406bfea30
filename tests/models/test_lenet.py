"""LeNet-5 against the study's numbers and against a net built from its description alone."""

import keras
import numpy as np
import pytest

from answers import answer
from cotejo.errors import ModelError
from cotejo.models.lenet import build_model
from cotejo.schema.trainings import MIN_INPUT_SIZES
from declared import declare

SHAPES = {
    "pad": (None, 32, 32, 1),
    "c1": (None, 28, 28, 6),
    "s2": (None, 14, 14, 6),
    "c3": (None, 10, 10, 16),
    "s4": (None, 5, 5, 16),
    "flatten": (None, 400),
    "c5": (None, 120),
    "f6": (None, 84),
    "classify": (None, 10),
}


def draw_images(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


@pytest.fixture(scope="module")
def lenet():
    return build_model(declare("lenet"), (28, 28, 1), 10)


def test_it_has_the_61706_parameters_of_the_study_all_trainable(lenet):
    assert lenet.count_params() == 61_706
    assert sum(weight.size for weight in map(np.asarray, lenet.trainable_weights)) == 61_706


def test_the_layers_have_the_shapes_of_the_study(lenet):
    assert {name: lenet.get_layer(name).output.shape for name in SHAPES} == SHAPES


def test_raw_bytes_go_in_and_probabilities_come_out(lenet):
    assert (lenet.input_shape, lenet.input.dtype) == ((None, 28, 28, 1), "uint8")
    y_prob = answer(lenet, draw_images(5, 28, 28, 1))
    assert (y_prob.shape, y_prob.dtype) == ((5, 10), np.float32)
    np.testing.assert_allclose(y_prob.sum(axis=1), 1, rtol=1e-6)
    assert y_prob.min() >= 0


def test_it_answers_as_a_net_built_from_the_description_that_is_given_padded_pixels_from_0_to_1(lenet):
    plain = keras.Sequential(
        [
            keras.Input((32, 32, 1)),
            keras.layers.Conv2D(6, 5, activation="tanh"),
            keras.layers.MaxPooling2D(2),
            keras.layers.Conv2D(16, 5, activation="tanh"),
            keras.layers.MaxPooling2D(2),
            keras.layers.Flatten(),
            keras.layers.Dense(120, activation="tanh"),
            keras.layers.Dense(84, activation="tanh"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    plain.set_weights(lenet.get_weights())
    images = draw_images(16, 28, 28, 1)
    padded = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0))).astype(np.float32) / 255
    np.testing.assert_allclose(answer(lenet, images), answer(plain, padded), atol=1e-6)


@pytest.mark.parametrize(
    ("image_shape", "num_classes"), [((32, 32, 3), 10), ((8, 8, 1), 3), ((64, 48, 1), 2)], ids=["colour", "8", "64x48"]
)
def test_images_of_other_sizes_and_colours_are_fitted_inside_the_model(image_shape, num_classes):
    model = build_model(declare("lenet"), image_shape, num_classes)
    assert model.get_layer("c1").input.shape == (None, 32, 32, image_shape[-1])
    y_prob = answer(model, draw_images(2, *image_shape))
    assert y_prob.shape == (2, num_classes)
    np.testing.assert_allclose(y_prob.sum(axis=1), 1, rtol=1e-6)


def test_an_input_of_another_size_is_built_down_to_16_pixels():
    assert build_model(declare("lenet", input_size=28), (28, 28, 1), 10).get_layer("c1").input.shape == (
        None,
        28,
        28,
        1,
    )
    smallest = build_model(declare("lenet", input_size=MIN_INPUT_SIZES["lenet5"]), (28, 28, 1), 10)
    assert smallest.get_layer("s4").output.shape == (None, 1, 1, 16)
    with pytest.raises(ModelError, match=r"lenet5: expected at least 16 pixels\. Received: input_size 15\. Raise"):
        build_model(declare("lenet").model_copy(update={"input_size": MIN_INPUT_SIZES["lenet5"] - 1}), (28, 28, 1), 10)
