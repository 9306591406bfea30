"""Shows the progress of a training: on a terminal, in a log, in TensorBoard."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import keras
import tensorflow as tf
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cotejo.terminal import build_bar
from cotejo.training.callbacks import Logs


def open_board(folder: Path) -> Callable[[Logs], None]:
    """Returns a function that writes an epoch's row for TensorBoard; a resumed training adds to what is there.

    Args:
        folder: The training's own; `tensorboard --logdir` takes the one above.
    """
    writer = tf.summary.create_file_writer(str(folder))

    def write(row: Logs) -> None:
        with writer.as_default():
            for name, value in row.items():
                if name != "epoch":
                    tf.summary.scalar(name, value, step=int(row["epoch"]))
        writer.flush()

    return write


@contextmanager
def show_progress(name: str, epochs: int, rows: list[Logs]) -> Iterator[keras.callbacks.Callback]:
    """Yields a callback that shows a live bar on a terminal, and a line per epoch anywhere else.

    Args:
        name: The training.
        epochs: Epochs in all.
        rows: Gets the row of each epoch before it is shown.
    """
    columns = (MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.fields[metrics]}"))
    with build_bar(*columns, is_transient=True) as bar:  # closed however the training ends
        yield PlainLines(name, epochs, rows) if bar.disable else LiveBar(name, epochs, rows, bar)


class PlainLines(keras.callbacks.Callback):
    """Writes a line per epoch to stderr."""

    def __init__(self, name: str, epochs: int, rows: list[Logs]) -> None:
        super().__init__()
        self.name = name
        self.epochs = epochs
        self.rows = rows

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Writes the epoch's line."""
        print(say_epoch(self.name, self.epochs, self.rows[-1]), file=sys.stderr, flush=True)


class LiveBar(keras.callbacks.Callback):
    """Shows the step within the training, the time left, the loss so far and the last epoch's metrics."""

    def __init__(self, name: str, epochs: int, rows: list[Logs], bar: Progress) -> None:
        super().__init__()
        self.name = name
        self.epochs = epochs
        self.rows = rows
        self.bar = bar
        self.epoch = 0

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Sets the bar to where the training begins."""
        steps = self.params["steps"] or 0
        done = len(self.rows) * steps
        self.task = self.bar.add_task(self.name, total=self.epochs * steps, completed=done, metrics="")

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Shows the number of the epoch."""
        self.epoch = epoch
        self.bar.update(self.task, description=f"{self.name}  epoch {epoch + 1}/{self.epochs}")

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Moves the bar."""
        steps = self.params["steps"]
        done = self.epoch * steps + min(batch + 1, steps)  # Keras counts whole groups of steps
        self.bar.update(self.task, completed=done, metrics=f"loss {(logs or {})['loss']:.4f}")

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Leaves the epoch's line above the bar."""
        self.bar.console.print(say_epoch(self.name, self.epochs, self.rows[-1]))


def say_epoch(name: str, epochs: int, row: Logs) -> str:
    """Returns an epoch's losses and accuracies in one line."""
    metrics = (f"{key} {value:.4f}" for key, value in row.items() if key.endswith(("loss", "accuracy")))
    return "  ".join((name, f"epoch {row['epoch']}/{epochs}", *metrics))
