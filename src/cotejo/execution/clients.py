"""Clients of dask: a declared cluster's, or that of workers started on this machine."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from distributed import Client, LocalCluster
from distributed.security import Security

from cotejo.errors import StageError
from cotejo.masking import say_first_line

CONNECT_TIMEOUT_S = 10
#: dask gives each of these a level of its own.
LOGGERS = ("distributed", "distributed.client", "distributed.gc", "tornado", "tornado.application")


def connect(address: str) -> Client:
    """Connects to a declared scheduler.

    Raises:
        StageError: The scheduler doesn't answer.
    """
    try:
        return Client(address, timeout=CONNECT_TIMEOUT_S, set_as_default=False)
    except (OSError, ValueError, RuntimeError, TypeError) as error:
        raise StageError(
            expected="a dask scheduler at runtime.scheduler in params.yaml",
            received=f"{address}: {say_first_line(error)}",
            advice="Start it with `dask scheduler` (docs/cluster.md), or set runtime.scheduler to local",
        ) from None


@contextmanager
def start_workers(count: int) -> Iterator[Client]:
    """Starts workers on this machine, which end with the block."""
    # other users of this machine reach its ports as well, and whoever talks to a scheduler can run anything
    security = Security.temporary()
    with (
        _without_main(),
        LocalCluster(
            n_workers=count,
            threads_per_worker=1,
            host="127.0.0.1",
            memory_limit=0,  # what takes memory is the trainer
            dashboard_address="127.0.0.1:0",  # dask serves its state in any case, at 8787 if nothing is said
            security=security,
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster, security=security, set_as_default=False) as client,
    ):
        yield client


@contextmanager
def _without_main() -> Iterator[None]:
    """Keeps spawned processes from importing the stage's script, which would import TensorFlow in every worker."""
    main = sys.modules["__main__"]
    hidden: dict[str, Any] = {name: vars(main).pop(name) for name in ("__file__", "__spec__") if name in vars(main)}
    main.__spec__ = None
    try:
        yield
    finally:
        vars(main).update(hidden)


def describe_gone(client: Client) -> StageError:
    """Returns the error of a scheduler that has ended."""
    return StageError(
        expected="the scheduler to stay",
        received=f"{name_scheduler(client)} has gone",
        advice="Start it and run the stage again; what has been finished is kept",
    )


def name_scheduler(client: Client) -> str:
    """Returns the scheduler's address, for messages."""
    return str(client.scheduler.address) if client.scheduler else "the scheduler"
