"""Every backbone of the table is built, and is what Keras documents."""

import re
from importlib import import_module
from pathlib import Path
from typing import get_args

import keras
import numpy as np
import pytest

from answers import answer
from cotejo.models.backbones import BACKBONE, build_backbone, build_extractor, build_head, join, unfreeze
from cotejo.pretrained import BACKBONES, BackboneName
from cotejo.training.archive import load_model, save_model
from declared import declare

DOCS = Path(__file__).parents[2] / "docs/models.md"

#: The nets that `make test` builds, one of them with layers of its own. The pixels of every net are tested unbuilt.
QUICK = ("MobileNet", "VGG16", "EfficientNetB0", "ConvNeXtTiny")
#: The module of `keras.applications` with a net's `preprocess_input`.
MODULES = {
    "MobileNet": "mobilenet", "MobileNetV2": "mobilenet_v2", "MobileNetV3Small": "mobilenet_v3",
    "MobileNetV3Large": "mobilenet_v3", "VGG16": "vgg16", "VGG19": "vgg19", "ResNet50": "resnet50",
    "ResNet101": "resnet", "ResNet50V2": "resnet_v2", "Xception": "xception", "InceptionV3": "inception_v3",
    "DenseNet121": "densenet", "EfficientNetB0": "efficientnet", "EfficientNetV2B0": "efficientnet_v2",
    "NASNetMobile": "nasnet", "ConvNeXtTiny": "convnext",
}  # fmt: skip
#: Parameters with the classifier, to the last digit: the table of https://keras.io/api/applications as it was in 2021.
DOCUMENTED = {
    "MobileNet": 4_253_864, "MobileNetV2": 3_538_984, "VGG16": 138_357_544, "VGG19": 143_667_240,
    "ResNet50": 25_636_712, "ResNet101": 44_707_176, "ResNet50V2": 25_613_800, "Xception": 22_910_480,
    "InceptionV3": 23_851_784, "DenseNet121": 8_062_504, "EfficientNetB0": 5_330_571, "NASNetMobile": 5_326_716,
}  # fmt: skip
#: The same in millions: today's table; MobileNetV3's from table 3 of arXiv:1905.02244, since Keras's has none.
DOCUMENTED_MILLIONS = {
    "MobileNet": 4.3, "MobileNetV2": 3.5, "VGG16": 138.4, "VGG19": 143.7, "ResNet50": 25.6, "ResNet101": 44.7,
    "ResNet50V2": 25.6, "Xception": 22.9, "InceptionV3": 23.9, "DenseNet121": 8.1, "EfficientNetB0": 5.3,
    "EfficientNetV2B0": 7.2, "NASNetMobile": 5.3, "ConvNeXtTiny": 28.6, "MobileNetV3Small": 2.5,
    "MobileNetV3Large": 5.4,
}  # fmt: skip
#: Parameters without the classifier, in millions: "Stem" in https://github.com/keras-team/keras-applications.
DOCUMENTED_STEMS = {
    "MobileNet": 3.2, "MobileNetV2": 2.3, "VGG16": 14.7, "VGG19": 20.0, "ResNet50": 23.6, "Xception": 20.9,
    "InceptionV3": 21.8, "DenseNet121": 7.0, "NASNetMobile": 4.3,
}  # fmt: skip


def count_classifier(name, num_features):
    """Parameters of ImageNet's classifier, worked out from the papers: one dense layer of 1,000 but for three kinds."""
    if name.startswith("VGG"):  # 7x7x512 values, two layers of 4,096
        return (25_088 * 4_096 + 4_096) + (4_096 * 4_096 + 4_096) + (4_096 * 1_000 + 1_000)
    if name.startswith("MobileNetV3"):
        hidden = {"MobileNetV3Small": 1_024, "MobileNetV3Large": 1_280}[name]
        return (num_features * hidden + hidden) + (hidden * 1_000 + 1_000)
    return num_features * 1_000 + 1_000


def declare_backbone(name, **changes):
    published = BACKBONES[name]
    alpha = 1.0 if 1.0 in published.alphas else None
    size = {"input_size": published.least_size}
    return declare("transfer", **{"backbone": name, "alpha": alpha, "weights": "random", **size, **changes})


def test_the_table_has_the_nets_that_params_yaml_may_name():
    assert tuple(BACKBONES) == get_args(BackboneName)
    assert set(MODULES) == set(BACKBONES) == set(DOCUMENTED_MILLIONS)


@pytest.fixture(
    scope="module", params=[pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in BACKBONES]
)
def built(request):
    """A net at its smallest size and random weights, in a model that is taken apart after its tests."""
    settings = declare_backbone(request.param, dropout_rate=0.0)
    size = settings.input_size
    extractor = build_extractor(build_backbone(settings, None), (size, size, 3), settings)
    head = build_head(extractor.output_shape[-1], 10, settings)
    yield request.param, extractor, join(extractor, head)
    keras.utils.clear_session()


def test_a_net_has_the_parameters_that_keras_documents(built):
    name, extractor, _ = built
    backbone = extractor.get_layer(BACKBONE)
    without = backbone.count_params()
    total = without + count_classifier(name, backbone.output_shape[-1])
    if name in DOCUMENTED:
        assert total == DOCUMENTED[name]
    # Keras's MobileNetV3 counts 5.51 and 2.55 million; the paper has a little less
    tolerance = 0.11 if name.startswith("MobileNetV3") else 0.051
    assert total / 1e6 == pytest.approx(DOCUMENTED_MILLIONS[name], abs=tolerance)
    if name in DOCUMENTED_STEMS:
        assert without / 1e6 == pytest.approx(DOCUMENTED_STEMS[name], abs=0.06)
    assert not backbone.trainable_weights


def test_a_net_at_its_smallest_size_answers_and_frozen_it_is_the_same_in_training(built):
    name, extractor, model = built
    size = BACKBONES[name].least_size
    images = np.random.default_rng(0).integers(0, 256, (2, size, size, 3), np.uint8)
    y_prob = np.asarray(model(images, training=False))
    assert (y_prob.shape, y_prob.dtype) == ((2, 10), np.float32)
    np.testing.assert_allclose(y_prob.sum(axis=1), 1, rtol=1e-5)
    features = np.asarray(extractor(images, training=False))
    np.testing.assert_array_equal(features, np.asarray(extractor(images, training=True)))


def test_a_nets_last_layers_can_be_unfrozen_and_none_of_them_moves_with_the_batch(built):
    _, _, model = built
    backbone = model.get_layer(BACKBONE)
    unfreeze(model, f"index:{len(backbone.layers) // 2}")
    trained = sum(int(np.prod(weight.shape)) for weight in backbone.trainable_weights)
    assert 0 < trained < backbone.count_params()
    unfreeze(model, "all")
    assert sum(int(np.prod(weight.shape)) for weight in backbone.trainable_weights) > trained


def put_behind_nothing(settings, channels):
    """What reaches a net, from images of 8x8 pixels: the net is one that hands on what it is given."""
    pixels = keras.Input((8, 8, 3))
    nothing = keras.Model(pixels, keras.layers.Identity()(pixels), name=BACKBONE)
    return build_extractor(nothing, (8, 8, channels), settings)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", BACKBONES)
def test_raw_pixels_reach_a_net_as_its_own_preprocess_input_leaves_them(name, channels):
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, channels), np.uint8)
    extractor = put_behind_nothing(declare_backbone(name, pooling="flatten"), channels)
    colours = np.broadcast_to(images, (4, 8, 8, 3)).astype(np.float32)
    module = import_module(f"keras.applications.{MODULES[name]}")
    expected = module.preprocess_input(np.copy(colours)).reshape(4, -1)
    np.testing.assert_allclose(answer(extractor, images), expected, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("name", ["VGG16", "DenseNet121"])
def test_the_preprocessing_is_in_the_saved_model(name, tmp_path):
    extractor = put_behind_nothing(declare_backbone(name, pooling="flatten"), 3)
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), np.uint8)
    save_model(extractor, tmp_path / "model.keras")
    loaded = load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(answer(loaded, images), answer(extractor, images))


def test_a_net_with_layers_of_its_own_is_loaded_without_running_its_code(tmp_path, monkeypatch):
    # one block of each kind instead of eighteen, and an eighth of the width
    tiny = import_module("keras.src.applications.convnext").MODEL_CONFIGS["tiny"]
    monkeypatch.setitem(tiny, "depths", [1, 1, 1, 1])
    monkeypatch.setitem(tiny, "projection_dims", [12, 24, 48, 96])
    settings = declare_backbone("ConvNeXtTiny", output="sigmoid")
    extractor = build_extractor(build_backbone(settings, None), (32, 32, 3), settings)
    model = join(extractor, build_head(96, 2, settings))
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    save_model(model, tmp_path / "model.keras")
    loaded = load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded(images), model(images), rtol=1e-5)
    keras.utils.clear_session()


def test_efficientnets_weights_see_what_keras_itself_shows_them(tmp_path, monkeypatch):
    # what is in front of the stem, and where its values are, doesn't depend on the blocks behind it: one is enough
    blocks = import_module("keras.src.applications.efficientnet").DEFAULT_BLOCKS_ARGS
    monkeypatch.setattr("keras.src.applications.efficientnet.DEFAULT_BLOCKS_ARGS", blocks[:1])
    build = keras.applications.EfficientNetB0
    source = build(include_top=False, weights=None, input_shape=(32, 32, 3))
    (normalization,) = [layer for layer in source.layers if isinstance(layer, keras.layers.Normalization)]
    deviation = np.array([0.229, 0.224, 0.225])
    normalization.set_weights([np.array([0.485, 0.456, 0.406]), deviation**2, np.array(0)])
    file = tmp_path / "efficientnetb0_notop.h5"
    source.save(file)
    # where Keras gets ImageNet's weights, it puts one more layer in front of them
    monkeypatch.setattr("keras.src.applications.efficientnet.file_utils.get_file", lambda *_, **__: str(file))
    theirs = build(include_top=False, weights="imagenet", input_shape=(32, 32, 3))
    assert len(theirs.layers) == len(source.layers) + 1
    ours = build_backbone(declare_backbone("EfficientNetB0", weights="imagenet"), file)

    images = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype(np.float32)
    stems = [keras.Model(net.input, net.get_layer("stem_conv").output) for net in (ours, theirs, source)]
    our_stem, their_stem, unmended = (answer(stem, images) for stem in stems)
    np.testing.assert_allclose(our_stem, their_stem, rtol=1e-4, atol=1e-4)
    assert not np.allclose(their_stem, unmended, rtol=0.1)
    save_model(ours, tmp_path / "ours.keras")
    loaded = load_model(tmp_path / "ours.keras")
    stem = keras.Model(loaded.input, loaded.get_layer("stem_conv").output)
    np.testing.assert_array_equal(answer(stem, images), our_stem)
    keras.utils.clear_session()


def test_the_documentation_lists_the_table():
    row = r"^\| `(\w+)` \| (\d+) \| (\d+) \| ([^|]*) \| ([^|]*) \| ([^|]*) \|$"
    rows = re.findall(row, DOCS.read_text(encoding="utf-8"), re.MULTILINE)
    said = {name: (int(size), int(least), alphas, work, digest) for name, size, least, alphas, work, digest in rows}
    work = {
        "signed": "to -1..1",
        "bgr_mean": "to BGR, less the mean",
        "mean_std": "standardised",
        "inside": "in the net",
    }

    def say_digest(files):
        kinds = {"SHA-256" if file.sha256 else "MD5" if file.md5 else "none" for file in files.values()}
        return "SHA-256 for 0.25, else none" if len(kinds) == 2 else kinds.pop()

    assert said == {
        name: (
            published.input_size,
            published.least_size,
            ", ".join("" if alpha is None else f"{alpha:g}" for alpha in published.alphas) or "-",
            work[published.preprocessing],
            say_digest(published.files),
        )
        for name, published in BACKBONES.items()
    }
