"""A batch's parts trained at the same time: by the threads of a CPU, or by several GPUs."""

from itertools import pairwise
from typing import Any

import keras
import tensorflow as tf


class SideBySide(keras.Model):
    """A functional model that splits each batch into parts, which TensorFlow runs side by side.

    The gradient is that of the whole batch, so the result is that of an undivided step, but for the last bits and for
    what random layers draw. That isn't so for layers that look at the whole batch, such as batch normalisation in
    training: see `cotejo.models.layers.uses_batch_statistics`.

    Attributes:
        num_parts: Parts of a batch.
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
            weight = None if sample_weight is None else sample_weight[part]
            y_pred.append(self(x[part], training=False))
            losses.append(share * self.compute_loss(x[part], y[part], y_pred[-1], weight, training=False))
        return self._measure(x, y, y_pred, losses, sample_weight)

    def _split(self, x: tf.Tensor) -> list[tuple[slice, tf.Tensor]]:
        """Returns each part with its share of the batch."""
        size = tf.shape(x)[0]
        borders = [size * number // self.num_parts for number in range(self.num_parts + 1)]
        # a batch with fewer images than parts would leave parts empty, whose loss is no number: each part is then
        # the batch, and the mean of the same gradients that gradient
        is_small = size < self.num_parts
        parts = []
        for start, end in pairwise(borders):
            share = tf.cast((end - start) / size, tf.float32)
            part = slice(tf.where(is_small, 0, start), tf.where(is_small, size, end))
            parts.append((part, tf.where(is_small, 1 / self.num_parts, share)))
        return parts

    def _measure(
        self,
        x: tf.Tensor,
        y: tf.Tensor,
        y_pred: list[tf.Tensor],
        losses: list[tf.Tensor],
        sample_weight: tf.Tensor | None,
    ) -> dict[str, tf.Tensor]:
        size = tf.shape(x)[0]
        for metric in self.metrics:
            if metric.name == "loss":
                metric.update_state(tf.add_n(losses), sample_weight=size)
        whole = tf.concat(y_pred, axis=0)[:size]
        result: dict[str, tf.Tensor] = self.compute_metrics(x, y, whole, sample_weight)
        return result


class Mirrored(keras.Model):
    """A functional model for several GPUs, whose parts of a batch may differ in size."""

    def _maybe_symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> None:  # noqa: ANN401 - Keras's own
        """Shows Keras the first batch's shapes.

        Keras 3.15 takes the mean of the parts for that, which fails where they differ in size, and has no public way
        to do otherwise.
        """
        if iterator is not None:
            _, _, batches = next(iter(iterator))
            data_batch = keras.tree.map_structure(lambda parts: parts.values[0], next(batches))
        with self.distribute_strategy.scope():
            self._symbolic_build(data_batch=data_batch)
