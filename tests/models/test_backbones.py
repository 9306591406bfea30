"""Transfer learning: what is frozen, what isn't, and whose weights are taken."""

import json

import keras
import numpy as np
import pytest

from cotejo.errors import ModelError
from cotejo.models.backbones import (
    BACKBONE,
    build_backbone,
    build_extractor,
    build_head,
    find_weights_file,
    join,
    unfreeze,
)
from cotejo.models.layers import uses_batch_statistics
from declared import declare


def declare_random(**changes):
    return declare("transfer", **{"weights": "random", "input_size": 32, **changes})


def build_joined(image_shape=(28, 28, 1), num_classes=10, **changes):
    extractor = build_extractor(build_backbone(declare_random(**changes), None), image_shape)
    return join(extractor, build_head(extractor.output_shape[-1], num_classes, 0.2))


def calibrate(backbone):
    """Sets the normalisation of random weights, under which the signal would fade to nothing, from random images."""
    backbone.trainable = True
    for layer in backbone.layers:
        layer.momentum = 0.0
    backbone(np.random.default_rng(0).uniform(-1, 1, (32, 32, 32, 3)).astype(np.float32), training=True)
    backbone.trainable = False
    return backbone


def count_trainable(model):
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)


@pytest.fixture(scope="module")
def notebook():
    """The transfer-learning notebook's model: MobileNetV2 over 160x160 colour images, a question of yes or no."""
    return build_joined((160, 160, 3), 1, backbone="MobileNetV2", alpha=1.0, input_size=160)


@pytest.fixture
def small():
    return build_joined()


def test_only_the_head_of_the_notebooks_model_is_trainable_then_the_layers_from_index_100_too(notebook):
    assert count_trainable(notebook) == 1_281
    backbone = notebook.get_layer(BACKBONE)
    unfreeze(notebook, len(backbone.layers) - 100)
    assert count_trainable(notebook) == 1_862_721
    assert not any(layer.trainable for layer in backbone.layers[:100])


def test_the_notebooks_model_answers_between_0_and_1(notebook):
    images = np.random.default_rng(0).integers(0, 256, (2, 160, 160, 3), np.uint8)
    answers = notebook.predict_on_batch(images)
    assert answers.shape == (2, 1)
    assert ((answers > 0) & (answers < 1)).all()


@pytest.mark.parametrize(("backbone", "alpha"), [("MobileNet", 0.25), ("MobileNet", 0.5), ("MobileNetV2", 0.35)])
def test_a_backbone_is_kerass_own_without_its_classifier(backbone, alpha):
    ours = build_backbone(declare_random(backbone=backbone, alpha=alpha), None)
    theirs = getattr(keras.applications, backbone)((32, 32, 3), alpha=alpha, include_top=False, weights=None)
    assert ours.count_params() == theirs.count_params()
    assert ours.output_shape == theirs.output_shape
    assert count_trainable(ours) == 0


@pytest.mark.parametrize(("backbone", "module"), [("MobileNet", "mobilenet"), ("MobileNetV2", "mobilenet_v2")])
def test_raw_pixels_reach_the_backbone_as_its_own_preprocess_input_leaves_them(backbone, module):
    alpha = {"MobileNet": 0.25, "MobileNetV2": 0.35}[backbone]
    built = calibrate(build_backbone(declare_random(backbone=backbone, alpha=alpha), None))
    extractor = build_extractor(built, (32, 32, 3))
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    prepared = getattr(keras.applications, module).preprocess_input(images.astype(np.float32))
    expected = built.predict_on_batch(prepared).mean(axis=(1, 2))
    np.testing.assert_allclose(extractor.predict_on_batch(images), expected, rtol=1e-3, atol=1e-4)
    assert expected.std() > 0.1, "features too faint to tell"


def test_a_grey_image_is_seen_as_the_same_image_in_colour():
    backbone = calibrate(build_backbone(declare_random(), None))
    grey = np.random.default_rng(0).integers(0, 256, (2, 28, 28, 1), np.uint8)
    colour = np.repeat(grey, 3, axis=-1)
    np.testing.assert_allclose(
        build_extractor(backbone, (28, 28, 1)).predict_on_batch(grey),
        build_extractor(backbone, (28, 28, 3)).predict_on_batch(colour),
        rtol=1e-3,
        atol=1e-4,
    )


def test_raw_bytes_go_in_and_probabilities_come_out(small):
    assert (small.input_shape, small.input.dtype) == ((None, 28, 28, 1), "uint8")
    y_prob = small.predict_on_batch(np.zeros((3, 28, 28, 1), np.uint8))
    assert (y_prob.shape, y_prob.dtype) == ((3, 10), np.float32)
    np.testing.assert_allclose(y_prob.sum(axis=1), 1, rtol=1e-6)


def test_a_frozen_model_trains_its_head_alone(small):
    # 256 features to 10 classes, and a bias each
    assert count_trainable(small) == 256 * 10 + 10


def trainable_names(model):
    backbone = model.get_layer(BACKBONE)
    trained = {id(weight) for weight in model.trainable_weights}
    return [layer.name for layer in backbone.layers if any(id(weight) in trained for weight in layer.weights)]


def test_layers_are_unfrozen_by_number_by_name_or_all(small):
    layers = small.get_layer(BACKBONE).layers
    everything = [layer.name for layer in layers if layer.weights]
    unfreeze(small, 3)
    assert trainable_names(small) == ["conv_pw_13", "conv_pw_13_bn"]
    unfreeze(small, "conv_dw_13_bn")
    assert trainable_names(small) == ["conv_dw_13_bn", "conv_pw_13", "conv_pw_13_bn"]
    unfreeze(small, len(layers))
    assert trainable_names(small) == everything
    unfreeze(small, 1)
    assert trainable_names(small) == [], "the last layer is an activation"
    unfreeze(small, "all")
    assert trainable_names(small) == everything


@pytest.mark.parametrize("wrong", ["conv_pw_99", "ALL", 1_000])
def test_layers_that_the_backbone_lacks_are_refused_with_some_that_it_has(small, wrong):
    with pytest.raises(ModelError, match=r"finetune\.unfreeze: expected a number up to 86, `all`.*conv_pw_13_relu"):
        unfreeze(small, wrong)
    assert trainable_names(small) == []


def train_a_little(model):
    """A few steps on random images, far from zero so that normalisation has something to move towards."""
    generator = np.random.default_rng(0)
    images = generator.integers(100, 256, (32, 28, 28, 1), np.uint8)
    labels = generator.integers(0, 10, 32)
    trained = keras.Model(model.input, model.output)
    trained.compile(keras.optimizers.Adam(1e-2), "sparse_categorical_crossentropy")
    trained.fit(images, labels, batch_size=8, verbose=0)


def weights_by_layer(model):
    return {layer.name: layer.get_weights() for layer in model.get_layer(BACKBONE).layers if layer.weights}


def assert_only_what_is_unfrozen_moved(model, before, first):
    after = weights_by_layer(model)
    unfrozen = list(before)[list(before).index(first) :]
    for name, weights in before.items():
        is_normalisation = name.endswith("_bn")
        for number, (old, new) in enumerate(zip(weights, after[name], strict=True)):
            moving = is_normalisation and number >= 2  # gamma, beta, moving mean, moving variance
            if name in unfrozen and not moving:
                assert not np.array_equal(old, new), f"{name} is unfrozen, but was not trained"
            else:
                np.testing.assert_array_equal(old, new, err_msg=f"{name}, weight {number}")


def test_fine_tuning_moves_unfrozen_kernels_only_and_no_normalisation_statistics(small, tmp_path):
    calibrate(small.get_layer(BACKBONE))
    before = weights_by_layer(small)
    unfreeze(small, "conv_pw_12")
    train_a_little(small)
    assert_only_what_is_unfrozen_moved(small, before, "conv_pw_12")

    # the finetune stage gets its model from a file
    small.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    before = weights_by_layer(loaded)
    unfreeze(loaded, "conv_dw_13")
    train_a_little(loaded)
    assert_only_what_is_unfrozen_moved(loaded, before, "conv_dw_13")


@pytest.fixture(scope="module")
def weights_file(tmp_path_factory):
    """Weights of MobileNet 0.25 in the layout of the published files, which is Keras 2's."""
    file = tmp_path_factory.mktemp("weights") / "mobilenet.h5"
    build_backbone(declare_random(), None).save(file)
    return file


def test_weights_are_read_from_a_file(weights_file):
    first, second = (build_backbone(declare_random(), weights_file).get_weights() for _ in range(2))
    other = build_backbone(declare_random(), None).get_weights()
    for ours, again in zip(first, second, strict=True):
        np.testing.assert_array_equal(ours, again)
    assert not np.array_equal(first[0], other[0])


@pytest.mark.parametrize("changes", [{"alpha": 0.5}, {"backbone": "MobileNetV2", "alpha": 0.35}], ids=["alpha", "V2"])
def test_the_weights_of_another_model_are_refused(weights_file, changes):
    settings = declare_random(**changes)
    with pytest.raises(ModelError, match=rf"mobilenet\.h5: expected {settings.backbone}'s weights for alpha") as caught:
        build_backbone(settings, weights_file)
    assert "Run `dvc repro download`" in str(caught.value)


@pytest.mark.parametrize("share", [0, 0.001, 0.1, 0.5, 0.9, 0.999])
def test_truncated_weights_are_refused(weights_file, tmp_path, share):
    content = weights_file.read_bytes()
    truncated = tmp_path / "truncated.h5"
    truncated.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ModelError, match=r"truncated\.h5: expected MobileNet's weights"):
        build_backbone(declare_random(), truncated)


def test_missing_weights_are_refused(tmp_path):
    with pytest.raises(ModelError, match=r"missing\.h5: expected MobileNet's weights"):
        build_backbone(declare_random(), tmp_path / "missing.h5")


@pytest.mark.parametrize("name", ["mobilenet.h5", None])
def test_the_download_stages_note_says_whether_there_are_weights(tmp_path, name):
    (tmp_path / "weights.json").write_text(json.dumps({"file": name}))
    assert find_weights_file(tmp_path) == (tmp_path / name if name else None)


@pytest.mark.parametrize("note", [None, "", "{}", "[1"])
def test_a_folder_that_download_did_not_write_is_refused(tmp_path, note):
    if note is not None:
        (tmp_path / "weights.json").write_text(note)
    with pytest.raises(ModelError, match="Run `dvc repro download`"):
        find_weights_file(tmp_path)


def test_normalisation_by_the_batch_is_told_from_normalisation_that_is_frozen_or_held(small):
    assert not uses_batch_statistics(small), "frozen"
    small.get_layer(BACKBONE).trainable = True
    assert uses_batch_statistics(small)
    unfreeze(small, "all")
    assert not uses_batch_statistics(small), "held in inference mode"
