"""Class probabilities of a model, one row for every image."""

import keras
import numpy as np
from numpy.typing import NDArray


def predict_probabilities(model: keras.Model, images: NDArray[np.uint8], batch_size: int) -> NDArray[np.float32]:
    """Runs every image through a model exactly once, the smaller last batch included.

    Args:
        model: From uint8 images to probabilities.
        images: Shape (num_samples, height, width, channels).
        batch_size: Images a batch.

    Returns:
        float32 array of shape (num_samples, num_classes); rows sum to 1.
    """
    parts = [model.predict_on_batch(images[start : start + batch_size]) for start in range(0, len(images), batch_size)]
    return np.concatenate(parts).astype(np.float32)
