"""The arithmetic of a model, against what one counts with a pencil."""

import keras
import pytest
from keras import layers

from cotejo.models.arithmetic import count_operations
from cotejo.models.layers import BatchNormalization, fit_image
from cotejo.models.lenet import build_model
from cotejo.training.archive import load_model, save_model
from declared import declare


def count(inputs, outputs):
    return count_operations(keras.Model(inputs, outputs))


def test_a_small_convolutional_net_by_hand():
    images = keras.Input((8, 8, 3), dtype="uint8")
    x = layers.Rescaling(1 / 255)(images)  # 192 values: a product and a sum each
    x = layers.Conv2D(4, 3)(x)  # 6 x 6 x 4 outputs of 3 x 3 x 3 multiply-adds, and a bias each
    x = layers.MaxPooling2D(2)(x)  # 3 x 3 x 4 outputs of 4 values
    x = layers.Flatten()(x)
    x = layers.Dense(5)(x)  # 36 x 5 multiply-adds, 5 biases
    assert count(images, x) == 2 * 192 + 144 * (2 * 27 + 1) + 36 * 4 + 2 * 36 * 5 + 5


def test_lenet5_by_hand():
    model = build_model(declare("lenet"), (28, 28, 1), 10)
    rescaling = 2 * 28 * 28
    convolutions = 28 * 28 * 6 * (2 * 5 * 5 * 1 + 1) + 10 * 10 * 16 * (2 * 5 * 5 * 6 + 1)
    poolings = 4 * 14 * 14 * 6 + 4 * 5 * 5 * 16
    dense = 120 * (2 * 400 + 1) + 84 * (2 * 120 + 1) + 10 * (2 * 84 + 1)
    softmax = 5 * 10  # as TensorFlow reckons: 2 to shift a value, 1 for its exponential, 2 to divide by the sum
    assert count_operations(model) == rescaling + convolutions + poolings + dense + softmax == 847_480


@pytest.mark.parametrize("layer", [layers.BatchNormalization, BatchNormalization])
def test_batch_normalisation_is_counted_alike_whichever_of_the_two_it_is(layer):
    images = keras.Input((8, 8, 16))
    # at most a product and a sum a value, and for each of 16 channels the scale and the shift that they use
    assert count(images, layer()(images)) == 2 * 8 * 8 * 16 + 16 * (1 + 2 + 1 + 1 + 1)


def test_a_depthwise_convolution_counts_one_channel_each():
    images = keras.Input((8, 8, 16))
    assert count(images, layers.DepthwiseConv2D(3, padding="same", use_bias=False)(images)) == 8 * 8 * 16 * 2 * 9


def test_bringing_an_image_to_its_size_counts_nothing():
    images = keras.Input((28, 28, 1))
    for size in (32, 64):
        assert count(images, fit_image(images, size)) == 0


def test_a_saved_model_counts_what_it_counted(tmp_path):
    images = keras.Input((8, 8, 1), dtype="uint8")
    x = BatchNormalization()(layers.Conv2D(4, 3)(layers.Rescaling(1 / 255)(images)))
    model = keras.Model(images, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))
    save_model(model, tmp_path / "model.keras")
    assert count_operations(load_model(tmp_path / "model.keras")) == count_operations(model) > 36 * 4 * 18
