"""A model trained here as the backbone of another."""

import keras
import numpy as np
import pytest

from answers import answer
from cotejo.errors import ModelError
from cotejo.models import lenet, resnet
from cotejo.models.backbones import BACKBONE, build_extractor, build_head, join, take_backbone, unfreeze
from cotejo.models.weights import find_weights_file
from cotejo.training.archive import load_model, save_model
from declared import declare

OWN = {"weights": "model:own.keras", "weights_path": "own.keras"}
GREY = (28, 28, 1)


@pytest.fixture(scope="module")
def trained_lenet():
    return lenet.build_model(declare("lenet"), GREY, 10)


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (3, *GREY), np.uint8)


def extract(model, image_shape=GREY, pooling="average"):
    settings = declare("transfer", pooling=pooling, **OWN)
    return build_extractor(take_backbone(model, "own.keras"), image_shape, settings)


def look_into(model, layer):
    return keras.Model(model.input, model.get_layer(layer).output)


def test_lenets_backbone_ends_in_the_maps_that_it_flattens(trained_lenet, images):
    extractor = extract(trained_lenet, pooling="flatten")
    np.testing.assert_allclose(
        answer(extractor, images), answer(look_into(trained_lenet, "flatten"), images), rtol=1e-5
    )
    maps = answer(look_into(trained_lenet, "s4"), images)
    assert maps.shape == (3, 5, 5, 16)
    np.testing.assert_allclose(answer(extract(trained_lenet), images), maps.mean(axis=(1, 2)), rtol=1e-4)
    assert extractor.trainable_weights == []


def test_a_residual_nets_backbone_ends_in_the_maps_that_it_averages(images):
    model = resnet.build_model(declare("resnet"), GREY, 10)
    head = model.layers[-1]
    features = answer(keras.Model(model.input, head.input), images)
    assert features.shape == (3, 64)
    np.testing.assert_allclose(answer(extract(model), images), features, rtol=1e-4, atol=1e-6)


def test_images_of_another_size_are_resized_and_grey_ones_coloured_for_the_model(trained_lenet):
    large = np.full((2, 56, 56, 1), 77, np.uint8)
    small = np.full((2, *GREY), 77, np.uint8)
    expected = answer(extract(trained_lenet), small)
    np.testing.assert_allclose(answer(extract(trained_lenet, (56, 56, 1)), large), expected, rtol=1e-5)

    of_colours = lenet.build_model(declare("lenet"), (28, 28, 3), 10)
    in_colour = answer(extract(of_colours, (28, 28, 3)), np.repeat(small, 3, axis=-1))
    np.testing.assert_allclose(answer(extract(of_colours), small), in_colour, rtol=1e-5)


def test_colours_are_refused_by_a_model_of_grey_images(trained_lenet):
    with pytest.raises(ModelError, match=r"transfer\.weights: expected a model of images with 3 channels.*28x28x1"):
        extract(trained_lenet, (28, 28, 3))


@pytest.mark.parametrize(("shape", "dtype"), [((5,), "float32"), ((28, 28, 1), "float32"), ((28, 28, 1), "uint8")])
def test_a_model_without_images_or_without_feature_maps_is_refused(shape, dtype):
    inputs = keras.Input(shape, dtype=dtype)
    x = keras.layers.Rescaling(1 / 255)(inputs)
    while len(x.shape) > 2:  # a net of dense layers reads rows as words
        x = keras.layers.Reshape((-1, x.shape[-1]))(x) if len(x.shape) == 4 else keras.layers.Flatten()(x)
    model = keras.Model(inputs, keras.layers.Dense(3)(x))
    with pytest.raises(ModelError, match=r"transfer\.weights: own\.keras: expected a model of uint8 images that pools"):
        take_backbone(model, "own.keras")


def test_a_model_that_is_no_graph_from_one_picture_is_refused():
    image = keras.Input((28, 28, 1), dtype="uint8")
    other = keras.Input((28, 28, 1), dtype="uint8")
    joined = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(keras.layers.Concatenate()([image, other])))
    two = keras.Model([image, other], keras.layers.Dense(3)(joined))
    layers = [keras.Input((28, 28, 1), dtype="uint8"), keras.layers.Rescaling(1 / 255), keras.layers.Flatten()]
    for model, received in ((two, "inputs .* and .* of uint8"), (keras.Sequential(layers), "a Sequential")):
        with pytest.raises(ModelError, match=rf"own\.keras: expected a model of uint8 images .* Received: {received}"):
            take_backbone(model, "own.keras")


def test_a_model_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ModelError, match=r"transfer\.weights: expected a saved model\. Received: .*/none\.keras"):
        find_weights_file(tmp_path / "none.keras")
    (tmp_path / "own.keras").write_text("there")
    assert find_weights_file(tmp_path / "own.keras") == tmp_path / "own.keras"


def join_with_head(extractor, **changes):
    settings = declare("transfer", **OWN, **changes)
    return join(extractor, build_head(extractor.output_shape[-1], 4, settings))


def names_of_trained(model):
    trained = {id(weight) for weight in model.trainable_weights}
    layers = model.get_layer(BACKBONE).layers
    return [layer.name for layer in layers if any(id(weight) in trained for weight in layer.weights)]


def test_it_is_saved_with_its_new_head_loaded_and_unfrozen(trained_lenet, images, tmp_path):
    model = join_with_head(extract(trained_lenet))
    assert names_of_trained(model) == []
    save_model(model, tmp_path / "model.keras")
    loaded = load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(answer(loaded, images), answer(model, images))
    names = names_of_trained(unfreeze(loaded, "all"))
    assert len(names) == 2, "both convolutions"
    assert names_of_trained(unfreeze(loaded, names[1])) == names[1:]


def test_a_transfer_model_is_a_backbone_too_and_its_own_layers_are_unfrozen(trained_lenet, images):
    first = join_with_head(extract(trained_lenet))
    second = join_with_head(extract(first))
    np.testing.assert_allclose(
        answer(look_into(second, "pool"), images), answer(look_into(first, "pool"), images), rtol=1e-5
    )
    inner = second.get_layer(BACKBONE).get_layer(BACKBONE)
    unfreeze(second, len(inner.layers) - 1)
    trained = sum(int(np.prod(weight.shape)) for weight in inner.trainable_weights)
    assert trained == (5 * 5 * 6 + 6) + (5 * 5 * 6 * 16 + 16), "LeNet's two convolutions"
