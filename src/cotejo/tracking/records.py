"""The file format of a journal: a record per line, and beside it how far it has been sent."""

import fcntl
import hashlib
import json
import os
import platform
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import psutil

from cotejo.files import replacing
from cotejo.masking import mask_addresses, mask_secrets

#: Seconds by which two readings of when the same process began may differ, since the clock can be set in between.
CLOCK_TOLERANCE_S = 2.0
RUNNING = "RUNNING"
#: The study's experiment in MLflow, and the tag that holds a run's unique name.
EXPERIMENT = "cotejo"
UID_TAG = "cotejo.uid"


class JournalError(Exception):
    """A journal holds what can't be sent, whatever the server does."""


class BusyError(Exception):
    """Another process is sending this journal."""


def parse_record(line: bytes) -> dict[str, Any] | None:
    """Returns a journal's record, or None for a line that a kill, a full disk or a power failure has spoilt."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    is_whole = line.endswith(b"\n") and isinstance(record, dict) and "kind" in record
    return record if is_whole else None


def parse_records(content: bytes) -> list[dict[str, Any]]:
    """Returns the records of a journal, less what is spoilt."""
    return [record for line in content.splitlines(keepends=True) if (record := parse_record(line))]


def append_records(journal: BinaryIO, records: Iterable[Mapping[str, Any]]) -> None:
    """Appends records to an open journal, behind the last that is whole."""
    drop_torn_record(journal)
    for record in records:
        journal.write(json.dumps(_mask(record)).encode() + b"\n")


def _mask(value: Any) -> Any:  # noqa: ANN401 - whatever JSON can hold
    # value by value: in the text of a record, an address would end where JSON escapes the next character
    if isinstance(value, str):
        return mask_addresses(value)
    if isinstance(value, Mapping):
        return {key: _mask(item) for key, item in value.items()}
    return [_mask(item) for item in value] if isinstance(value, list | tuple) else value


@contextmanager
def open_alone(journal: Path, mode: str) -> Iterator[BinaryIO]:
    """Opens a journal that others may write to, and keeps them out until it is closed.

    Whoever closes the run of a killed process thus can't do so while that run is gone on with.
    """
    with journal.open(mode) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file  # type: ignore[misc] # any of the binary modes


def drop_torn_record(journal: BinaryIO) -> None:
    """Cuts off the half of a record that a kill or a full disk has left, before others are appended to it.

    Args:
        journal: A file of a record per line, open to be read and written; left at its end.
    """
    size = journal.seek(0, os.SEEK_END)
    journal.seek(max(size - 1, 0))
    if journal.read(1) not in (b"", b"\n"):
        journal.seek(0)
        journal.truncate(journal.read().rfind(b"\n") + 1)


def sync_to_disk(path: Path) -> None:
    """Waits until what has been written to a file, or the names in a folder, would survive a power failure."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def load_progress(journal: Path) -> dict[str, Any]:
    """Reads how far a journal has been sent: the bytes as `offset`, and the runs that MLflow made of it.

    What can't be read counts as nothing sent: to send a record again is harmless.
    """
    try:
        progress = json.loads(journal.with_suffix(".sent").read_bytes())
        # what a power failure took from the journal may have been sent before
        with journal.open("rb") as file:
            file.seek(progress["offset"] - 1)
            if file.read(1) == b"\n" and progress["run_id"]:
                return dict(progress)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return {"run_id": None, "offset": 0}


def save_progress(journal: Path, progress: Mapping[str, Any]) -> None:
    """Writes how far a journal has been sent, in one step: a kill leaves the old state or the new one."""
    with replacing(journal.with_suffix(".sent")) as partial:
        partial.write_text(json.dumps(progress))


def find_state(records: Iterable[Mapping[str, Any]], state: str = RUNNING) -> str:
    """Returns the state that records leave a run in, in MLflow's words, from the one that it is in."""
    for record in records:
        if record["kind"] in ("start", "resume"):
            state = RUNNING
        elif record["kind"] == "end":
            state = str(record.get("state", "FINISHED"))
    return state


def describe_writer() -> dict[str, Any]:
    """Names this process, so that another one can tell later whether it is still there; numbers are used again."""
    return {"host": platform.node(), "pid": os.getpid(), "began_s": psutil.Process().create_time()}


def find_writer(records: Iterable[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Returns the process that started the run or went on with it last."""
    writers = [record.get("writer") for record in records if record["kind"] in ("start", "resume")]
    return writers[-1] if writers else None


def is_gone(writer: Mapping[str, Any] | None) -> bool:
    """Tells whether a process has ended; of another machine's it can't be told, and it counts as running."""
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


def say_first_line(error: BaseException) -> str:
    """Returns the first line of an exception's message without secrets, or its name where it has none."""
    return mask_secrets((str(error).splitlines() or [type(error).__name__])[0])


def say_cause(error: BaseException) -> str:
    """Returns the address that MLflow is expected at, and what the innermost exception says is wrong with it."""
    while inner := error.__cause__ or (None if error.__suppress_context__ else error.__context__):
        error = inner
    address = mask_secrets(os.environ.get("MLFLOW_TRACKING_URI") or "mlflow.db")
    return f"{address}: {say_first_line(error)[:200]}"


def digest_path(path: Path) -> str | None:
    """Returns the SHA-256 of a file, or of all files of a folder with their names; None where there is nothing."""
    try:
        if not path.is_dir():
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        files = sorted(file for file in path.rglob("*") if file.is_file())
        named = [[str(file.relative_to(path)), digest_path(file)] for file in files]
        return hashlib.sha256(json.dumps(named).encode()).hexdigest()
    except OSError:
        return None
