"""Identifies the process that writes a run's records."""

import os
import platform
from collections.abc import Iterable, Mapping
from typing import Any

import psutil

#: Seconds by which two readings of when the same process began may differ, since the clock can be set in between.
CLOCK_TOLERANCE_S = 2.0


def describe_writer() -> dict[str, Any]:
    """Returns this process's identity for other processes: host, number and start, since numbers are used again."""
    return {"host": platform.node(), "pid": os.getpid(), "began_s": psutil.Process().create_time()}


def find_writer(records: Iterable[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Returns the process that started or resumed the run last."""
    writers = [record.get("writer") for record in records if record["kind"] in ("start", "resume")]
    return writers[-1] if writers else None


def is_gone(writer: Mapping[str, Any] | None) -> bool:
    """Returns whether a process has ended; one of another machine counts as running."""
    if writer is None:
        return True
    if writer["host"] != platform.node():
        return False
    try:
        process = psutil.Process(writer["pid"])
        is_same = abs(process.create_time() - writer["began_s"]) < CLOCK_TOLERANCE_S
        return not is_same or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
    except psutil.Error:
        return False
