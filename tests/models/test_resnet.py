"""The residual networks against the study's numbers."""

import keras
import numpy as np
import pytest

from answers import answer
from cotejo.models.resnet import build_model
from declared import declare

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 28, 28, 1), np.uint8)


@pytest.fixture(scope="module")
def small():
    return build_model(declare("resnet"), (28, 28, 1), 10)


@pytest.fixture(scope="module")
def light():
    return build_model(declare("resnet", architecture="resnet50_light"), (28, 28, 1), 10)


def count_trainable(model):
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)


def shapes(model, kind):
    return [layer.output.shape[1:] for layer in model.layers if isinstance(layer, kind)]


def test_resnet_small_has_the_227210_parameters_of_the_study(small):
    assert small.count_params() == 227_210
    # a moving mean and variance for each of the 64 channels of 7 normalisations
    assert count_trainable(small) == 227_210 - 7 * 2 * 64


def test_resnet50_light_has_the_17839746_parameters_of_the_study(light):
    assert light.count_params() == 17_839_746
    assert count_trainable(light) == 17_813_506


def test_resnet_small_halves_the_image_twice_and_adds_three_times(small):
    assert shapes(small, keras.layers.Conv2D) == [(14, 14, 64)] + 6 * [(7, 7, 64)]
    assert shapes(small, keras.layers.MaxPooling2D) == [(7, 7, 64)]
    assert shapes(small, keras.layers.Add) == 3 * [(7, 7, 64)]
    assert shapes(small, keras.layers.GlobalAveragePooling2D) == [(64,)]


def test_resnet50_light_has_nine_blocks_that_widen_and_shrink_as_in_the_study(light):
    widths = 2 * [(7, 7, 256)] + 2 * [(4, 4, 512)] + 3 * [(2, 2, 1024)] + 2 * [(1, 1, 2048)]
    assert shapes(light, keras.layers.Add) == widths
    assert shapes(light, keras.layers.Dense) == [(1000,), (10,)]
    # the stem, three convolutions a block, the first block's shortcut, three transitions
    assert len(shapes(light, keras.layers.Conv2D)) == 1 + 9 * 3 + 1 + 3


@pytest.mark.parametrize("name", ["small", "light"])
def test_raw_bytes_go_in_and_probabilities_come_out(name, request):
    model = request.getfixturevalue(name)
    assert (model.input_shape, model.input.dtype) == ((None, 28, 28, 1), "uint8")
    y_prob = answer(model, IMAGES)
    assert (y_prob.shape, y_prob.dtype) == ((3, 10), np.float32)
    np.testing.assert_allclose(y_prob.sum(axis=1), 1, rtol=1e-6)


def test_a_block_adds_its_input_to_what_its_convolutions_make_of_it(small):
    # with the last normalisation of a block at zero only the shortcut is left, which ReLU has made positive
    model = keras.models.clone_model(small)
    model.set_weights(small.get_weights())
    for layer in [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)][2::2]:
        layer.gamma.assign(np.zeros(64))
    stem = next(layer for layer in model.layers if isinstance(layer, keras.layers.MaxPooling2D))
    pooled = next(layer for layer in model.layers if isinstance(layer, keras.layers.GlobalAveragePooling2D))
    maps, means = map(np.asarray, keras.Model(model.input, [stem.output, pooled.output])(IMAGES, training=False))
    np.testing.assert_allclose(maps.mean(axis=(1, 2)), means, rtol=1e-5)
    assert means.max() > 0


def test_images_are_resized_to_the_declared_input_size_inside_the_model():
    model = build_model(declare("resnet", input_size=16), (28, 28, 3), 4)
    assert shapes(model, keras.layers.Conv2D)[0] == (8, 8, 64)
    images = np.repeat(IMAGES, 3, axis=-1)
    assert answer(model, images).shape == (3, 4)


def test_without_batch_normalization_a_net_lacks_four_numbers_for_each_channel_that_was_normalised():
    model = build_model(declare("resnet", batch_normalization=False), (28, 28, 1), 10)
    assert model.count_params() == count_trainable(model) == 227_210 - 7 * 4 * 64
    assert shapes(model, keras.layers.BatchNormalization) == []


def test_the_stem_pools_as_declared():
    model = build_model(declare("resnet", pooling="average"), (28, 28, 1), 10)
    assert shapes(model, keras.layers.MaxPooling2D) == []
    assert shapes(model, keras.layers.AveragePooling2D) == [(7, 7, 64)]
