"""LeNet-5 as the Fashion-MNIST study uses it.

References:
    LeCun, Bottou, Bengio and Haffner (1998), Gradient-based learning applied to document recognition, section II.B.
    Departures, as in the study: pooling without weights for trainable subsampling, full connections between the
    convolutions, a softmax for the radial basis functions.
"""

import keras
from keras import layers

from cotejo.models.blocks import close_net, connect, convolve, open_net, pool
from cotejo.schema.trainings import Net


def build_model(params: Net, image_shape: tuple[int, int, int], num_classes: int) -> keras.Model:
    """Builds LeNet-5: 61,706 parameters for grey images fitted to 32x32 pixels and ten classes.

    Args:
        params: The section of the net; the study has tanh and max pooling, no normalisation and no dropout.
        image_shape: Height, width and channels of the raw images.
        num_classes: Number of classes.

    Returns:
        An uncompiled model from uint8 images of shape (batch, *image_shape) to probabilities (batch, num_classes).

    Raises:
        ModelError: `input_size` is below 16 pixels.
    """
    images, x = open_net(params, image_shape)  # (batch, 32, 32, channels)
    x = convolve(x, params, 6, 5, padding="valid", name="c1")  # (batch, 28, 28, 6)
    x = pool(x, params, 2, name="s2")
    x = convolve(x, params, 16, 5, padding="valid", name="c3")  # (batch, 10, 10, 16)
    x = pool(x, params, 2, name="s4")
    x = layers.Flatten(name="flatten")(x)  # (batch, 400)
    x = connect(x, params, 120, name="c5")
    x = connect(x, params, 84, name="f6")
    return close_net(images, x, params, num_classes)
