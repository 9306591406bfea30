"""VGG, stacks of 3x3 convolutions, scaled to small images.

References:
    Simonyan and Zisserman (2015), Very deep convolutional networks for large-scale image recognition,
    arXiv:1409.1556, section 2.1 and table 1.
    Departures, for images of about 28 pixels instead of 224: the first three stacks of configuration B, of five, at
    half their widths, and two dense layers of 256 instead of 4096. Dropout before the last dense layer only, not
    before the second one too.
"""

import keras
from keras import layers

from cotejo.models.blocks import close_net, connect, convolve, open_net, pool
from cotejo.schema.trainings import Net

#: Width of each stack of two convolutions.
WIDTHS = (32, 64, 128)


def build_model(params: Net, image_shape: tuple[int, int, int], num_classes: int) -> keras.Model:
    """Builds VGG: 649,962 parameters for 28x28 grey images and ten classes.

    Args:
        params: The section of the net; the paper has ReLU, max pooling, a dropout rate of 0.5 and l2 2.5e-4.
        image_shape: Height, width and channels of the raw images.
        num_classes: Number of classes.

    Returns:
        An uncompiled model from uint8 images of shape (batch, *image_shape) to probabilities (batch, num_classes).

    Raises:
        ModelError: `input_size` is below 8 pixels.
    """
    images, x = open_net(params, image_shape)
    for number, width in enumerate(WIDTHS, start=1):
        x = convolve(x, params, width, 3, name=f"conv{number}_1")
        x = convolve(x, params, width, 3, name=f"conv{number}_2")
        x = pool(x, params, 2, name=f"pool{number}")  # (batch, 14, 14, 32), (7, 7, 64), (3, 3, 128) for 28x28
    x = layers.Flatten(name="flatten")(x)  # (batch, 1152)
    x = connect(x, params, 256, name="dense1")
    x = connect(x, params, 256, name="dense2")
    return close_net(images, x, params, num_classes)
