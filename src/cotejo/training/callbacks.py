"""What happens at the borders of an epoch."""

import math
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from cotejo.errors import ModelError

Logs = dict[str, float]


class SeedEpochs(keras.callbacks.Callback):
    """Makes the order of the images, and every random layer, a function of (seed, epoch).

    Keras's own seeded `fit` repeats one order in every epoch, and what its random layers draw depends on how many
    epochs ran before in this process. A function of (seed, epoch) doesn't, so a run can be resumed exactly.

    Args:
        seed: The run's seed.
        order: Variable of shape (num_samples,), the order in which the data set serves the images.
    """

    def __init__(self, seed: int, order: tf.Variable) -> None:
        super().__init__()
        self.seed = seed
        self.order = order

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Sets the epoch's order and the state of every seed generator."""
        self.order.assign(draw_order(self.seed, epoch, self.order.shape[0]))
        states = [v for v in self.model.non_trainable_variables if v.name == "seed_generator_state"]
        for number, state in enumerate(states):
            state.assign(np.random.SeedSequence((self.seed, epoch, number)).generate_state(2))


class KeepBest(keras.callbacks.Callback):
    """Ends with the weights of the epoch that had the lowest validation loss; the first of equals."""

    def __init__(self) -> None:
        super().__init__()
        self.best_loss = math.inf
        self.best_epoch = 0
        self.best_weights: list[NDArray[Any]] = []

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Keeps a copy of the weights if they are the best so far."""
        loss = (logs or {})["val_loss"]
        if loss < self.best_loss:
            self.best_loss, self.best_epoch, self.best_weights = loss, epoch + 1, self.model.get_weights()

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Restores the best weights."""
        self.model.set_weights(self.best_weights)


class StopOnNonFinite(keras.callbacks.Callback):
    """Stops as soon as a loss is no longer a number.

    Raises:
        ModelError: Names model, epoch, step and value.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.epoch = 0

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Remembers the epoch, for the message."""
        self.epoch = epoch + 1

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Checks the running mean of the loss, in which one bad batch stays visible."""
        self._check((logs or {})["loss"], "training", f"by step {batch + 1}")

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Checks the validation loss, which can be infinite where the training loss isn't."""
        self._check((logs or {})["val_loss"], "validation", "at its end")

    def _check(self, loss: float, kind: str, when: str) -> None:
        if not math.isfinite(loss):
            raise ModelError(
                f"{self.name}: expected a finite {kind} loss. Received: {loss} in epoch {self.epoch}, {when}. "
                "Lower the learning rate in params.yaml."
            )


class RecordEpochs(keras.callbacks.Callback):
    """Hands over each epoch's numbers, with the seconds that the epoch took.

    Args:
        record: Called with the epoch (from 1), the metrics by name, and the epoch's wall time in seconds.
    """

    def __init__(self, record: Callable[[int, Logs, float], None]) -> None:
        super().__init__()
        self.record = record
        self.began_s = 0.0

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Starts the clock."""
        self.began_s = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Stops the clock and hands over."""
        took_s = time.perf_counter() - self.began_s
        values = {name: float(value) for name, value in (logs or {}).items()}
        learning_rate = float(self.model.optimizer.learning_rate)
        self.record(epoch + 1, {**values, "learning_rate": learning_rate}, took_s)


def draw_order(seed: int, epoch: int, num_samples: int) -> NDArray[np.int64]:
    """Returns the order of the training images in an epoch (from 0), a permutation of 0 to num_samples - 1."""
    return np.random.default_rng((seed, epoch)).permutation(num_samples)
