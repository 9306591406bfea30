"""Runs an exported file where it will be used: in its own runtime, without Keras."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

#: From uint8 images to probabilities, each of shape (num_images, ...).
Run = Callable[[NDArray[np.uint8]], NDArray[np.float32]]

#: The names that an exported file gives what it takes and what it returns.
IMAGES, PROBABILITIES = "images", "probabilities"


def open_saved_model(path: Path) -> Run:
    """Opens a SavedModel in TensorFlow."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))

    def run(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        found: NDArray[np.float32] = loaded.signatures["serving_default"](images=tf.constant(images))[
            PROBABILITIES
        ].numpy()
        return found

    return run


def open_tflite(path: Path) -> Run:
    """Opens a TFLite file in LiteRT's interpreter."""
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(model_path=str(path), num_threads=os.cpu_count() or 1).get_signature_runner()

    def run(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        found: NDArray[np.float32] = runner(images=images)[PROBABILITIES]
        return found

    return run


def open_onnx(path: Path) -> Run:
    """Opens an ONNX file in ONNX Runtime, on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors; it warns of what its own optimizer has left
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        found: NDArray[np.float32] = session.run([PROBABILITIES], {IMAGES: images})[0]
        return found

    return run


OPENERS = {"saved_model": open_saved_model, "tflite": open_tflite, "onnx": open_onnx}
