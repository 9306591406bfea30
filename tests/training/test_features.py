"""Features of a frozen backbone: computed once, and the same answers as if they weren't."""

import keras
import numpy as np
import pytest

from cotejo.data.readers import LabelledImages
from cotejo.errors import ModelError
from cotejo.models.backbones import BACKBONE, build_backbone, build_extractor, build_head, join
from cotejo.params import Optimizer, Transfer
from cotejo.training import features
from cotejo.training.features import compute_features, prepare_transfer
from cotejo.training.fit import fit

SETTINGS = Transfer(
    backbone="MobileNet",
    alpha=0.25,
    weights="random",
    input_size=32,
    dropout_rate=0.5,
    epochs=2,
    batch_size=32,
    learning_rate=1e-2,
    optimizer=Optimizer(name="adam"),
)


@pytest.fixture(scope="module")
def weights_file(tmp_path_factory):
    """Weights whose features differ from image to image, as trained ones do and random ones hardly."""
    backbone = build_backbone(SETTINGS, None)
    backbone.trainable = True
    for layer in backbone.layers:
        layer.momentum = 0.0
    backbone(np.random.default_rng(0).uniform(-1, 1, (32, 32, 32, 3)).astype(np.float32), training=True)
    file = tmp_path_factory.mktemp("weights") / "mobilenet.h5"
    backbone.save(file)
    return file


@pytest.fixture(scope="module")
def extractor(weights_file):
    return build_extractor(build_backbone(SETTINGS, weights_file), (8, 8, 1))


@pytest.mark.parametrize("batch_size", [7, 100, 1_000], ids=["partial", "even", "one"])
def test_every_image_has_its_features_also_those_of_a_partial_last_batch(extractor, digits, monkeypatch, batch_size):
    monkeypatch.setattr(features, "FEATURE_BATCH_SIZE", batch_size)
    _, val = digits
    computed = compute_features(extractor, val)
    assert (computed.images.shape, computed.images.dtype) == ((100, 256), np.float32)
    np.testing.assert_array_equal(computed.labels, val.labels)
    np.testing.assert_allclose(computed.images, extractor.predict(val.images, verbose=0), rtol=1e-4, atol=1e-5)
    assert np.ptp(computed.images, axis=0).max() > 0.1, "all images alike: the test could not tell them apart"


def test_features_and_head_give_the_probabilities_of_the_joined_model(extractor, digits):
    _, val = digits
    head = build_head(256, 10, 0.5)
    joined = join(extractor, head).predict_on_batch(val.images)
    np.testing.assert_allclose(head.predict_on_batch(compute_features(extractor, val).images), joined, atol=1e-6)


def test_training_the_head_trains_the_saved_model_and_leaves_the_backbone_alone(weights_file, digits, dataset):
    job = prepare_transfer(SETTINGS, weights_file, dataset, *digits)(0)
    backbone = job.model.get_layer(BACKBONE)
    before = [np.copy(weight) for weight in backbone.get_weights()]
    answers = job.model.predict_on_batch(digits[1].images)
    result = fit(job, SETTINGS, 0, "transfer", lambda *_: None)
    for old, new in zip(before, backbone.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    after = job.model.predict_on_batch(digits[1].images)
    assert not np.allclose(answers, after)
    # what was validated on features is what the saved model does on images
    accuracy = (after.argmax(axis=1) == digits[1].labels).mean()
    assert accuracy == pytest.approx(result.history["val_accuracy"].iloc[result.best_epoch - 1])


def test_features_of_given_weights_are_computed_once_for_all_seeds(weights_file, digits, dataset, monkeypatch):
    computed = []

    def count(extractor, split):
        computed.append(len(split.labels))
        return compute_features(extractor, split)

    monkeypatch.setattr(features, "compute_features", count)
    prepare = prepare_transfer(SETTINGS, weights_file, dataset, *digits)
    jobs = [prepare(seed) for seed in (0, 1, 2)]
    assert computed == [300, 100]
    assert jobs[0].train.images is jobs[2].train.images
    assert jobs[0].model is not jobs[1].model


def test_random_backbones_differ_by_seed(digits, dataset):
    train, val = (LabelledImages(split.images[:8], split.labels[:8]) for split in digits)
    prepare = prepare_transfer(SETTINGS, None, dataset, train, val)
    kernels = []
    for seed in (0, 1, 0):
        keras.utils.set_random_seed(seed)
        kernels.append(prepare(seed).model.get_layer(BACKBONE).get_weights()[0])
    assert not np.array_equal(kernels[0], kernels[1])
    np.testing.assert_array_equal(kernels[0], kernels[2])


def test_wrong_weights_are_refused_before_any_seed_is_trained(tmp_path, digits, dataset):
    (tmp_path / "weights.h5").write_bytes(b"<html>")
    with pytest.raises(ModelError, match=r"weights\.h5: expected MobileNet's weights for alpha 0\.25"):
        prepare_transfer(SETTINGS, tmp_path / "weights.h5", dataset, *digits)
