"""Residual networks as the Fashion-MNIST study uses them.

References:
    He, Zhang, Ren and Sun (2016), Deep residual learning for image recognition, section 3.3 and table 1.
    Departures, as in the study: the convolutions have biases; resnet50_light has fewer blocks than ResNet-50, plain
    1x1 convolutions of stride 2 between its groups, and a dense layer of 1000 before the softmax. The convolutions
    that change the width of what is added are plain too, whatever `batch_normalization` says; `pooling` is the stem's.
"""

import keras
from keras import layers

from cotejo.models.blocks import build_regularizer, close_net, connect, convolve, open_net, pool
from cotejo.models.layers import activate
from cotejo.schema.trainings import Net

#: Blocks, inner and outer width of resnet50_light's groups.
GROUPS = ((2, 64, 256), (2, 128, 512), (3, 256, 1024), (2, 512, 2048))


def build_model(params: Net, image_shape: tuple[int, int, int], num_classes: int) -> keras.Model:
    """Builds resnet_small (227,210 parameters) or resnet50_light (17,839,746) for grey images and ten classes.

    Args:
        params: The section of the net; the study has ReLU, max pooling, batch normalisation and no dropout.
        image_shape: Height, width and channels of the raw images.
        num_classes: Number of classes.

    Returns:
        An uncompiled model from uint8 images of shape (batch, *image_shape) to probabilities (batch, num_classes).
    """
    images, x = open_net(params, image_shape)
    x = convolve(x, params, 64, 7, strides=2)
    x = pool(x, params, 3, strides=2, padding="same")  # (batch, 7, 7, 64) for 28x28
    x = {"resnet_small": small_body, "resnet50_light": light_body}[params.architecture](x, params)
    return close_net(images, x, params, num_classes)


def small_body(x: keras.KerasTensor, params: Net) -> keras.KerasTensor:
    """Three basic blocks of width 64; returns (batch, 64)."""
    for _ in range(3):
        shortcut = x
        x = convolve(x, params, 64, 3)
        x = convolve(x, params, 64, 3, activated=False)
        x = activate(layers.Add()([x, shortcut]), params.activation)
    return layers.GlobalAveragePooling2D()(x)


def light_body(x: keras.KerasTensor, params: Net) -> keras.KerasTensor:
    """Nine bottleneck blocks in four groups and a dense layer; returns (batch, 1000)."""
    for group, (num_blocks, inner, outer) in enumerate(GROUPS):
        if group > 0:
            x = _project(x, params, outer, strides=2)  # halves height and width
        for block in range(num_blocks):
            # only the first block changes the width: later groups have been widened by the convolution above
            shortcut = _project(x, params, outer) if group == block == 0 else x
            x = convolve(x, params, inner, 1)
            x = convolve(x, params, inner, 3)
            x = convolve(x, params, outer, 1, activated=False)
            x = activate(layers.Add()([x, shortcut]), params.activation)
    return connect(layers.GlobalAveragePooling2D()(x), params, 1000)


def _project(x: keras.KerasTensor, params: Net, filters: int, strides: int = 1) -> keras.KerasTensor:
    return layers.Conv2D(filters, 1, strides=strides, kernel_regularizer=build_regularizer(params))(x)
