"""Every option of a network's section, in every architecture."""

from importlib import import_module

import keras
import numpy as np
import pytest

from answers import answer
from cotejo.errors import ModelError
from cotejo.models.blocks import open_net
from cotejo.models.families import FAMILIES
from cotejo.models.layers import uses_batch_statistics
from declared import declare

IMAGES = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 1), np.uint8)
#: resnet50_light is resnet_small's code with more of it; its size is tested in test_resnet.py.
ARCHITECTURES = [name for name in FAMILIES if name != "resnet50_light"]
POOLS = {"max": keras.layers.MaxPooling2D, "average": keras.layers.AveragePooling2D}
PLAIN = {"input_size": 16, "activation": "relu", "pooling": "max", "batch_normalization": False}
EVERYTHING = {"pooling": "average", "batch_normalization": True, "dropout_rate": 0.5, "l1": 1e-5, "l2": 1e-4}


def build(architecture, **changes):
    section = "lenet" if architecture == "lenet5" else "resnet"
    # copied: also what the schema refuses, since the builders check for themselves
    settings = declare(section, architecture=architecture, **PLAIN).model_copy(update=changes)
    return import_module(f"cotejo.models.{FAMILIES[architecture]}").build_model(settings, (16, 16, 1), 10)


def find(model, *kinds):
    return [layer for layer in model.layers if isinstance(layer, kinds)]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_what_is_not_declared_is_not_there(architecture):
    model = build(architecture)
    assert find(model, keras.layers.BatchNormalization, keras.layers.Dropout, POOLS["average"]) == []
    assert {layer.activation.__name__ for layer in find(model, keras.layers.Activation)} == {"relu"}
    assert model.losses == []
    assert model.name == architecture


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_option_is_there_and_the_net_trains(architecture):
    model = build(architecture, activation="swish", **EVERYTHING)
    convolutions = find(model, keras.layers.Conv2D)
    weighted = convolutions + find(model, keras.layers.Dense)
    assert {layer.activation.__name__ for layer in find(model, keras.layers.Activation)} == {"silu"}
    assert find(model, POOLS["max"]) == []
    assert find(model, POOLS["average"]) != []
    assert [layer.rate for layer in find(model, keras.layers.Dropout)] == [0.5]
    assert model.layers[-2] is find(model, keras.layers.Dropout)[0], "before the last dense layer"
    normalised = [layer.input for layer in find(model, keras.layers.BatchNormalization)]
    assert [layer.output for layer in convolutions] == normalised
    penalty = sum(1e-5 * np.abs(layer.kernel).sum() + 1e-4 * np.square(layer.kernel).sum() for layer in weighted)
    np.testing.assert_allclose(sum(model.losses), penalty, rtol=1e-5)
    assert uses_batch_statistics(model)

    # a graph would take longer to build than this step takes without one
    model.compile(keras.optimizers.SGD(0.01), "sparse_categorical_crossentropy", run_eagerly=True)
    # a bias in front of batch normalisation changes nothing, so it has no reason to move
    weights = [weight for weight in model.weights if weight.name not in ("bias", "seed_generator_state")]
    before = [weight.numpy() for weight in weights]
    assert np.isfinite(model.train_on_batch(IMAGES, np.arange(4)))
    for weight, old in zip(weights, before, strict=True):
        assert not np.array_equal(weight, old), f"{weight.path} did not move"


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "prelu", "elu", "tanh", "sigmoid", "swish", "step"])
def test_every_activation_stands_behind_convolutions_and_dense_layers(activation):
    model = build("basic_cnn", activation=activation)
    slopes = 32 + 64 + 64 if activation == "prelu" else 0  # one a channel or unit
    assert model.count_params() == build("basic_cnn").count_params() + slopes
    y_prob = answer(model, IMAGES)
    np.testing.assert_allclose(y_prob.sum(axis=1), 1, rtol=1e-6)
    hidden = answer(keras.Model(model.input, model.get_layer("classify").input), IMAGES)
    below, above = {"tanh": (-1, 1), "sigmoid": (0, 1), "step": (0, 1), "relu": (0, np.inf)}.get(activation, (-9, 9))
    assert below <= hidden.min() < hidden.max() <= above


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_in_bfloat16_the_answers_are_float32_and_close(architecture):
    full = build(architecture, batch_normalization=True)
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        mixed = build(architecture, batch_normalization=True)
    finally:
        keras.config.set_dtype_policy("float32")
    mixed.set_weights(full.get_weights())
    assert {layer.compute_dtype for layer in find(mixed, keras.layers.Conv2D)} == {"bfloat16"}
    y_prob = answer(mixed, IMAGES)
    assert y_prob.dtype == np.float32
    np.testing.assert_allclose(y_prob, answer(full, IMAGES), atol=0.02)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_smallest_permitted_input_is_built_or_refused_in_one_line(architecture):
    if architecture in ("lenet5", "alexnet", "basic_cnn"):
        with pytest.raises(ModelError, match=rf"^{architecture}: expected at least \d+ pixels\. .*input_size 8\. .*$"):
            build(architecture, input_size=8)
    else:
        assert answer(build(architecture, input_size=8), IMAGES).shape == (4, 10)


def test_an_opened_net_has_raw_bytes_and_fitted_pixels_from_0_to_1():
    images, x = open_net(declare("lenet", input_size=32), (16, 16, 3))
    assert (images.shape, images.dtype) == ((None, 16, 16, 3), "uint8")
    assert x.shape == (None, 32, 32, 3)
    pixels = answer(keras.Model(images, x), np.full((1, 16, 16, 3), 255, np.uint8))
    np.testing.assert_allclose(pixels, 1, rtol=1e-6)
