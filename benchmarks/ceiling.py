"""How fast resnet_small could be at best on TensorFlow's kernels: the time of its convolutions and of nothing else."""

import time
from statistics import median
from typing import Any

import keras
import tensorflow as tf
from with_cotejo import build_net

from cotejo.params import load_params

#: A layer's input, filter, gradient of its output, strides and padding.
Convolution = tuple[tf.Tensor, tf.Tensor, tf.Tensor, tuple[int, int], str]


def time_convolutions(net: str, repeats: int, num_parts: int) -> dict[str, Any]:
    """Takes the median time of a step's convolutions: forward, gradients of the filters and of the inputs.

    None of them waits for another, which is less than any training asks for.

    Args:
        net: Section of `params.yaml`.
        repeats: Steps to time.
        num_parts: 1 gives each convolution all threads; 2 splits the batch, and each half gets one thread.

    Returns:
        Seconds, by dtype.
    """
    params = load_params(["base", net])
    settings = getattr(params, net)
    tf.config.threading.set_intra_op_parallelism_threads(max(1, params.base.threads // num_parts))
    tf.config.threading.set_inter_op_parallelism_threads(params.base.threads)
    model = build_net(settings)
    return {
        dtype.name: time_step(draw_operands(model, settings.batch_size // num_parts, num_parts, dtype), repeats)
        for dtype in (tf.float32, tf.bfloat16)
    }


def draw_operands(model: keras.Model, batch_size: int, num_parts: int, dtype: tf.DType) -> list[Convolution]:
    """Draws random operands for every convolution of a net, in its order, part by part."""
    operands = []
    for _ in range(num_parts):
        for layer in model.layers:
            if isinstance(layer, keras.layers.Conv2D):
                shapes = (batch_size, *layer.input.shape[1:]), layer.kernel.shape, (batch_size, *layer.output.shape[1:])
                images, filters, gradient = (tf.cast(tf.random.normal(shape), dtype) for shape in shapes)
                operands.append((images, filters, gradient, layer.strides, layer.padding.upper()))
    return operands


def time_step(operands: list[Convolution], repeats: int) -> float:
    """Returns the median seconds of all convolutions on given operands."""

    @tf.function
    def step(tensors: list[tuple[tf.Tensor, tf.Tensor, tf.Tensor]]) -> list[tf.Tensor]:
        results = []
        for (images, filters, gradient), (*_, strides, padding) in zip(tensors, operands, strict=True):
            geometry = {"strides": (1, *strides, 1), "padding": padding}
            results += [
                tf.raw_ops.Conv2D(input=images, filter=filters, **geometry),
                tf.raw_ops.Conv2DBackpropFilter(
                    input=images, filter_sizes=filters.shape, out_backprop=gradient, **geometry
                ),
            ]
            if images.shape[-1] > 1:  # nobody asks for the gradient of the pixels
                results.append(
                    tf.raw_ops.Conv2DBackpropInput(
                        input_sizes=images.shape, filter=filters, out_backprop=gradient, **geometry
                    )
                )
        return results

    tensors = [convolution[:3] for convolution in operands]
    times_s = []
    for _ in range(repeats + 2):
        began_s = time.perf_counter()
        step(tensors)
        times_s.append(time.perf_counter() - began_s)
    return median(times_s[2:])  # the first two trace the graph and warm up
