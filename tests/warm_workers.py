"""Workers of dask, and their trainers, that are forked with TensorFlow imported (see `warm.py`, `forked_trainers.py`).

A new worker costs a second, and a new trainer that uses TensorFlow six. What is between driver, worker and trainer
(pipes, connections, signals, deaths) is the same; that they are new interpreters isn't, and is tested with some.

As a script, `warm_workers.py ADDRESS SCRIPT ...` runs a driver that is a `WarmProcess` with such workers.
"""

import runpy
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import forkserver, resource_tracker
from pathlib import Path
from typing import IO, TYPE_CHECKING

import dask
import distributed.utils
import psutil

if TYPE_CHECKING:
    from warm import WarmProcess

PRELOAD = str(Path(__file__).with_name("forked_trainers.py"))
SERVER = forkserver._forkserver


@contextmanager
def fork_workers() -> Iterator[None]:
    """Makes dask fork the workers that this process starts."""
    import warm  # noqa: F401 - it names what the server imports

    SERVER.ensure_running()
    with _declare_forks():
        yield


@contextmanager
def _declare_forks() -> Iterator[None]:
    distributed.utils._forkserver_preload_set = True  # dask would name its own
    with dask.config.set(
        {"distributed.worker.multiprocessing-method": "forkserver", "distributed.worker.preload": [PRELOAD]}
    ):
        yield


def list_forked() -> list[psutil.Process]:
    """Lists the processes that are forked: drivers, and workers, which have their trainers as children."""
    return psutil.Process(SERVER._forkserver_pid).children()


def start_warm_driver(folder: Path, environment: Mapping[str, str], log: IO[str], *command: str) -> "WarmProcess":
    """Starts a script of the study's folder, with workers that are forked."""
    from warm import WarmProcess

    SERVER.ensure_running()
    return WarmProcess([__file__, SERVER._forkserver_address, *command], folder, environment, log)


if __name__ == "__main__":
    _, SERVER._forkserver_address, script, *arguments = sys.argv
    # the server that has forked this process forks its workers too; multiprocessing would start another one
    SERVER.ensure_running = resource_tracker.ensure_running
    sys.argv[:] = [script, *arguments]
    sys.path[0] = str(Path(script).absolute().parent)
    with _declare_forks():
        runpy.run_path(script, run_name="__main__")
