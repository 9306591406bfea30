"""Augmentation: training images changed at random, anew each time that they are seen."""

import math

import keras
import numpy as np
import tensorflow as tf
from keras import ops
from numpy.typing import NDArray

from cotejo.schema.trainings import Augmentation

#: The least and the greatest area of an erased rectangle, as a share of the image's, as in keras.layers.RandomErasing.
ERASED_SHARE = (0.02, 0.33)


def build_augmentation(settings: Augmentation, image_shape: tuple[int, ...]) -> keras.Model | None:
    """Builds a model that changes images in training, and otherwise gives them back as they are.

    What it draws is a function of its one seed generator's state, which `SeedEpochs` sets in each epoch.

    Args:
        settings: What to change.
        image_shape: (height, width, channels).

    Returns:
        A model from uint8 to uint8, each of shape (batch, height, width, channels); None where nothing is declared.
    """
    if not settings.is_on:
        return None
    images = keras.Input(image_shape, dtype="uint8", name="images")
    return keras.Model(images, Augment(settings)(images), name="augmentation")


def draw_augmented(
    augmentation: keras.Model, images: NDArray[np.uint8], num_versions: int, seed: int
) -> NDArray[np.uint8]:
    """Returns versions of images as a training sees them, of shape (num_images, num_versions, ...).

    Args:
        augmentation: What `build_augmentation` has built.
        images: uint8, shape (num_images, height, width, channels).
        num_versions: Versions of each image.
        seed: The same seed gives the same versions, whatever was drawn before.
    """
    (state,) = augmentation.non_trainable_variables
    state.assign(np.random.SeedSequence(seed).generate_state(2))
    repeated = np.repeat(images, num_versions, axis=0)
    versions: NDArray[np.uint8] = ops.convert_to_numpy(augmentation(repeated, training=True))
    return versions.reshape(len(images), num_versions, *images.shape[1:])


class Augment(keras.layers.Layer):
    """Flips, zooms, rotates, moves and erases at random, in training only; what is left empty is black.

    Keras has a layer for each of these. A single one resamples the image once, which blurs it less than a resampling
    for each change, and is nearly three times as fast.

    Args:
        settings: What to change, and how far at most.

    References:
        Z. Zhong et al., Random Erasing Data Augmentation (AAAI 2020), algorithm 1. As in Keras, and not in the paper,
        height and width are drawn apart, each the square root of a share of the area. The paper erases with noise.
    """

    def __init__(self, settings: Augmentation) -> None:
        super().__init__(dtype="float32")  # with any precision of the network: bfloat16 rounds places by pixels
        self.settings = settings
        self.seed_generator = keras.random.SeedGenerator(seed=0)

    def call(self, images: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Returns the images, changed if training; uint8, same shape."""
        if not training:
            return images
        declared = self.settings
        pixels = ops.cast(images, "float32")
        if declared.horizontal_flip or declared.zoom or declared.rotation or declared.translation:
            pixels = self._transform(pixels)
        if declared.erasing:
            pixels = self._erase(pixels)
        return ops.cast(ops.round(pixels), "uint8")

    def _transform(self, images: tf.Tensor) -> tf.Tensor:
        """Flips, zooms and rotates each image about its centre, then moves it."""
        num_images, height, width, _ = ops.shape(images)
        flip, zoom, turn, right, down = ops.unstack(self._draw(5, num_images, low=-1.0), 5)
        mirror = ops.where(flip < 0, -1.0, 1.0) if self.settings.horizontal_flip else 1.0
        scale = 1 + self.settings.zoom * zoom
        angle = math.radians(self.settings.rotation) * turn
        # a pixel (x, y) of the new image comes from (a x + b y + c, d x + e y + f)
        cos, sin = ops.cos(angle) / scale, ops.sin(angle) / scale
        a, b, d, e = mirror * cos, -mirror * sin, sin, cos
        centre_x, centre_y = (width - 1) / 2, (height - 1) / 2
        x = centre_x + self.settings.translation * width * right
        y = centre_y + self.settings.translation * height * down
        c, f = centre_x - a * x - b * y, centre_y - d * x - e * y
        zero = ops.zeros_like(a)
        matrices = ops.stack([a, b, c, d, e, f, zero, zero], axis=1)  # (num_images, 8)
        return ops.image.affine_transform(images, matrices, interpolation="bilinear", fill_mode="constant")

    def _erase(self, images: tf.Tensor) -> tf.Tensor:
        num_images, height, width, _ = ops.shape(images)
        chance, tall, wide, top, left = ops.unstack(self._draw(5, num_images), 5)
        rows, columns = _mark_span(height, tall, top), _mark_span(width, wide, left)
        is_chosen = chance < self.settings.erasing
        is_erased = is_chosen[:, None, None] & rows[:, :, None] & columns[:, None, :]  # (num_images, height, width)
        return ops.where(is_erased[..., None], 0.0, images)

    def _draw(self, num_numbers: int, num_images: int, low: float = 0.0) -> tf.Tensor:
        """Draws numbers from `low` up to 1 for each image, shape (num_numbers, num_images)."""
        return keras.random.uniform((num_numbers, num_images), low, 1.0, dtype="float32", seed=self.seed_generator)


def _mark_span(size: int, area: tf.Tensor, place: tf.Tensor) -> tf.Tensor:
    """Marks which of `size` rows or columns are erased, at least one from a size of 8; shape (num_images, size)."""
    least, greatest = ERASED_SHARE
    length = size * ops.sqrt(least + (greatest - least) * area)
    start = place * (size - length)
    centres = ops.arange(size, dtype="float32") + 0.5
    return (centres >= start[:, None]) & (centres < (start + length)[:, None])
