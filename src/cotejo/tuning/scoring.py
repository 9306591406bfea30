"""A trained model's score on each image, from which the winner of a search is confirmed."""

from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from cotejo.data.readers import LabelledImages
from cotejo.errors import ModelError
from cotejo.training.fit import serve


def score_images(
    model: keras.Model, images: LabelledImages, metric: str, batch_size: int, max_bytes_in_graph: int
) -> NDArray[Any]:
    """Scores a model on each image; the mean is the metric that Keras computes after an epoch.

    Args:
        model: From images to the probability of each class.
        images: The images.
        metric: `search.metric`.
        batch_size: Images a batch.
        max_bytes_in_graph: As for `serve`.

    Returns:
        Shape (num_samples,): bool for `val_accuracy`, whether the answer is correct; float32 for `val_cross_entropy`.

    Raises:
        ModelError: A probability isn't finite.
    """
    predict = tf.function(partial(model, training=False), reduce_retracing=True)
    parts = []
    for inputs, labels in serve(images, batch_size, max_bytes_in_graph):
        y_prob = tf.cast(predict(inputs), tf.float32).numpy()  # shape (batch_size, num_classes)
        if not np.isfinite(y_prob).all():
            raise ModelError(
                expected="finite probabilities on the images that confirm",
                received="nan",
                advice="Lower the learning rate in params.yaml",
            )
        parts.append(_score(y_prob, labels.numpy(), metric))
    return np.concatenate(parts)


def _score(y_prob: NDArray[np.float32], y_true: NDArray[np.int64], metric: str) -> NDArray[Any]:
    if metric == "val_accuracy":
        return np.asarray(y_prob.argmax(axis=1) == y_true)
    return np.asarray(keras.losses.sparse_categorical_crossentropy(y_true, y_prob), dtype=np.float32)
