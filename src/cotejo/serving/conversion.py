"""Turns a saved Keras model into another format, by Keras's own exporters. Imports TensorFlow, which takes seconds."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from cotejo.models.backbones import list_leaves
from cotejo.models.layers import find_precision
from cotejo.serving.runtimes import IMAGES, PROBABILITIES
from cotejo.training.archive import load_model

if TYPE_CHECKING:
    import onnx

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
    for layer in list_leaves(same):
        if isinstance(layer, layers.Normalization):
            layer.finalize_state()  # it computes with what it took from its weights when it was built
    return Convertible(same, model)


def convert(model: keras.Model, target: str, path: Path, facts: Mapping[str, str]) -> None:
    """Writes a model in another format; whatever the converter raises passes through.

    Args:
        model: From uint8 images to probabilities.
        target: saved_model | tflite | onnx.
        path: Where to write it.
        facts: What is written into the file, where the format has a place for it (onnx).
    """
    signature = [tf.TensorSpec((None, *model.input_shape[1:]), model.input.dtype, IMAGES)]
    if target == "saved_model":
        _freeze(model).export(path, verbose=False, input_signature=signature)
    elif target == "tflite":
        # of TFLite's own operations only: others would need TensorFlow wherever the file is used
        builtins = {"supported_ops": [tf.lite.OpsSet.TFLITE_BUILTINS]}
        _freeze(model).export(path, format="litert", verbose=False, input_signature=signature, target_spec=builtins)
    else:
        _convert_to_onnx(model, signature, path, facts)


def _freeze(model: keras.Model) -> keras.Model:
    """Wraps a model so that it is in inference mode whoever calls it, and names what it takes and returns.

    Keras's `model.export` (3.15.1) calls the model as `model(images)`. In one that wasn't saved by `save_model`, what
    comes after a Resizing layer is then in training mode.
    """
    images = keras.Input(model.input_shape[1:], dtype=model.input.dtype, name=IMAGES)
    return keras.Model(images, {PROBABILITIES: model(images, training=False)}, name=model.name)


def _convert_to_onnx(model: keras.Model, signature: list[tf.TensorSpec], path: Path, facts: Mapping[str, str]) -> None:
    """Converts the model with tf2onnx as a function, traced once; Keras's `export` traces it for a SavedModel first."""
    import onnx
    import tf2onnx

    def predict(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {PROBABILITIES: model(images, training=False)}

    logging.getLogger("tf2onnx").setLevel(logging.CRITICAL)
    with _calling_as_tf2onnx_reads(model):
        converted, _ = tf2onnx.convert.from_function(tf.function(predict, autograph=False), signature)
    for value in (*converted.graph.input, *converted.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"  # tf2onnx gives it a number
    _replace_erfc(converted.graph)
    onnx.helper.set_model_props(converted, dict(facts))
    onnx.checker.check_model(converted)
    onnx.save(converted, path)


@contextmanager
def _calling_as_tf2onnx_reads(model: keras.Model) -> Iterator[None]:
    """Lets some layers compute the same in a way that tf2onnx (1.17) can read, while the model is converted.

    What Keras answers afterwards, for comparison, is computed as ever.
    """
    with ExitStack() as undo:
        for layer in list_leaves(model):
            for name, value in _restate(layer).items():
                undo.callback(setattr, layer, name, getattr(layer, name))
                setattr(layer, name, value)
        yield


def _restate(layer: layers.Layer) -> dict[str, Any]:
    """Returns replacements for the attributes of a layer that tf2onnx can't read."""
    if isinstance(layer, layers.Normalization):
        # eager tensors from outside the traced function, which become inputs of the graph
        return {"mean": np.asarray(layer.mean), "variance": np.asarray(layer.variance)}
    if isinstance(layer, layers.Conv2D) and layer.groups > 1 and layer.data_format == "channels_last":
        return {"convolution_op": partial(_convolve_in_groups, layer)}
    return {}


def _convolve_in_groups(layer: layers.Conv2D, inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """Convolves as `keras.ops.conv`, which compiles a grouped convolution with XLA: a call that tf2onnx leaves."""
    return tf.nn.convolution(
        inputs, kernel, list(layer.strides), layer.padding.upper(), dilations=list(layer.dilation_rate)
    )


def _replace_erfc(graph: "onnx.GraphProto") -> None:
    """Writes erfc(x), which an exact GELU is made of in TensorFlow and ONNX hasn't, as 1 - erf(x)."""
    import onnx

    nodes = list(graph.node)
    if all(node.op_type != "Erfc" for node in nodes):
        return
    one = "cotejo_one"
    graph.initializer.append(onnx.numpy_helper.from_array(np.array(1, np.float32), one))
    del graph.node[:]
    for node in nodes:
        if node.op_type != "Erfc":
            graph.node.append(node)
            continue
        (given,), (answer,) = node.input, node.output
        graph.node.append(onnx.helper.make_node("Erf", [given], [f"{answer}_erf"], f"{node.name}_erf"))
        graph.node.append(onnx.helper.make_node("Sub", [one, f"{answer}_erf"], [answer], node.name))
