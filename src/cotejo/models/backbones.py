"""Any backbone of keras.applications, frozen under a new head, and its top layers unfrozen.

References:
    Howard et al. (2017), MobileNets, arXiv:1704.04861. Sandler et al. (2018), MobileNetV2, arXiv:1801.04381.
    The order of work (frozen first, then the top layers with a low learning rate and batch normalisation in inference
    mode) is that of https://www.tensorflow.org/tutorials/images/transfer_learning.
"""

import json
from pathlib import Path

import keras
from keras import layers

from cotejo.errors import ModelError
from cotejo.models.layers import classify, fit_image, hold_in_inference_mode
from cotejo.schema import Transfer

BUILDERS = {"MobileNet": keras.applications.MobileNet, "MobileNetV2": keras.applications.MobileNetV2}
BACKBONE = "backbone"
HEAD = "head"


def find_weights_file(folder: Path) -> Path | None:
    """Returns the weights that the download stage left in a folder, or None if the backbone starts at random.

    Raises:
        ModelError: The folder wasn't written by the download stage.
    """
    try:
        name = json.loads((folder / "weights.json").read_text(encoding="utf-8"))["file"]
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"{folder}: expected what the download stage writes. Received: {error}. Run `dvc repro download`."
        ) from error
    return folder / name if name else None


def build_backbone(params: Transfer, weights: Path | None) -> keras.Model:
    """Builds a frozen backbone without its classifier.

    Args:
        params: The `transfer` section.
        weights: A weights file without the classifier on top, or None for random weights.

    Returns:
        A model from float images of shape (batch, input_size, input_size, 3), scaled to -1..1, to feature maps of
        shape (batch, height, width, num_features).

    Raises:
        ModelError: The file doesn't hold the weights of this backbone.
    """
    shape = (params.input_size, params.input_size, 3)
    backbone = BUILDERS[params.backbone](
        input_shape=shape, alpha=params.alpha, include_top=False, weights=None, name=BACKBONE
    )
    if weights is not None:
        try:
            backbone.load_weights(weights)
        except (OSError, ValueError) as error:
            raise ModelError(
                f"{weights}: expected {params.backbone}'s weights for alpha {params.alpha:g}, without its classifier. "
                f"Received: {str(error).splitlines()[0]} Run `dvc repro download`."
            ) from error
    backbone.trainable = False
    return backbone


def build_head(num_features: int, num_classes: int, dropout_rate: float) -> keras.Model:
    """Builds dropout and a dense softmax layer over pooled features.

    Args:
        num_features: Width of the features.
        num_classes: Number of classes; 1 makes a single sigmoid unit, for a question answered by yes or no.
        dropout_rate: Share of the features dropped in training.

    Returns:
        A model from (batch, num_features) to probabilities (batch, num_classes).
    """
    features = keras.Input((num_features,), name="features")
    x = layers.Dropout(dropout_rate, name="dropout")(features)
    if num_classes == 1:
        return keras.Model(features, layers.Dense(1, activation="sigmoid", name="classify")(x), name=HEAD)
    return keras.Model(features, classify(x, num_classes), name=HEAD)


def build_extractor(backbone: keras.Model, image_shape: tuple[int, int, int]) -> keras.Model:
    """Puts the backbone behind raw images and pools its feature maps.

    Args:
        backbone: From `build_backbone`.
        image_shape: Height, width and channels (1 or 3) of the raw images.

    Returns:
        A model from uint8 images (batch, *image_shape) to features (batch, num_features).
    """
    images = keras.Input(image_shape, dtype="uint8", name="images")
    x = layers.Rescaling(1 / 127.5, offset=-1, name="preprocess")(images)  # both MobileNets' preprocess_input
    if image_shape[-1] == 1:
        x = layers.Concatenate(name="grey_to_rgb")([x, x, x])
    x = fit_image(x, backbone.input_shape[1])
    return keras.Model(images, layers.GlobalAveragePooling2D(name="pool")(backbone(x)), name="extractor")


def join(extractor: keras.Model, head: keras.Model) -> keras.Model:
    """Joins an extractor and a head to one model from uint8 images to probabilities, sharing their weights."""
    return keras.Model(extractor.input, head(extractor.output), name="transfer")


def unfreeze(model: keras.Model, layers_to_unfreeze: int | str) -> keras.Model:
    """Makes the top layers of a joined model's backbone trainable; the head is trainable already.

    Batch normalisation keeps its moving statistics, also in training; its scale and offset are trained.

    Args:
        model: From `join`, changed in place.
        layers_to_unfreeze: The last N layers, or the name of the lowest layer to unfreeze, or `all`.

    Returns:
        The model.

    Raises:
        ModelError: The backbone has no such layer, or fewer layers than that.
    """
    backbone = model.get_layer(BACKBONE)
    names = [layer.name for layer in backbone.layers]
    if layers_to_unfreeze == "all":
        first = 0
    elif isinstance(layers_to_unfreeze, int) and layers_to_unfreeze <= len(names):
        first = len(names) - layers_to_unfreeze
    elif layers_to_unfreeze in names:
        first = names.index(str(layers_to_unfreeze))
    else:
        raise ModelError(
            f"finetune.unfreeze: expected a number up to {len(names)}, `all`, or a layer of the backbone such as "
            f"{', '.join(names[-3:])}. Received: {layers_to_unfreeze!r}."
        )
    backbone.trainable = True
    for number, layer in enumerate(backbone.layers):
        layer.trainable = number >= first
        if isinstance(layer, layers.BatchNormalization):
            hold_in_inference_mode(layer)
    return model
