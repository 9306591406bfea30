"""A batch's parts trained at the same time, one thread each."""

from itertools import pairwise
from typing import Any

import keras
import tensorflow as tf


class SideBySide(keras.Model):
    """A functional model that splits each batch into parts, which TensorFlow runs side by side.

    The gradient is that of the whole batch, so the result is that of an undivided step, but for the last bits. That
    isn't so for layers that look at the whole batch, such as batch normalisation in training: see
    `cotejo.models.layers.uses_batch_statistics`.

    Attributes:
        num_parts: Parts of a batch, at most as many as the smallest batch has images.
    """

    num_parts = 1

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:  # noqa: ANN401 - as Keras declares it
        """Takes one step; as Keras's own, part by part."""
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        y_pred, losses, gradients = [], [], []
        for part, share in self._split(x):
            weight = None if sample_weight is None else sample_weight[part]
            with tf.GradientTape() as tape:
                y_pred.append(self(x[part], training=True))
                loss = share * self.compute_loss(x[part], y[part], y_pred[-1], weight, training=True)
            losses.append(loss)
            gradients.append(tape.gradient(loss, self.trainable_weights))
        whole = [tf.add_n(parts) for parts in zip(*gradients, strict=True)]
        self.optimizer.apply_gradients(zip(whole, self.trainable_weights, strict=True))
        return self._measure(x, y, y_pred, losses, sample_weight)

    def test_step(self, data: Any) -> dict[str, tf.Tensor]:  # noqa: ANN401
        """Evaluates one batch."""
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        y_pred, losses = [], []
        for part, share in self._split(x):
            y_pred.append(self(x[part], training=False))
            losses.append(share * self.compute_loss(x[part], y[part], y_pred[-1], training=False))
        return self._measure(x, y, y_pred, losses, sample_weight)

    def _split(self, x: tf.Tensor) -> list[tuple[slice, tf.Tensor]]:
        """Returns each part with its share of the images."""
        size = tf.shape(x)[0]
        borders = [size * number // self.num_parts for number in range(self.num_parts + 1)]
        return [(slice(start, end), tf.cast((end - start) / size, tf.float32)) for start, end in pairwise(borders)]

    def _measure(
        self,
        x: tf.Tensor,
        y: tf.Tensor,
        y_pred: list[tf.Tensor],
        losses: list[tf.Tensor],
        sample_weight: tf.Tensor | None,
    ) -> dict[str, tf.Tensor]:
        for metric in self.metrics:
            if metric.name == "loss":
                metric.update_state(tf.add_n(losses), sample_weight=tf.shape(x)[0])
        result: dict[str, tf.Tensor] = self.compute_metrics(x, y, tf.concat(y_pred, axis=0), sample_weight)
        return result
