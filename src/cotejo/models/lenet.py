"""LeNet-5 as the Fashion-MNIST study uses it.

References:
    LeCun, Bottou, Bengio and Haffner (1998), Gradient-based learning applied to document recognition, section II.B.
    Departures, as in the study: max-pooling for trainable subsampling, full connections between the
    convolutions, a softmax for the radial basis functions.
"""

import keras
from keras import layers

from cotejo.models.layers import classify, fit_image, scale_to_unit
from cotejo.params import LeNet

INPUT_SIZE = 32


def build_model(params: LeNet, image_shape: tuple[int, int, int], num_classes: int) -> keras.Model:
    """Builds LeNet-5: 61,706 parameters for 28x28 grey images and ten classes.

    Args:
        params: The `lenet` section; LeNet-5 is its only architecture.
        image_shape: Height, width and channels of the raw images.
        num_classes: Number of classes.

    Returns:
        An uncompiled model from uint8 images of shape (batch, *image_shape) to probabilities (batch, num_classes).
    """
    images = keras.Input(image_shape, dtype="uint8", name="images")
    x = fit_image(scale_to_unit(images), INPUT_SIZE)  # (batch, 32, 32, channels)
    x = layers.Conv2D(6, 5, activation="tanh", name="c1")(x)  # (batch, 28, 28, 6)
    x = layers.MaxPooling2D(2, name="s2")(x)
    x = layers.Conv2D(16, 5, activation="tanh", name="c3")(x)  # (batch, 10, 10, 16)
    x = layers.MaxPooling2D(2, name="s4")(x)
    x = layers.Flatten(name="flatten")(x)  # (batch, 400)
    x = layers.Dense(120, activation="tanh", name="c5")(x)
    x = layers.Dense(84, activation="tanh", name="f6")(x)
    return keras.Model(images, classify(x, num_classes), name=params.architecture)
