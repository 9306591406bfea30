"""A pretrained backbone, frozen under a new head, and its top layers unfrozen.

The backbone is a net of `keras.applications` by name (see `cotejo.pretrained`), or a model trained here.

References:
    Howard et al. (2017), MobileNets, arXiv:1704.04861. Sandler et al. (2018), MobileNetV2, arXiv:1801.04381.
    The order of work (frozen first, then the top layers with a low learning rate and batch normalisation in inference
    mode) is that of https://www.tensorflow.org/tutorials/images/transfer_learning.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
from keras import layers

from cotejo.errors import ModelError
from cotejo.models.layers import activate, classify, fit_image, hold_in_inference_mode
from cotejo.models.weights import RGB_DEVIATION, load_weights
from cotejo.pretrained import BACKBONES, Preprocessing
from cotejo.schema.trainings import LAYER_INDEX, Transfer

BACKBONE = "backbone"
HEAD = "head"
#: ImageNet's mean blue, green and red, of 0..255, and its mean and standard deviation of red, green and blue, of 0..1:
#: https://github.com/keras-team/keras/blob/v3.15.0/keras/src/applications/imagenet_utils.py
BGR_MEAN = (103.939, 116.779, 123.68)
RGB_MEAN = (0.485, 0.456, 0.406)
POOLINGS = {
    "average": layers.GlobalAveragePooling2D,
    "max": layers.GlobalMaxPooling2D,
    "flatten": layers.Flatten,
}


def build_backbone(params: Transfer, weights: Path | None) -> keras.Model:
    """Builds a frozen backbone of `keras.applications` without its classifier.

    Args:
        params: The `transfer` section.
        weights: A weights file without the classifier on top, or None for random weights.

    Returns:
        A model from float images of shape (batch, input_size, input_size, 3), preprocessed as the net wants them, to
        feature maps of shape (batch, height, width, num_features).

    Raises:
        ModelError: The file doesn't hold the weights of this backbone.
    """
    shape = (params.input_size, params.input_size, 3)
    width = {} if params.alpha is None else {"alpha": params.alpha}
    build = getattr(keras.applications, params.backbone)
    backbone = build(input_shape=shape, include_top=False, weights=None, **width)
    backbone.name = BACKBONE  # not before: EfficientNetV2 decides by its name how to scale, ConvNeXt names its layers
    if weights is not None:
        load_weights(backbone, params, weights)
    return _freeze(backbone)


def take_backbone(model: keras.Model, path: Path) -> keras.Model:
    """Builds a frozen backbone of a trained model: its layers up to the feature maps that it pools or flattens last.

    Args:
        model: A model of ours, from uint8 images.
        path: Its file, to name in an error.

    Returns:
        A model from uint8 images to feature maps of shape (batch, height, width, num_features). It shares its layers
        with the trained model.

    Raises:
        ModelError: The model isn't one of images, or has no feature maps.
    """
    # a Sequential that was loaded isn't a graph that could be cut
    inputs = [] if isinstance(model, keras.Sequential) else model.inputs
    is_of_images = len(inputs) == 1 and _count_axes(inputs[0]) == 4 and inputs[0].dtype == "uint8"
    pooling = [
        layer
        for layer in (model.layers if is_of_images else ())
        if _count_axes(layer.input) == 4 and _count_axes(layer.output) == 2
    ]
    if not pooling:
        told = " and ".join(f"{tensor.shape} of {tensor.dtype}" for tensor in inputs)
        received = "none of these" if is_of_images else f"inputs {told}" if inputs else "a Sequential"
        raise ModelError(
            where=f"transfer.weights: {path}",
            expected="a model of uint8 images that pools or flattens feature maps",
            received=received,
            advice="Name a model that a training stage has saved",
        )
    return _freeze(keras.Model(model.input, pooling[-1].input, name=BACKBONE))


def check_output(settings: Transfer, num_classes: int) -> None:
    """Refuses a sigmoid unit over more than two classes.

    Raises:
        ModelError: There are more, or fewer.
    """
    if settings.output == "sigmoid" and num_classes != 2:
        raise ModelError(
            where="transfer.output",
            expected="two classes for a sigmoid unit",
            received=f"{num_classes} classes",
            advice="Set transfer.output to softmax in params.yaml",
        )


def build_head(num_features: int, num_classes: int, settings: Transfer) -> keras.Model:
    """Builds the declared dense layers, dropout and the classifying layer over pooled features.

    A single sigmoid unit gives the second class's probability p; the head answers with 1 - p and p, so that whatever
    reads probabilities needn't know of it.

    Args:
        num_features: Width of the features.
        num_classes: Number of classes.
        settings: The `transfer` section.

    Returns:
        A model from (batch, num_features) to probabilities (batch, num_classes); rows sum to 1.

    Raises:
        ModelError: A sigmoid unit is declared and there aren't two classes.
    """
    check_output(settings, num_classes)
    regularizer = keras.regularizers.L2(settings.l2) if settings.l2 else None
    x = features = keras.Input((num_features,), name="features")
    for number, units in enumerate(settings.dense, 1):
        x = layers.Dense(units, kernel_regularizer=regularizer, name=f"dense_{number}")(x)
        x = activate(x, settings.activation, f"dense_{number}_{settings.activation}")
    x = layers.Dropout(settings.dropout_rate, name="dropout")(x)
    if settings.output == "sigmoid":
        unit = layers.Dense(1, kernel_regularizer=regularizer, dtype="float32", name="classify")(x)
        # the softmax of 0 and z is 1 - sigmoid(z) and sigmoid(z), exact at both ends, also in the loss
        both = layers.Concatenate(dtype="float32", name="both_classes")([keras.ops.zeros_like(unit), unit])
        return keras.Model(features, layers.Softmax(dtype="float32", name="sigmoid")(both), name=HEAD)
    return keras.Model(features, classify(x, num_classes, regularizer), name=HEAD)


def build_extractor(backbone: keras.Model, image_shape: tuple[int, int, int], settings: Transfer) -> keras.Model:
    """Builds a model of raw images that applies the backbone and pools or flattens its feature maps.

    Args:
        backbone: From `build_backbone` or `take_backbone`.
        image_shape: Height, width and channels (1 or 3) of the raw images.
        settings: The `transfer` section.

    Returns:
        A model from uint8 images (batch, *image_shape) to features (batch, num_features).

    Raises:
        ModelError: The images have colours, and the backbone is a model of grey images.
    """
    images = keras.Input(image_shape, dtype="uint8", name="images")
    if settings.has_own_backbone:
        x = _fit_own(images, backbone.input_shape[1:])
    else:
        x = _preprocess(images, BACKBONES[settings.backbone].preprocessing)
        x = fit_image(x, backbone.input_shape[1])
    return keras.Model(images, POOLINGS[settings.pooling](name="pool")(backbone(x)), name="extractor")


def join(extractor: keras.Model, head: keras.Model) -> keras.Model:
    """Joins an extractor and a head to one model from uint8 images to probabilities, sharing their weights."""
    return keras.Model(extractor.input, head(extractor.output), name="transfer")


def unfreeze(model: keras.Model, layers_to_unfreeze: int | str) -> keras.Model:
    """Unfreezes the top layers of a joined model's backbone; the head is trainable already.

    Batch normalisation keeps its moving statistics, also in training; its scale and offset are trained.

    Args:
        model: From `join`, changed in place.
        layers_to_unfreeze: The last N layers, or `index:N` for the layers from number N (the first is 0), or the name
            of the lowest layer to unfreeze, or `all`.

    Returns:
        The model.

    Raises:
        ModelError: The backbone has no such layer, or fewer layers than that.
    """
    outer = backbone = model.get_layer(BACKBONE)
    while inner := [layer for layer in backbone.layers if layer.name == BACKBONE]:
        (backbone,) = inner  # a transfer model that itself served as a backbone
    first = _find_first([layer.name for layer in backbone.layers], layers_to_unfreeze)
    outer.trainable = True
    for number, layer in enumerate(backbone.layers):
        layer.trainable = number >= first
        if number < first:
            _hold_dropout(layer)
    for layer in list_leaves(backbone):
        if isinstance(layer, layers.BatchNormalization):
            hold_in_inference_mode(layer)
    return model


def _find_first(names: list[str], layers_to_unfreeze: int | str) -> int:
    """Returns the number of the lowest layer to unfreeze."""
    wanted = str(layers_to_unfreeze)
    if wanted == "all":
        return 0
    if isinstance(layers_to_unfreeze, int) and layers_to_unfreeze <= len(names):
        return len(names) - layers_to_unfreeze
    if wanted.startswith(LAYER_INDEX) and int(wanted.removeprefix(LAYER_INDEX)) < len(names):
        return int(wanted.removeprefix(LAYER_INDEX))
    if wanted in names:
        return names.index(wanted)
    raise ModelError(
        where="finetune.unfreeze",
        expected=(
            f"a number up to {len(names)}, {LAYER_INDEX}0 to {LAYER_INDEX}{len(names) - 1}, `all`, or a layer of the "
            f"backbone such as {', '.join(names[-3:])}"
        ),
        received=f"{layers_to_unfreeze!r}",
    )


def _preprocess(images: keras.KerasTensor, preprocessing: Preprocessing) -> keras.KerasTensor:
    """Applies the net's `preprocess_input` to raw pixels; grey ones become red, green and blue."""
    if preprocessing == "signed":
        return _colour(layers.Rescaling(1 / 127.5, offset=-1, name="preprocess")(images))
    colours = _colour(images)
    if preprocessing == "bgr_mean":
        scaling = {"scale": 1.0, "offset": [-mean for mean in BGR_MEAN]}
        colours = keras.ops.flip(colours, axis=-1)
    elif preprocessing == "mean_std":
        scaling = {
            "scale": [1 / (255 * deviation) for deviation in RGB_DEVIATION],
            "offset": [-mean / deviation for mean, deviation in zip(RGB_MEAN, RGB_DEVIATION, strict=True)],
        }
    else:
        scaling = {"scale": 1.0}  # pixels as floats
    return layers.Rescaling(**scaling, name="preprocess")(colours)


def _colour(images: keras.KerasTensor) -> keras.KerasTensor:
    return layers.Concatenate(name="grey_to_rgb")([images] * 3) if images.shape[-1] == 1 else images


def _fit_own(images: keras.KerasTensor, wanted: tuple[int, int, int]) -> keras.KerasTensor:
    """Brings raw images to the shape that a model of ours takes, still as bytes."""
    if images.shape[-1] > wanted[-1]:
        raise ModelError(
            where="transfer.weights",
            expected=f"a model of images with {images.shape[-1]} channels, as these have",
            received=f"a model of grey ones, {wanted[0]}x{wanted[1]}x1",
            advice="Name another model, or make the images grey",
        )
    if images.shape[-1] < wanted[-1]:
        images = _colour(images)
    if images.shape[1:3] != wanted[:2]:
        resized = layers.Resizing(*wanted[:2], interpolation="bilinear", name="resize")(images)
        images = keras.ops.cast(keras.ops.round(resized), "uint8")
    return images


def _freeze(backbone: keras.Model) -> keras.Model:
    backbone.trainable = False
    _hold_dropout(backbone)
    return backbone


def _hold_dropout(frozen: layers.Layer) -> None:
    """Disables dropout of frozen layers in training, as if their output had been computed before."""

    def hold(layer: layers.Layer) -> None:
        call = layer.call
        layer.call = lambda inputs, training=None: call(inputs, training=False)

    for layer in list_leaves(frozen):
        if isinstance(layer, layers.Dropout):
            hold(layer)


def list_leaves(layer: layers.Layer) -> Iterator[layers.Layer]:
    """Yields the layers of a model and those of the models within it, or the layer itself."""
    if not isinstance(layer, keras.Model):
        yield layer
        return
    for inner in layer.layers:
        yield from list_leaves(inner)


def _count_axes(tensor: Any) -> int:  # noqa: ANN401 - a layer may have several
    return len(getattr(tensor, "shape", ()))
