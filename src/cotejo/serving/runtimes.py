"""Runs an exported file where it will be used: in its own runtime, without Keras.

The command line takes the formats from here, so nothing that takes time is imported, not even NumPy.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Images: TypeAlias = "NDArray[np.uint8]"
Probabilities: TypeAlias = "NDArray[np.float32]"
#: From images to probabilities, each of shape (num_images, ...).
Run = Callable[[Images], Probabilities]

#: The names that an exported file gives what it takes and what it returns.
IMAGES = "images"
PROBABILITIES = "probabilities"


def open_saved_model(path: Path) -> Run:
    """Opens a SavedModel in TensorFlow."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))

    def run(images: Images) -> Probabilities:
        answers = loaded.signatures["serving_default"](images=tf.constant(images))
        found: Probabilities = answers[PROBABILITIES].numpy()
        return found

    return run


def open_tflite(path: Path) -> Run:
    """Opens a TFLite file in LiteRT's interpreter."""
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(model_path=str(path), num_threads=os.cpu_count() or 1).get_signature_runner()

    def run(images: Images) -> Probabilities:
        found: Probabilities = runner(images=images)[PROBABILITIES]
        return found

    return run


def open_onnx(path: Path) -> Run:
    """Opens an ONNX file in ONNX Runtime, on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors; it warns of what its own optimizer has left
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(images: Images) -> Probabilities:
        found: Probabilities = session.run([PROBABILITIES], {IMAGES: images})[0]
        return found

    return run


OPENERS = {"saved_model": open_saved_model, "tflite": open_tflite, "onnx": open_onnx}
