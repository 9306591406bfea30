"""Small building blocks that several families share."""

import keras
from keras import layers

#: An image that lacks at most so many pixels per side is padded, like the study's 28x28 for LeNet's 32x32.
MAX_PADDING = 4


def fit_image(images: keras.KerasTensor, size: int) -> keras.KerasTensor:
    """Brings images to a square size inside the model: zero padding where a few pixels lack, else resizing.

    Args:
        images: Shape (batch, height, width, channels).
        size: Height and width to reach, in pixels.

    Returns:
        Tensor of shape (batch, size, size, channels).
    """
    height, width = images.shape[1:3]
    if (height, width) == (size, size):
        return images
    lacking = (size - height, size - width)
    if height == width and 0 < lacking[0] <= 2 * MAX_PADDING and lacking[0] % 2 == 0:
        return layers.ZeroPadding2D(lacking[0] // 2, name="pad")(images)
    return layers.Resizing(size, size, interpolation="bilinear", name="resize")(images)


def scale_to_unit(images: keras.KerasTensor) -> keras.KerasTensor:
    """Scales pixels from 0..255 to 0..1."""
    return layers.Rescaling(1 / 255, name="scale")(images)


def classify(features: keras.KerasTensor, num_classes: int) -> keras.KerasTensor:
    """Adds the dense softmax layer; its output is float32 whatever the precision of the rest.

    Args:
        features: Shape (batch, num_features).
        num_classes: Number of outputs.

    Returns:
        Probabilities of shape (batch, num_classes); rows sum to 1.
    """
    return layers.Dense(num_classes, activation="softmax", dtype="float32", name="classify")(features)
