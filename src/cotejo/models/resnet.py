"""Residual networks as the Fashion-MNIST study uses them.

References:
    He, Zhang, Ren and Sun (2016), Deep residual learning for image recognition, section 3.3 and table 1.
    Departures, as in the study: the convolutions have biases; resnet50_light has fewer blocks than ResNet-50, plain
    1x1 convolutions of stride 2 between its groups, and a dense layer of 1000 before the softmax.
"""

import keras
from keras import layers

from cotejo.models.layers import classify, fit_image, scale_to_unit
from cotejo.params import ResNet

#: Blocks, inner and outer width of resnet50_light's groups.
GROUPS = ((2, 64, 256), (2, 128, 512), (3, 256, 1024), (2, 512, 2048))


def build_model(params: ResNet, image_shape: tuple[int, int, int], num_classes: int) -> keras.Model:
    """Builds resnet_small (227,210 parameters) or resnet50_light (17,839,746) for grey images and ten classes.

    Args:
        params: The `resnet` section.
        image_shape: Height, width and channels of the raw images.
        num_classes: Number of classes.

    Returns:
        An uncompiled model from uint8 images of shape (batch, *image_shape) to probabilities (batch, num_classes).
    """
    images = keras.Input(image_shape, dtype="uint8", name="images")
    x = stem(fit_image(scale_to_unit(images), params.input_size))  # (batch, 7, 7, 64) for 28x28
    x = {"resnet_small": small_body, "resnet50_light": light_body}[params.architecture](x)
    return keras.Model(images, classify(x, num_classes), name=params.architecture)


def stem(x: keras.KerasTensor) -> keras.KerasTensor:
    """A 7x7 convolution and a max-pooling, each halving height and width."""
    x = _convolve(x, 64, 7, strides=2, activate=True)
    return layers.MaxPooling2D(3, strides=2, padding="same")(x)


def small_body(x: keras.KerasTensor) -> keras.KerasTensor:
    """Three basic blocks of width 64; returns (batch, 64)."""
    for _ in range(3):
        shortcut = x
        x = _convolve(x, 64, 3, activate=True)
        x = _convolve(x, 64, 3, activate=False)
        x = layers.ReLU()(layers.Add()([x, shortcut]))
    return layers.GlobalAveragePooling2D()(x)


def light_body(x: keras.KerasTensor) -> keras.KerasTensor:
    """Nine bottleneck blocks in four groups and a dense layer; returns (batch, 1000)."""
    for group, (num_blocks, inner, outer) in enumerate(GROUPS):
        if group > 0:
            x = layers.Conv2D(outer, 1, strides=2)(x)  # halves height and width
        for block in range(num_blocks):
            # only the first block changes the width: later groups have been widened by the convolution above
            shortcut = layers.Conv2D(outer, 1)(x) if group == block == 0 else x
            x = _convolve(x, inner, 1, activate=True)
            x = _convolve(x, inner, 3, activate=True)
            x = _convolve(x, outer, 1, activate=False)
            x = layers.ReLU()(layers.Add()([x, shortcut]))
    return layers.Dense(1000, activation="relu")(layers.GlobalAveragePooling2D()(x))


def _convolve(
    x: keras.KerasTensor, filters: int, kernel_size: int, *, strides: int = 1, activate: bool
) -> keras.KerasTensor:
    x = layers.Conv2D(filters, kernel_size, strides=strides, padding="same")(x)
    x = layers.BatchNormalization()(x)
    return layers.ReLU()(x) if activate else x
