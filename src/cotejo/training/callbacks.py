"""Callbacks at the start and the end of an epoch."""

import math
import time
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from cotejo.errors import ModelError

Logs = dict[str, float]


class SeedEpochs(keras.callbacks.Callback):
    """Derives the order of the images, and every random layer's state, from (seed, epoch).

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
        step = min(batch + 1, self.params["steps"])  # Keras counts whole groups of steps
        self._check((logs or {})["loss"], "training", f"by step {step}")

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Checks the validation loss, which can be infinite where the training loss isn't."""
        self._check((logs or {})["val_loss"], "validation", "at its end")

    def _check(self, loss: float, kind: str, when: str) -> None:
        if not math.isfinite(loss):
            raise ModelError(
                where=self.name,
                expected=f"a finite {kind} loss",
                received=f"{loss} in epoch {self.epoch}, {when}",
                advice="Lower the learning rate in params.yaml",
            )


class RecordEpochs(keras.callbacks.Callback):
    """Writes down each epoch's numbers, and apart from them what a clock measured.

    Args:
        rows: Gets a row per epoch: its number (from 1), the metrics, the learning rate of its first step.
        times: Gets the epoch's seconds, and those of them that were training.
    """

    def __init__(self, rows: list[dict[str, float]], times: list[dict[str, float]]) -> None:
        super().__init__()
        self.rows = rows
        self.times = times
        self.began_s = self.trained_s = 0.0
        self.learning_rate = 0.0

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Starts the clock."""
        self.began_s = time.perf_counter()
        self.learning_rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))

    def on_test_begin(self, logs: Logs | None = None) -> None:
        """Notes when training ended and validation began."""
        self.trained_s = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Stops the clock and writes down."""
        self.times.append(
            {"epoch_time_s": time.perf_counter() - self.began_s, "train_time_s": self.trained_s - self.began_s}
        )
        values = {name: float(value) for name, value in (logs or {}).items()}
        self.rows.append({"epoch": epoch + 1, **values, "learning_rate": self.learning_rate})


class ReportEpochs(keras.callbacks.Callback):
    """Reports each epoch when its checkpoint is on the disk.

    Args:
        rows: What `RecordEpochs` has written down.
        report: Called with the last row.
    """

    def __init__(self, rows: list[dict[str, float]], report: Callable[[Logs], None]) -> None:
        super().__init__()
        self.rows = rows
        self.report = report

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Hands over."""
        self.report(self.rows[-1])


def draw_order(seed: int, epoch: int, num_samples: int) -> NDArray[np.int64]:
    """Returns the order of the training images in an epoch (from 0), a permutation of 0 to num_samples - 1."""
    return np.random.default_rng((seed, epoch)).permutation(num_samples)
