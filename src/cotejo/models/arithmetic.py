"""Counts the arithmetic of a model."""

import keras
import tensorflow as tf


def count_operations(model: keras.Model) -> int:
    """Returns the floating-point operations of one image's way through a model; a multiply-add counts as two.

    References:
        TensorFlow's profiler counts them in the graph; operations that it doesn't know, such as tanh, count as none.
    """
    images = tf.TensorSpec((1, *model.input_shape[1:]), model.input.dtype)
    graph = tf.function(lambda batch: model(batch, training=False)).get_concrete_function(images).graph
    options = tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()
    options["output"] = "none"
    return int(tf.compat.v1.profiler.profile(graph, options=options).total_float_ops)
