"""VGG against a count from its stacks' widths, and its shapes."""

import keras
import numpy as np
import pytest

from answers import answer
from cotejo.models.vgg import build_model
from declared import declare


def build(**changes):
    return build_model(declare("resnet", architecture="vgg", **changes), (28, 28, 1), 10)


@pytest.fixture(scope="module")
def vgg():
    return build(batch_normalization=False)


def test_it_has_as_many_parameters_as_its_kernels_and_biases(vgg):
    expected, inputs = 0, 1
    for width in (32, 32, 64, 64, 128, 128):
        expected += 3 * 3 * inputs * width + width
        inputs = width
    for inputs, outputs in ((3 * 3 * 128, 256), (256, 256), (256, 10)):
        expected += inputs * outputs + outputs
    assert vgg.count_params() == expected == 649_962
    assert build().count_params() == expected + 4 * 2 * (32 + 64 + 128), "with batch normalisation"


def test_three_stacks_of_two_3x3_convolutions_each_ending_in_half_the_size(vgg):
    convolutions = [layer for layer in vgg.layers if isinstance(layer, keras.layers.Conv2D)]
    assert {layer.kernel_size for layer in convolutions} == {(3, 3)}
    sizes = [layer.output.shape[1:] for layer in convolutions]
    assert sizes == 2 * [(28, 28, 32)] + 2 * [(14, 14, 64)] + 2 * [(7, 7, 128)]
    assert vgg.get_layer("pool3").output.shape == (None, 3, 3, 128)


def test_raw_bytes_go_in_and_probabilities_come_out(vgg):
    y_prob = answer(vgg, np.random.default_rng(0).integers(0, 256, (3, 28, 28, 1), np.uint8))
    assert (y_prob.shape, y_prob.dtype, vgg.input.dtype) == ((3, 10), np.float32, "uint8")
    np.testing.assert_allclose(y_prob.sum(axis=1), 1, rtol=1e-6)


def test_the_smallest_input_leaves_one_pixel():
    assert build(input_size=8).get_layer("pool3").output.shape == (None, 1, 1, 128)
