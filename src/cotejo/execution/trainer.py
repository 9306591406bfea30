"""The process in which a worker's tasks run. It can be stopped at any moment and started anew; a worker can't."""

import hashlib
import importlib.metadata
import os
import pickle
import platform
import signal
import threading
import traceback
from collections.abc import Callable
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from cotejo.data.splits import TrainingData, load_training_data
from cotejo.execution.messages import RAISED, REPORT, RESULT
from cotejo.lineage.tags import list_versions

#: A task's function: gets the task, the images, and a function that reports how far it is.
Function = Callable[[Any, TrainingData, Callable[[Any], None]], Any]


def main(descriptor: int) -> None:
    """Runs what the worker sends through a pipe, until there is no worker any more.

    Args:
        descriptor: Of the pipe's end.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the driver's, which stops the workers
    pipe = Connection(descriptor)
    orders: SimpleQueue[tuple[bytes, str]] = SimpleQueue()
    threading.Thread(target=_listen, args=(pipe, orders), daemon=True).start()
    pipe.send(describe_code())
    while True:
        pipe.send(_do(*orders.get(), pipe))


def _listen(pipe: Connection, orders: "SimpleQueue[tuple[bytes, str]]") -> None:
    try:
        while True:
            orders.put(pipe.recv())
    except (EOFError, OSError):  # the worker was killed; nobody wants what is being trained
        os._exit(1)


def _do(order: bytes, folder: str, pipe: Connection) -> tuple[str, bytes]:
    try:
        function, task = pickle.loads(order)  # noqa: S301 - from the driver, which may run anything here
        result = function(task, load_images(folder), lambda report: pipe.send((REPORT, pickle.dumps(report))))
        return RESULT, pickle.dumps(result)
    except Exception as error:  # noqa: BLE001 - raised again where the driver is
        return RAISED, _pickle_error(error)


def _pickle_error(error: Exception) -> bytes:
    told = traceback.format_exc()
    error.add_note(f"On the worker:\n{told}")
    try:
        pickled = pickle.dumps(error)
        pickle.loads(pickled)  # noqa: S301 - some can't be read again
    except Exception:  # noqa: BLE001 - whatever an exception of somebody else's does
        return pickle.dumps(RuntimeError(told))
    return pickled


@cache
def load_images(folder: str) -> TrainingData:
    """Maps the images into memory, once in a process."""
    return load_training_data(Path(folder))


@cache
def describe_code() -> str:
    """Returns the SHA-256 of this Cotejo's source and the versions that a result depends on."""
    root = Path(__file__).resolve().parents[1]
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode() + path.read_bytes())
    versions = {**list_versions(), "distributed": importlib.metadata.version("distributed")}
    listed = ", ".join(f"{package} {version}" for package, version in versions.items())
    return f"{listed}, Python {platform.python_version()}, source {digest.hexdigest()[:12]}"
