"""Turns a saved Keras model into another format, by Keras's own exporters. Imports TensorFlow, which takes seconds."""

import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import keras
import tensorflow as tf

from cotejo.models.layers import find_precision
from cotejo.serving.runtimes import IMAGES, PROBABILITIES
from cotejo.training.archive import load_model

#: Formats whose runtimes have no bfloat16 that they compute in.
FLOAT32_ONLY = ("tflite", "onnx")


class Convertible(NamedTuple):
    """A model that can be converted.

    Attributes:
        model: What is converted.
        original: The saved model, where that computes in another precision; else None.
    """

    model: keras.Model
    original: keras.Model | None


def load_convertible(path: Path, target: str) -> Convertible:
    """Loads a saved model; for a format without bfloat16, as one that computes in float32 with the same weights.

    Raises:
        ModelError: It can't be loaded.
    """
    model = load_model(path)
    if target not in FLOAT32_ONLY or find_precision(model) == "float32":
        return Convertible(model, None)
    same = keras.models.model_from_json(model.to_json().replace('"mixed_bfloat16"', '"float32"'))
    same.set_weights(model.get_weights())
    return Convertible(same, model)


def convert(model: keras.Model, target: str, path: Path, facts: Mapping[str, str]) -> None:
    """Writes a model in another format; whatever the converter raises passes through.

    Args:
        model: From uint8 images to probabilities.
        target: saved_model | tflite | onnx.
        path: Where to write it.
        facts: What is written into the file, where the format has a place for it (onnx).
    """
    frozen = _freeze(model)
    signature = [tf.TensorSpec((None, *model.input_shape[1:]), model.input.dtype, IMAGES)]
    if target == "saved_model":
        frozen.export(path, verbose=False, input_signature=signature)
    elif target == "tflite":
        # of TFLite's own operations only: others would need TensorFlow wherever the file is used
        builtins = {"supported_ops": [tf.lite.OpsSet.TFLITE_BUILTINS]}
        frozen.export(path, format="litert", verbose=False, input_signature=signature, target_spec=builtins)
    else:
        logging.getLogger("tf2onnx").setLevel(logging.CRITICAL)
        with warnings.catch_warnings():
            # Keras 3.15 looks for a name that NumPy has taken back, to lend it to tf2onnx
            warnings.simplefilter("ignore", FutureWarning)
            frozen.export(path, format="onnx", verbose=False, input_signature=signature)
        _finish_onnx(path, facts)


def _freeze(model: keras.Model) -> keras.Model:
    """Wraps a model so that it is in inference mode whoever calls it, and names what it takes and returns.

    Keras's `model.export` (3.15.1) calls the model as `model(images)`. In one that wasn't saved by `save_model`, what
    comes after a Resizing layer is then in training mode.
    """
    images = keras.Input(model.input_shape[1:], dtype=model.input.dtype, name=IMAGES)
    return keras.Model(images, {PROBABILITIES: model(images, training=False)}, name=model.name)


def _finish_onnx(path: Path, facts: Mapping[str, str]) -> None:
    """Names the first dimension, which tf2onnx numbers, and writes what is known of the model into the file."""
    import onnx

    model = onnx.load(path)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    onnx.helper.set_model_props(model, dict(facts))
    onnx.checker.check_model(model)
    onnx.save(model, path)
