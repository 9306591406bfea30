"""The parts of a network trained from scratch, as its section of `params.yaml` declares them.

A family opens a net, stacks these parts, and closes it; so each option means the same in every family. What stands
in front of or behind these parts is said by the family.
"""

import keras
from keras import layers

from cotejo.errors import ModelError
from cotejo.models.layers import BatchNormalization, activate, classify, fit_image, scale_to_unit
from cotejo.schema.trainings import MIN_INPUT_SIZES, Net

POOLS = {"max": layers.MaxPooling2D, "average": layers.AveragePooling2D}


def open_net(params: Net, image_shape: tuple[int, int, int]) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """Starts a net with raw images.

    Args:
        params: The section of the net.
        image_shape: Height, width and channels of the raw images.

    Returns:
        The net's input, uint8 of shape (batch, *image_shape), and these images scaled to 0..1 and brought to
        (batch, input_size, input_size, channels).

    Raises:
        ModelError: `input_size` is below the least of which the net's convolutions and poolings leave something.
    """
    min_size = MIN_INPUT_SIZES.get(params.architecture, 1)
    if params.input_size < min_size:
        raise ModelError(
            where=params.architecture,
            expected=f"at least {min_size} pixels",
            received=f"input_size {params.input_size}",
            advice="Raise input_size in params.yaml: smaller images are enlarged inside the model",
        )
    images = keras.Input(image_shape, dtype="uint8", name="images")
    return images, fit_image(scale_to_unit(images), params.input_size)


def convolve(
    x: keras.KerasTensor,
    params: Net,
    filters: int,
    kernel_size: int,
    *,
    strides: int = 1,
    padding: str = "same",
    activated: bool = True,
    name: str | None = None,
) -> keras.KerasTensor:
    """A convolution with bias, batch normalisation if declared, and the activation unless it comes later.

    Returns:
        Tensor of shape (batch, new_height, new_width, filters).
    """
    regularizer = build_regularizer(params)
    x = layers.Conv2D(
        filters, kernel_size, strides=strides, padding=padding, kernel_regularizer=regularizer, name=name
    )(x)
    if params.batch_normalization:
        x = BatchNormalization(name=name and f"{name}_normalization")(x)
    return activate(x, params.activation, name and f"{name}_activation") if activated else x


def pool(
    x: keras.KerasTensor,
    params: Net,
    size: int,
    *,
    strides: int | None = None,
    padding: str = "valid",
    name: str | None = None,
) -> keras.KerasTensor:
    """Returns the maximum or the average of each window; windows that overlap have strides below their size."""
    return POOLS[params.pooling](size, strides=strides, padding=padding, name=name)(x)


def connect(x: keras.KerasTensor, params: Net, units: int, name: str | None = None) -> keras.KerasTensor:
    """A dense layer and the activation, from (batch, num_features) to (batch, units)."""
    x = layers.Dense(units, kernel_regularizer=build_regularizer(params), name=name)(x)
    return activate(x, params.activation, name and f"{name}_activation")


def close_net(images: keras.KerasTensor, x: keras.KerasTensor, params: Net, num_classes: int) -> keras.Model:
    """Ends a net with dropout if declared, and the softmax layer.

    Args:
        images: The input, from `open_net`.
        x: Features of shape (batch, num_features).
        params: The section of the net; its architecture becomes the model's name.
        num_classes: Number of classes.

    Returns:
        An uncompiled model to probabilities (batch, num_classes).
    """
    if params.dropout_rate:
        x = layers.Dropout(params.dropout_rate, name="dropout")(x)
    return keras.Model(images, classify(x, num_classes, build_regularizer(params)), name=params.architecture)


def build_regularizer(params: Net) -> keras.regularizers.Regularizer | None:
    """Builds the declared penalty on the weights of a convolution or dense layer, biases excepted; None for none."""
    return keras.regularizers.L1L2(params.l1, params.l2) if params.l1 or params.l2 else None
