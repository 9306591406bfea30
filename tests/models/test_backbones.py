"""Transfer learning: what is frozen, what isn't, and whose weights are taken."""

import json

import keras
import numpy as np
import pytest

from answers import answer
from cotejo.errors import ModelError
from cotejo.models.backbones import BACKBONE, HEAD, build_backbone, build_extractor, build_head, join, unfreeze
from cotejo.models.layers import uses_batch_statistics
from cotejo.models.weights import find_weights_file
from cotejo.training.optimizers import build_loss
from declared import declare


def declare_random(**changes):
    return declare("transfer", **{"weights": "random", "input_size": 32, **changes})


def build_joined(image_shape=(28, 28, 1), num_classes=10, **changes):
    settings = declare_random(**changes)
    extractor = build_extractor(build_backbone(settings, None), image_shape, settings)
    return join(extractor, build_head(extractor.output_shape[-1], num_classes, settings))


def calibrate(backbone):
    """Sets the normalisation of random weights, under which the signal would fade to nothing, from random images."""
    backbone.trainable = True
    for layer in backbone.layers:
        layer.momentum = 0.0
    images = np.random.default_rng(0).uniform(-1, 1, (32, *backbone.input_shape[1:]))
    backbone(images.astype(np.float32), training=True)
    backbone.trainable = False
    return backbone


def count_trainable(model):
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)


@pytest.fixture(scope="module")
def notebook():
    """The transfer-learning notebook's model: MobileNetV2 over 160x160 colour images, a question of yes or no."""
    return build_joined((160, 160, 3), 2, backbone="MobileNetV2", alpha=1.0, input_size=160, output="sigmoid")


@pytest.fixture
def small():
    return build_joined()


def test_only_the_head_of_the_notebooks_model_is_trainable_then_the_layers_from_index_100_too(notebook):
    assert count_trainable(notebook) == 1_281
    backbone = notebook.get_layer(BACKBONE)
    unfreeze(notebook, "index:100")
    assert count_trainable(notebook) == 1_862_721
    assert not any(layer.trainable for layer in backbone.layers[:100])


def test_a_sigmoid_unit_answers_with_the_probabilities_of_no_and_yes():
    settings = declare_random(output="sigmoid", dense=[7], activation="tanh", dropout_rate=0.0)
    head = build_head(5, 2, settings)
    features = np.random.default_rng(0).normal(0, 20, (200, 5)).astype(np.float32)
    kernel, bias = head.get_layer("classify").get_weights()
    assert kernel.shape == (7, 1), "one unit"
    hidden = np.tanh(features @ head.get_layer("dense_1").get_weights()[0])
    yes = 1 / (1 + np.exp(-(hidden @ kernel + bias)))
    np.testing.assert_allclose(answer(head, features), np.hstack([1 - yes, yes]), rtol=1e-4, atol=1e-6)
    assert np.ptp(yes) > 0.1


def train_one_epoch(model, loss, features, labels):
    model.compile(keras.optimizers.SGD(0.1), loss, metrics=["accuracy"], jit_compile=False)
    return model.fit(features, labels, batch_size=20, shuffle=False, verbose=0).history


def test_a_sigmoid_unit_is_trained_as_keras_trains_one_with_binary_cross_entropy():
    settings = declare_random(output="sigmoid", dropout_rate=0.0, l2=0.01)
    head = build_head(5, 2, settings)
    penalty = keras.regularizers.L2(0.01)
    theirs = keras.Sequential(
        [keras.Input((5,)), keras.layers.Dense(1, activation="sigmoid", kernel_regularizer=penalty)]
    )
    theirs.set_weights(head.get_weights())
    generator = np.random.default_rng(0)
    features = generator.normal(0, 3, (200, 5)).astype(np.float32)
    labels = (features[:, 0] + generator.normal(0, 1, 200) > 0).astype(np.int64)
    before = head.get_weights()
    ours = train_one_epoch(head, build_loss(settings, 2), features, labels)
    expected = train_one_epoch(theirs, keras.losses.BinaryCrossentropy(), features, labels)
    np.testing.assert_allclose(ours["loss"], expected["loss"], rtol=1e-5)
    assert ours["accuracy"] == expected["accuracy"]
    for start, our_weight, their_weight in zip(before, head.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(our_weight, their_weight, rtol=1e-4, atol=1e-6)
        assert not np.allclose(start, our_weight), "nothing learned, nothing compared"


@pytest.mark.parametrize("num_classes", [3, 10])
def test_a_sigmoid_unit_over_more_than_two_classes_is_refused(num_classes):
    with pytest.raises(ModelError, match=rf"transfer\.output: expected two classes .* Received: {num_classes} classes"):
        build_head(5, num_classes, declare_random(output="sigmoid"))


@pytest.mark.parametrize("pooling", ["average", "flatten"])
def test_the_slides_head_over_mobilenet_has_the_parameters_worked_out_by_hand(pooling):
    # 32 pixels end in one: 1,024 features either way; then 128 ReLU and ten classes
    model = build_joined((32, 32, 3), alpha=1.0, pooling=pooling, dense=[128], activation="relu")
    assert count_trainable(model) == (1024 * 128 + 128) + (128 * 10 + 10)


def test_the_vgg_head_has_the_parameters_worked_out_by_hand():
    changes = {"pooling": "flatten", "dense": [256], "dropout_rate": 0.5, "l2": 0.01, "output": "sigmoid"}
    model = build_joined((224, 224, 3), 2, backbone="VGG16", alpha=None, input_size=224, **changes)
    # 7x7x512 features, 256 units, one unit
    assert count_trainable(model) == (25_088 * 256 + 256) + (256 + 1)
    assert model.count_params() - count_trainable(model) == 14_714_688
    head = model.get_layer(HEAD)
    names = ["features", "dense_1", "dense_1_relu", "dropout", "classify"]
    assert [layer.name for layer in head.layers][:5] == names


def test_the_penalty_is_l2_times_the_squares_of_the_heads_kernels():
    head = build_head(5, 3, declare_random(dense=[4, 6], l2=0.5))
    kernels = [weight for weight in head.get_weights() if weight.ndim == 2]
    assert [kernel.shape for kernel in kernels] == [(5, 4), (4, 6), (6, 3)]
    expected = 0.5 * sum(np.square(kernel).sum() for kernel in kernels)
    assert float(sum(head.losses)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("pooling", "pool"),
    [("max", lambda maps: maps.max(axis=(1, 2))), ("flatten", lambda maps: maps.reshape(len(maps), -1))],
)
def test_features_are_pooled_as_declared(pooling, pool):
    settings = declare_random(pooling=pooling, input_size=64)
    backbone = calibrate(build_backbone(settings, None))
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    expected = pool(answer(backbone, images / np.float32(127.5) - 1))
    features = answer(build_extractor(backbone, (64, 64, 3), settings), images)
    assert features.shape == (2, {"max": 256, "flatten": 2 * 2 * 256}[pooling])
    np.testing.assert_allclose(features, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("backbone", "alpha"), [("MobileNet", 0.25), ("MobileNet", 0.5), ("MobileNetV2", 0.35)])
def test_a_backbone_is_kerass_own_without_its_classifier(backbone, alpha):
    ours = build_backbone(declare_random(backbone=backbone, alpha=alpha), None)
    theirs = getattr(keras.applications, backbone)((32, 32, 3), alpha=alpha, include_top=False, weights=None)
    assert ours.count_params() == theirs.count_params()
    assert ours.output_shape == theirs.output_shape
    assert count_trainable(ours) == 0


def test_a_grey_image_is_seen_as_the_same_image_in_colour():
    settings = declare_random()
    backbone = calibrate(build_backbone(settings, None))
    grey = np.random.default_rng(0).integers(0, 256, (2, 28, 28, 1), np.uint8)
    colour = np.repeat(grey, 3, axis=-1)
    np.testing.assert_allclose(
        answer(build_extractor(backbone, (28, 28, 1), settings), grey),
        answer(build_extractor(backbone, (28, 28, 3), settings), colour),
        rtol=1e-3,
        atol=1e-4,
    )


def test_raw_bytes_go_in_and_probabilities_come_out(small):
    assert (small.input_shape, small.input.dtype) == ((None, 28, 28, 1), "uint8")
    y_prob = answer(small, np.zeros((3, 28, 28, 1), np.uint8))
    assert (y_prob.shape, y_prob.dtype) == ((3, 10), np.float32)
    np.testing.assert_allclose(y_prob.sum(axis=1), 1, rtol=1e-6)


def test_a_frozen_model_trains_its_head_alone(small):
    # 256 features to 10 classes, and a bias each
    assert count_trainable(small) == 256 * 10 + 10


def trainable_names(model):
    backbone = model.get_layer(BACKBONE)
    trained = {id(weight) for weight in model.trainable_weights}
    return [layer.name for layer in backbone.layers if any(id(weight) in trained for weight in layer.weights)]


def test_layers_are_unfrozen_by_number_by_index_by_name_or_all(small):
    layers = small.get_layer(BACKBONE).layers
    everything = [layer.name for layer in layers if layer.weights]
    unfreeze(small, 3)
    assert trainable_names(small) == ["conv_pw_13", "conv_pw_13_bn"]
    unfreeze(small, "conv_dw_13_bn")
    assert trainable_names(small) == ["conv_dw_13_bn", "conv_pw_13", "conv_pw_13_bn"]
    unfreeze(small, len(layers))
    assert trainable_names(small) == everything
    unfreeze(small, f"index:{len(layers) - 3}")
    assert trainable_names(small) == ["conv_pw_13", "conv_pw_13_bn"]
    unfreeze(small, "index:0")
    assert trainable_names(small) == everything
    unfreeze(small, 1)
    assert trainable_names(small) == [], "the last layer is an activation"
    unfreeze(small, "all")
    assert trainable_names(small) == everything


@pytest.mark.parametrize("wrong", ["conv_pw_99", "ALL", 1_000, "index:86"])
def test_layers_that_the_backbone_lacks_are_refused_with_some_that_it_has(small, wrong):
    with pytest.raises(ModelError, match=r"unfreeze: expected a number up to 86, index:0 to index:85, `all`.*13_relu"):
        unfreeze(small, wrong)
    assert trainable_names(small) == []


def train_a_little(model):
    """Two steps on random images, far from zero so that normalisation has something to move towards."""
    generator = np.random.default_rng(0)
    images = generator.integers(100, 256, (32, 28, 28, 1), np.uint8)
    labels = generator.integers(0, 10, 32)
    trained = keras.Model(model.input, model.output)
    # a graph would take longer to build than these steps take without one
    trained.compile(keras.optimizers.Adam(1e-2), "sparse_categorical_crossentropy", run_eagerly=True)
    trained.fit(images, labels, batch_size=16, verbose=0)


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


@pytest.mark.parametrize(
    "share", [0, 0.5, 0.999, *(pytest.param(share, marks=pytest.mark.slow) for share in (0.001, 0.1, 0.9))]
)
def test_truncated_weights_are_refused(weights_file, tmp_path, share):
    content = weights_file.read_bytes()
    truncated = tmp_path / "truncated.h5"
    truncated.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ModelError, match=r"truncated\.h5: expected MobileNet's weights"):
        build_backbone(declare_random(), truncated)


def test_the_error_says_how_many_values_were_expected_and_what_the_file_has(weights_file, tmp_path):
    with pytest.raises(ModelError, match=r"829,536 values without its classifier.*\(3, 3, 3, 16\)") as caught:
        build_backbone(declare_random(alpha=0.5), weights_file)
    assert "\n" not in str(caught.value)
    page = tmp_path / "page.h5"
    page.write_bytes(b"<!DOCTYPE html><html>Sign in</html>")
    with pytest.raises(ModelError, match=r"page\.h5: expected MobileNet's.*a file that isn't HDF5.*<!DOCTYP.*35 bytes"):
        build_backbone(declare_random(), page)


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


def test_normalisation_by_the_batch_is_distinguished_from_normalisation_that_is_frozen_or_held(small):
    assert not uses_batch_statistics(small), "frozen"
    small.get_layer(BACKBONE).trainable = True
    assert uses_batch_statistics(small)
    unfreeze(small, "all")
    assert not uses_batch_statistics(small), "held in inference mode"
