"""A small network of Inception blocks.

References:
    Szegedy et al. (2015), Going deeper with convolutions, arXiv:1409.4842, section 4, figure 2(b) and table 1.
    Departures, for images of about 28 pixels instead of 224: a stem of one 3x3 convolution and a pooling; groups 3 and
    5 of GoogLeNet's blocks, without group 4, at a quarter of their widths; no local response normalisation, and no
    auxiliary classifiers, which so shallow a network doesn't need.
"""

import keras
from keras import layers

from cotejo.models.blocks import close_net, convolve, open_net, pool
from cotejo.schema.trainings import Net

#: Widths of a block, a quarter of table 1's: #1x1, #3x3 reduce, #3x3, #5x5 reduce, #5x5, pool proj.
Widths = tuple[int, int, int, int, int, int]
GROUP_3: dict[str, Widths] = {"3a": (16, 24, 32, 4, 8, 8), "3b": (32, 32, 48, 8, 24, 16)}
GROUP_5: dict[str, Widths] = {"5a": (64, 40, 80, 8, 32, 32), "5b": (96, 48, 96, 12, 32, 32)}


def build_model(params: Net, image_shape: tuple[int, int, int], num_classes: int) -> keras.Model:
    """Builds the network: 180,002 parameters for grey images and ten classes.

    Args:
        params: The section of the net; the paper has ReLU, max pooling and a dropout rate of 0.4.
        image_shape: Height, width and channels of the raw images.
        num_classes: Number of classes.

    Returns:
        An uncompiled model from uint8 images of shape (batch, *image_shape) to probabilities (batch, num_classes).
    """
    images, x = open_net(params, image_shape)
    x = convolve(x, params, 32, 3, name="stem")  # (batch, 28, 28, 32)
    for blocks in (GROUP_3, GROUP_5):
        x = pool(x, params, 3, strides=2, padding="same")  # (batch, 14, 14, 32), (7, 7, 120)
        for name, widths in blocks.items():
            x = inception_block(x, params, widths, name)
    x = layers.GlobalAveragePooling2D(name="average")(x)  # (batch, 256)
    return close_net(images, x, params, num_classes)


def inception_block(x: keras.KerasTensor, params: Net, widths: Widths, name: str) -> keras.KerasTensor:
    """Looks at the same place through windows of 1, 3 and 5 pixels; returns all answers as channels side by side.

    The narrow 1x1 convolutions in front of the wide windows, and behind the pooling, keep the cost low.

    Args:
        x: Shape (batch, height, width, channels).
        params: The section of the net; `pooling` is also that of the fourth branch.
        widths: Filters of each convolution.
        name: Prefix of the layers' names.

    Returns:
        Tensor of shape (batch, height, width, one + three + five + projected).
    """
    one, three_reduced, three, five_reduced, five, projected = widths
    x1 = convolve(x, params, one, 1, name=f"{name}_1x1")
    x3 = convolve(x, params, three_reduced, 1, name=f"{name}_3x3_reduce")
    x3 = convolve(x3, params, three, 3, name=f"{name}_3x3")
    x5 = convolve(x, params, five_reduced, 1, name=f"{name}_5x5_reduce")
    x5 = convolve(x5, params, five, 5, name=f"{name}_5x5")
    pooled = pool(x, params, 3, strides=1, padding="same", name=f"{name}_pool")
    pooled = convolve(pooled, params, projected, 1, name=f"{name}_pool_proj")
    return layers.Concatenate(name=name)([x1, x3, x5, pooled])
