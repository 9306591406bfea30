"""A batch's parts trained at the same time: by the threads of a CPU, or by several GPUs."""

from itertools import pairwise
from typing import Any

import keras
import tensorflow as tf


def split_batch(batch: tf.Tensor, num_parts: int) -> list[tf.Tensor]:
    """Splits a batch into parts of equal size, or nearly so; of fewer images than parts, each part is the batch."""
    return [batch[part] for part in _list_parts(batch, num_parts)]


def join_parts(parts: list[tf.Tensor], batch: tf.Tensor) -> tf.Tensor:
    """Joins what was computed for the parts of a batch."""
    return tf.concat(parts, axis=0)[: tf.shape(batch)[0]]


def _list_parts(batch: tf.Tensor, num_parts: int) -> list[slice]:
    size = tf.shape(batch)[0]
    borders = [size * number // num_parts for number in range(num_parts + 1)]
    # a part without images has a loss that is no number, and there are operations that refuse it
    is_small = size < num_parts
    return [slice(tf.where(is_small, 0, start), tf.where(is_small, size, end)) for start, end in pairwise(borders)]


class SplitBatchModel(keras.Model):
    """A functional model that splits each batch into parts, which TensorFlow runs in parallel.

    The gradient is that of the whole batch, so the result is that of an undivided step, except for the last bits and
    for what random layers draw. That isn't so for layers that look at the whole batch, such as batch normalisation in
    training: see `cotejo.models.layers.uses_batch_statistics`.

    Attributes:
        num_parts: Parts of a batch.
    """

    num_parts = 1

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:  # noqa: ANN401 - as Keras declares it
        """Trains on one batch as Keras does, part by part."""
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        y_pred = []
        losses = []
        gradients = []
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
        y_pred = []
        losses = []
        for part, share in self._split(x):
            weight = None if sample_weight is None else sample_weight[part]
            y_pred.append(self(x[part], training=False))
            losses.append(share * self.compute_loss(x[part], y[part], y_pred[-1], weight, training=False))
        return self._measure(x, y, y_pred, losses, sample_weight)

    def _split(self, x: tf.Tensor) -> list[tuple[slice, tf.Tensor]]:
        """Returns each part with its share of the batch."""
        # where each part is the whole batch, the mean of the same gradients is that gradient
        is_small = tf.shape(x)[0] < self.num_parts
        parts = []
        for part in _list_parts(x, self.num_parts):
            share = tf.cast((part.stop - part.start) / tf.shape(x)[0], tf.float32)
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
        result: dict[str, tf.Tensor] = self.compute_metrics(x, y, join_parts(y_pred, x), sample_weight)
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
