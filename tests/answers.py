"""What a model answers, without `predict`: that has XLA compile the net first, which takes longer than most tests.

What evaluate, predict and export do with `predict` is tested in their own folders.
"""

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray


def answer(model: keras.Model, images: NDArray[Any]) -> NDArray[Any]:
    """Returns the outputs of a model with one output, as an array; nothing is dropped out."""
    return np.asarray(model(images, training=False))
