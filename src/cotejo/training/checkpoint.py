"""Checkpoints of a training: a file per finished epoch, whole or not there."""

import hashlib
import io
import json
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
from numpy.typing import NDArray

from cotejo.files import replacing

Arrays = list[NDArray[Any]]

#: Finished epochs that are kept: should the last file be damaged, the one before still serves.
KEPT = 2
DIGEST_BYTES = hashlib.sha256().digest_size
#: What Keras's callbacks keep from epoch to epoch, apart from weights.
CALLBACK_STATE = ("wait", "best", "best_epoch", "stopped_epoch", "cooldown_counter")


class SavedEpoch(NamedTuple):
    """Content of a checkpoint.

    Attributes:
        epoch: Finished epochs.
        record: What JSON can hold: history, clock times, states of callbacks, whether training has ended, the run.
        arrays: Variables by group: `model` (with the states of its seed generators), `optimizer`, `best`.
    """

    epoch: int
    record: dict[str, Any]
    arrays: dict[str, Arrays]


class Checkpoints:
    """The checkpoints of one training.

    A file is written under another name, synced and moved, so that a kill leaves the old one or the new one. It
    begins with the SHA-256 of the rest, a NumPy archive, so that whatever a disk has damaged is noticed.

    Args:
        folder: A folder of their own, named after everything that the training's result depends on.
        name: The training, for messages.

    Attributes:
        last: The last checkpoint at the start that is whole and this training's own; None if there is none.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.name = name
        # another study would resume from a folder that was copied or renamed
        self.identity = f"{folder.parent.name}/{folder.name}"
        self.last = self._load_last()

    def save(self, saved: SavedEpoch) -> None:
        """Writes a checkpoint; on a full disk prints that, and the training continues without it."""
        path = self._path(saved.epoch)
        content = self._pack(saved)
        with _signals_wait():
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                with replacing(path, is_synced=True) as partial:
                    partial.write_bytes(hashlib.sha256(content).digest() + content)
                # those of later epochs were found damaged, or this epoch wouldn't have been trained
                epochs = self._epochs()
                kept = [epoch for epoch in epochs if epoch <= saved.epoch][:KEPT]
                for epoch in set(epochs) - set(kept):
                    self._path(epoch).unlink()
            except OSError as error:
                self._say(
                    f"expected to write the checkpoint of epoch {saved.epoch} to {path}. Received: {error.strerror}. "
                    "Training continues; until one is written, a kill costs the epochs since the last. Free some space."
                )

    def _load_last(self) -> SavedEpoch | None:
        """Loads the last checkpoint that can be resumed from; prints which ones can't."""
        for epoch in self._epochs():
            try:
                return self._load(self._path(epoch))
            except (OSError, ValueError) as error:
                self._say(f"{self._path(epoch)} can't be resumed from ({error}); trying the one before.")
        return None

    def _pack(self, saved: SavedEpoch) -> bytes:
        record = {**saved.record, "epoch": saved.epoch, "identity": self.identity}
        members = {f"{group}/{i}": array for group, arrays in saved.arrays.items() for i, array in enumerate(arrays)}
        members["record"] = np.frombuffer(json.dumps(record).encode(), np.uint8)
        archive = io.BytesIO()
        np.savez(archive, allow_pickle=False, **members)
        return archive.getvalue()

    def _load(self, path: Path) -> SavedEpoch:
        content = path.read_bytes()
        digest, archive = content[:DIGEST_BYTES], content[DIGEST_BYTES:]
        if hashlib.sha256(archive).digest() != digest:
            raise ValueError("it is damaged: its checksum is another")
        with np.load(io.BytesIO(archive), allow_pickle=False) as file:
            members = {name: file[name] for name in file.files}
        record = json.loads(members.pop("record").tobytes())
        if record.pop("identity") != self.identity:
            raise ValueError("it was made with other inputs")
        arrays: dict[str, Arrays] = {}
        for name, array in members.items():  # in the order in which they were written
            arrays.setdefault(name.partition("/")[0], []).append(array)
        return SavedEpoch(record.pop("epoch"), record, arrays)

    def _epochs(self) -> list[int]:
        return sorted(
            (int(path.stem.removeprefix("epoch-")) for path in self.folder.glob("epoch-*.ckpt")), reverse=True
        )

    def _path(self, epoch: int) -> Path:
        return self.folder / f"epoch-{epoch:05}.ckpt"

    def _say(self, what: str) -> None:
        print(f"{self.name}: {what}", file=sys.stderr, flush=True)


class SaveCheckpoints(keras.callbacks.Callback):
    """Saves each epoch, and puts a training back to where a checkpoint was made; after all callbacks with a state.

    Args:
        checkpoints: Where to.
        callbacks: Keras's own callbacks whose state goes into the checkpoint.
        record: Everything else that does, changed by others as the epochs go by.
    """

    def __init__(
        self, checkpoints: Checkpoints, callbacks: Sequence[keras.callbacks.Callback], record: dict[str, Any]
    ) -> None:
        super().__init__()
        self.checkpoints = checkpoints
        self.callbacks = callbacks
        self.record = record

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Restores variables and callbacks, which have forgotten all at this moment."""
        last = self.checkpoints.last
        if last is None:
            return
        _assign(self.model.variables, last.arrays["model"])
        _assign(self.model.optimizer.variables, last.arrays["optimizer"])
        for callback, state in zip(self.callbacks, last.record["callbacks"], strict=True):
            vars(callback).update(state)
            if hasattr(callback, "best_weights"):
                callback.best_weights = last.arrays.get("best")

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Saves the epoch."""
        best = [getattr(callback, "best_weights", None) or [] for callback in self.callbacks]
        state = [{key: vars(call)[key] for key in CALLBACK_STATE if key in vars(call)} for call in self.callbacks]
        arrays = {
            "model": [keras.ops.convert_to_numpy(variable) for variable in self.model.variables],
            "optimizer": [keras.ops.convert_to_numpy(v) for v in self.model.optimizer.variables],
            "best": [weight for weights in best for weight in weights],
        }
        has_ended = self.model.stop_training or epoch + 1 == self.params["epochs"]
        record = {**self.record, "callbacks": state, "has_ended": has_ended}
        self.checkpoints.save(SavedEpoch(epoch + 1, record, arrays))


def _assign(variables: Sequence[keras.Variable], values: Arrays) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


@contextmanager
def _signals_wait() -> Iterator[None]:
    """Delays a signal that stops the stage until a checkpoint is written."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Python gives signals to the main thread
        return
    came: list[int] = []
    # a mask wouldn't do: the system then gives the signal to one of TensorFlow's threads
    before = {number: signal.signal(number, lambda n, _: came.append(n)) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])
