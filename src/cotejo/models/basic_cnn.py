"""The convolutional network of the first lessons: two convolutions with pooling and a small dense layer.

References:
    https://www.tensorflow.org/tutorials/images/cnn. Departure: without its third convolution.
"""

import keras
from keras import layers

from cotejo.models.blocks import close_net, connect, convolve, open_net, pool
from cotejo.schema.trainings import Net


def build_model(params: Net, image_shape: tuple[int, int, int], num_classes: int) -> keras.Model:
    """Builds the network: 121,930 parameters for 28x28 grey images and ten classes.

    Args:
        params: The section of the net; the tutorial has ReLU and max pooling, no normalisation and no dropout.
        image_shape: Height, width and channels of the raw images.
        num_classes: Number of classes.

    Returns:
        An uncompiled model from uint8 images of shape (batch, *image_shape) to probabilities (batch, num_classes).

    Raises:
        ModelError: `input_size` is below 10 pixels.
    """
    images, x = open_net(params, image_shape)  # (batch, 28, 28, channels)
    x = convolve(x, params, 32, 3, padding="valid", name="conv1")  # (batch, 26, 26, 32)
    x = pool(x, params, 2, name="pool1")
    x = convolve(x, params, 64, 3, padding="valid", name="conv2")  # (batch, 11, 11, 64)
    x = pool(x, params, 2, name="pool2")
    x = layers.Flatten(name="flatten")(x)  # (batch, 1600)
    x = connect(x, params, 64, name="dense")
    return close_net(images, x, params, num_classes)
