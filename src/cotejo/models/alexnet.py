"""AlexNet, scaled to small images.

References:
    Krizhevsky, Sutskever and Hinton (2012), ImageNet classification with deep convolutional neural networks,
    section 3.5 and figure 2.
    Departures, for images of about 28 pixels instead of 224: a first kernel of 5x5 with stride 1 instead of 11x11 with
    stride 4, and a quarter of each layer's width. Besides: one column instead of two on two GPUs; no local response
    normalisation (`batch_normalization` is what came after it); dropout before the last dense layer only, not before
    the second one too.
"""

import keras
from keras import layers

from cotejo.models.blocks import close_net, connect, convolve, open_net, pool
from cotejo.schema.trainings import Net


def build_model(params: Net, image_shape: tuple[int, int, int], num_classes: int) -> keras.Model:
    """Builds AlexNet: 1,555,898 parameters for 28x28 grey images and ten classes.

    Args:
        params: The section of the net; the paper has ReLU, max pooling and a dropout rate of 0.5.
        image_shape: Height, width and channels of the raw images.
        num_classes: Number of classes.

    Returns:
        An uncompiled model from uint8 images of shape (batch, *image_shape) to probabilities (batch, num_classes).

    Raises:
        ModelError: `input_size` is below 15 pixels.
    """
    images, x = open_net(params, image_shape)
    x = convolve(x, params, 24, 5, name="conv1")  # (batch, 28, 28, 24)
    x = pool(x, params, 3, strides=2, name="pool1")  # windows overlap, section 3.4
    x = convolve(x, params, 64, 5, name="conv2")  # (batch, 13, 13, 64)
    x = pool(x, params, 3, strides=2, name="pool2")
    x = convolve(x, params, 96, 3, name="conv3")  # (batch, 6, 6, 96)
    x = convolve(x, params, 96, 3, name="conv4")
    x = convolve(x, params, 64, 3, name="conv5")
    x = pool(x, params, 3, strides=2, name="pool5")  # (batch, 2, 2, 64)
    x = layers.Flatten(name="flatten")(x)
    x = connect(x, params, 1024, name="dense6")
    x = connect(x, params, 1024, name="dense7")
    return close_net(images, x, params, num_classes)
