"""Weights of a backbone: the file that a study has, and what is loaded from it."""

import json
from pathlib import Path

import keras
from keras import layers

from cotejo.errors import ModelError
from cotejo.pretrained import HDF5_SIGNATURE
from cotejo.schema.trainings import Transfer

#: Standard deviation of the pixels of ImageNet by channel, as `keras.applications` scales them.
RGB_DEVIATION = (0.229, 0.224, 0.225)


def find_weights_file(path: Path) -> Path | None:
    """Returns the file with the backbone's weights, or None if it starts at random.

    Args:
        path: `transfer.weights_path`: the folder that the download stage wrote, or a saved model.

    Raises:
        ModelError: There is no such model, or the folder wasn't written by the download stage.
    """
    if path.suffix == ".keras":
        if path.is_file():
            return path
        raise ModelError(
            where="transfer.weights",
            expected="a saved model",
            received=f"{path}, which isn't there",
            advice="Train it first, such as with `dvc repro train-lenet`, or name another",
        )
    try:
        name = json.loads((path / "weights.json").read_text(encoding="utf-8"))["file"]
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            where=path, expected="what the download stage writes", received=error, advice="Run `dvc repro download`"
        ) from error
    return path / name if name else None


def load_weights(backbone: keras.Model, params: Transfer, weights: Path) -> None:
    """Loads the weights of a file into a backbone.

    Raises:
        ModelError: The file holds other weights.
    """
    try:
        with weights.open("rb") as file:
            start = file.read(len(HDF5_SIGNATURE))
        if start != HDF5_SIGNATURE:
            raise ValueError(f"a file that isn't HDF5 and begins with {start!r}.")
        backbone.load_weights(weights)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        width = "" if params.alpha is None else f" for alpha {params.alpha:g}"
        told = str(error).splitlines()[0].rstrip(".")
        raise ModelError(
            where=weights,
            expected=f"{params.backbone}'s weights{width}, {backbone.count_params():,} values without its classifier",
            received=f"{told} (in {_count_bytes(weights)})",
            advice="Run `dvc repro download`",
        ) from error
    if params.backbone == "EfficientNetB0":
        _divide_by_root_deviation(backbone)


def _divide_by_root_deviation(backbone: keras.Model) -> None:
    """Normalises EfficientNet's input, which Keras does only where Keras itself gets the weights.

    Those were trained with each channel divided by the root of its standard deviation once more
    (https://github.com/tensorflow/tensorflow/issues/49930). Here the variances of the normalisation say so.
    """
    (normalization,) = [layer for layer in backbone.layers if isinstance(layer, layers.Normalization)]
    mean, variance, *count = normalization.get_weights()
    normalization.set_weights([mean, variance * RGB_DEVIATION, *count])
    normalization.finalize_state()


def _count_bytes(path: Path) -> str:
    return f"{path.stat().st_size:,} bytes" if path.is_file() else "no file"
