"""Augmentation: what each option does to images, how far it goes, and that it's a function of a seed."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage

from cotejo.training.augmentation import build_augmentation, draw_augmented
from cotejo.training.callbacks import SeedEpochs
from declared import declare

SIZE = 32
ALL = {"horizontal_flip": True, "rotation": 15.0, "zoom": 0.1, "translation": 0.1, "erasing": 0.5}
OPTIONS = [{key: value} for key, value in ALL.items()]


def build(image_shape=(SIZE, SIZE, 1), **options):
    return build_augmentation(declare("lenet", augmentation=options).augmentation, image_shape)


def augment(image, num_versions=200, seed=0, **options):
    """Returns versions of one image of shape (height, width), shape (num_versions, height, width)."""
    augmentation = build((*image.shape, 1), **options)
    return draw_augmented(augmentation, image[np.newaxis, ..., np.newaxis], num_versions, seed)[0, ..., 0]


def find_centres(images):
    """Returns the centre of brightness of each image, (num_images, 2), as y and x from the image's own centre."""
    centres = np.array([ndimage.center_of_mass(image) for image in images])
    return centres - (np.array(images.shape[1:]) - 1) / 2


def build_noise(num_images=70, channels=1):
    return np.random.default_rng(0).integers(1, 256, size=(num_images, SIZE, SIZE, channels), dtype=np.uint8)


@pytest.fixture
def square():
    """A white square of 8 pixels in the middle of a black image."""
    image = np.zeros((SIZE, SIZE), dtype=np.uint8)
    image[12:20, 12:20] = 255
    return image


@pytest.fixture
def bar():
    """A white bar that lies to the right of the middle."""
    image = np.zeros((SIZE, SIZE), dtype=np.uint8)
    image[15:17, 16:28] = 255
    return image


def test_nothing_declared_is_no_model():
    assert build() is None


@pytest.mark.parametrize("options", [*OPTIONS, ALL])
@pytest.mark.parametrize("channels", [1, 3])
def test_images_change_in_training_only(options, channels):
    images = build_noise(channels=channels)
    augmentation = build(images.shape[1:], **options)
    for outcome in (
        augmentation(images),
        augmentation(images, training=False),
        augmentation.predict(images, verbose=0),
    ):
        assert np.array_equal(outcome, images)
    changed = augmentation(images, training=True)
    assert changed.dtype == tf.uint8
    assert changed.shape == images.shape
    assert not np.array_equal(changed, images)


def test_a_flip_mirrors_about_half_of_the_images_exactly():
    image = build_noise(1)[0, ..., 0]
    versions = augment(image, 1000, horizontal_flip=True)
    flipped = (versions == image[:, ::-1]).all(axis=(1, 2))
    assert (flipped | (versions == image).all(axis=(1, 2))).all()
    assert 450 < flipped.sum() < 550


def test_a_rotation_turns_about_the_centre_by_no_more_than_its_degrees(bar):
    centres = find_centres(augment(bar, rotation=30.0))
    degrees = np.degrees(np.arctan2(*centres.T))
    assert -30.5 < degrees.min() < -25
    assert 25 < degrees.max() < 30.5
    np.testing.assert_allclose(np.hypot(*centres.T), 6, atol=0.1)  # as far from the centre as before


@pytest.mark.parametrize("shape", [(SIZE, SIZE), (24, 40)])
def test_a_half_turn_is_among_the_rotations_by_180_degrees(shape):
    image = np.zeros(shape, dtype=np.uint8)
    image[10:13, 14:26] = 255
    angles = np.degrees(np.arctan2(*find_centres(augment(image, rotation=180.0)).T))
    assert np.ptp(angles) > 340


def test_a_zoom_scales_height_and_width_alike_by_no_more_than_its_share(square):
    versions = augment(square, zoom=0.25)
    sides = np.sqrt(versions.sum(axis=(1, 2)) / 255)  # of a square of the same brightness
    assert 5.8 < sides.min() < 6.4
    assert 9.6 < sides.max() < 10.2
    np.testing.assert_allclose(find_centres(versions), 0, atol=0.05)
    np.testing.assert_allclose(versions, versions.swapaxes(1, 2), atol=1)


def test_a_translation_moves_by_no_more_than_its_share_of_height_and_width(square):
    moves = find_centres(augment(square, translation=0.125))
    assert np.abs(moves).max() < 0.125 * SIZE + 0.05
    for axis in (0, 1):
        assert moves[:, axis].min() < -3.5
        assert moves[:, axis].max() > 3.5


def test_a_translation_is_bounded_by_height_and_width_apart():
    image = np.zeros((20, 40), dtype=np.uint8)
    image[9:11, 19:21] = 255
    most = np.abs(find_centres(augment(image, translation=0.1))).max(axis=0)
    np.testing.assert_allclose(most, [2, 4], atol=0.2)


def test_where_an_image_came_to_an_end_it_is_black():
    white = np.full((SIZE, SIZE), 255, dtype=np.uint8)
    versions = augment(white, translation=0.2)
    assert set(np.unique(versions[:, 10:20, 10:20])) == {255}
    assert (versions.min(axis=(1, 2)) == 0).any()


def test_values_are_rounded_not_cut():
    grey = np.full((SIZE, SIZE), 201, dtype=np.uint8)
    assert (augment(grey, rotation=10.0)[:, 10:20, 10:20] == 201).all()


@pytest.mark.parametrize("size", [8, SIZE])
def test_erasing_for_certain_blackens_one_rectangle_in_each_image(size):
    white = np.full((size, size), 255, dtype=np.uint8)
    versions = augment(white, erasing=1.0)
    assert set(np.unique(versions)) == {0, 255}
    for version in versions:
        rows, columns = np.nonzero(version == 0)
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert len(rows) == height * width
        # the sides are the square roots of 2 to 33 % of the area, cut to whole pixels
        assert np.sqrt(0.02) * size - 1 < min(height, width)
        assert max(height, width) < np.sqrt(0.33) * size + 1
    is_hit = (versions == 0).any(axis=0)
    assert all(edge.any() for edge in (is_hit[0], is_hit[-1], is_hit[:, 0], is_hit[:, -1]))


def test_erasing_spares_as_many_images_as_it_says():
    white = np.full((SIZE, SIZE), 255, dtype=np.uint8)
    erased = (augment(white, 1000, erasing=0.25) == 0).any(axis=(1, 2))
    assert 200 < erased.sum() < 300


def test_all_channels_change_alike():
    images = np.repeat(build_noise(), 3, axis=-1)
    changed = np.asarray(build(images.shape[1:], **ALL)(images, training=True))
    assert np.array_equal(changed, np.repeat(changed[..., :1], 3, axis=-1))


def test_two_builds_draw_the_same_and_each_call_draws_anew():
    images = build_noise()
    first, second = build(**ALL), build(**ALL)
    once, again = first(images, training=True), first(images, training=True)
    assert not np.array_equal(once, again)
    assert np.array_equal(once, second(images, training=True))
    assert np.array_equal(again, second(images, training=True))


def test_what_an_epoch_draws_is_a_function_of_seed_and_epoch():
    images = build_noise()
    augmentation = build(**ALL)
    callback = SeedEpochs(3, tf.Variable(tf.range(70, dtype=tf.int64)))
    callback.set_model(keras.Sequential([keras.Input(images.shape[1:]), augmentation]))  # found within another model
    drawn = []
    for epoch in (0, 1, 0):
        callback.on_epoch_begin(epoch)
        drawn.append(np.asarray(augmentation(images, training=True)))
    assert np.array_equal(drawn[0], drawn[2])
    assert not np.array_equal(drawn[0], drawn[1])


def test_versions_are_a_function_of_the_seed():
    images = build_noise(3)
    augmentation = build(**ALL)
    first, second, other = (draw_augmented(augmentation, images, 4, seed) for seed in (0, 0, 1))
    assert first.shape == (3, 4, SIZE, SIZE, 1)
    assert first.dtype == np.uint8
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)
    assert len(np.unique(first.reshape(12, -1), axis=0)) == 12


def test_images_served_in_batches_keep_their_labels_and_their_number():
    images = np.full((70, SIZE, SIZE, 1), 1, dtype=np.uint8) * np.arange(70, dtype=np.uint8).reshape(70, 1, 1, 1)
    augmentation = build(translation=0.1, rotation=5.0)
    served = tf.data.Dataset.from_tensor_slices((images, np.arange(70))).batch(32)
    changed = list(served.map(lambda batch, labels: (augmentation(batch, training=True), labels)))
    assert [len(batch) for batch, _ in changed] == [32, 32, 6]
    for batch, labels in changed:
        assert np.array_equal(np.asarray(batch)[:, 16, 16, 0], labels)


def test_a_lower_precision_of_the_network_changes_no_image():
    images = build_noise()
    exact = np.asarray(build(**ALL)(images, training=True))
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        augmentation = build(**ALL)
    finally:
        keras.config.set_dtype_policy("float32")
    assert np.array_equal(augmentation(images, training=True), exact)


def test_a_training_sees_changed_images_and_is_validated_on_the_images_as_they_are():
    images = np.full((40, SIZE, SIZE, 1), 255, dtype=np.uint8)
    inputs = keras.Input(images.shape[1:], dtype="uint8")
    darkness = keras.layers.GlobalMaxPooling2D()(255.0 - keras.ops.cast(build(erasing=1.0)(inputs), "float32"))
    model = keras.Model(inputs, keras.layers.Dense(1, kernel_initializer="ones")(darkness))
    model.compile(keras.optimizers.SGD(0.0), loss="mae", jit_compile=False)
    history = model.fit(images, np.zeros(40), validation_data=(images, np.zeros(40)), verbose=0).history
    assert history == {"loss": [255.0], "val_loss": [0.0]}
