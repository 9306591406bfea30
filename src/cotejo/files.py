"""Files and folders: replaced in one step, synced to the disk, digested, locked."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

from filelock import FileLock, Timeout, lock_descriptor

#: Folder of a study with its journals, checkpoints and locks; no output of a stage is in it.
STATE_FOLDER = Path(".cotejo")
#: Seconds between two tries to lock an open file.
LOCK_INTERVAL_S = 0.01


@contextmanager
def replacing(path: Path, partial_name: str = "", *, is_synced: bool = False) -> Iterator[Path]:
    """Yields a temporary path to write to, and moves it into place when the block succeeds.

    The move is one step: a kill leaves the old file or the new one.

    Args:
        path: Path of a file, or of a folder that isn't there.
        partial_name: Name in the same folder to write under; `.part-` and the file's own by default.
        is_synced: True for a file that a power failure must leave old or new too: the content is synced before the
            move, the name after it.
    """
    partial = path.with_name(partial_name or f".part-{path.name}")
    remove(partial)
    try:
        yield partial
        if is_synced:
            sync_to_disk(partial)
        partial.replace(path)
        if is_synced:
            sync_to_disk(path.parent)
    finally:
        remove(partial)


def remove(path: Path) -> None:
    """Removes a file, or a folder with all that is in it; what isn't there is no error."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def temporary_folder(prefix: str = "cotejo-", place: Path | None = None) -> Iterator[Path]:
    """Yields a new folder, among the system's temporary files by default, and removes it after the block."""
    with TemporaryDirectory(prefix=prefix, dir=place) as folder:
        yield Path(folder)


def sync_to_disk(path: Path) -> None:
    """Waits until what has been written to a file, or the names in a folder, would survive a power failure."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def drop_torn_line(file: BinaryIO) -> None:
    """Cuts off the half of a line that a kill or a full disk has left, before others are appended to it.

    Args:
        file: File of lines, open to be read and written; left at its end.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(max(size - 1, 0))
    if file.read(1) not in (b"", b"\n"):
        file.seek(0)
        file.seek(file.truncate(file.read().rfind(b"\n") + 1))


@contextmanager
def open_alone(path: Path, mode: str) -> Iterator[BinaryIO]:
    """Opens a binary file that others may write to, and keeps out who opens it so until it is closed."""
    with path.open(mode) as file:
        lock_descriptor(file.fileno(), poll_interval=LOCK_INTERVAL_S)
        yield file  # type: ignore[misc] # any of the binary modes


@contextmanager
def try_lock(path: Path, timeout_s: float = 0.0) -> Iterator[bool]:
    """Holds a lock file while the block runs; gives False where another process holds it for longer than a time."""
    with ExitStack() as stack:
        is_held = True
        try:
            stack.enter_context(FileLock(path, timeout=timeout_s))
        except Timeout:
            is_held = False
        yield is_held


def digest_bytes(*parts: bytes | memoryview, kind: str = "sha256") -> str:
    """Returns the digest of the bytes of several parts in a row, as hexadecimal digits."""
    digest = hashlib.new(kind, usedforsecurity=False)
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def digest_file(path: Path, kind: str = "sha256") -> str:
    """Returns the digest of a file's content, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(kind, usedforsecurity=False)).hexdigest()


def digest_json(value: Any) -> str:  # noqa: ANN401 - whatever JSON can hold
    """Returns the SHA-256 of a value as JSON, whatever the order of its keys; what JSON can't hold counts as text."""
    return digest_bytes(json.dumps(value, sort_keys=True, default=str).encode())


def digest_path(path: Path) -> str | None:
    """Returns the SHA-256 of a file, or of all files of a folder with their names; None where there is nothing."""
    try:
        if not path.is_dir():
            return digest_file(path)
        files = sorted(file for file in path.rglob("*") if file.is_file())
        return digest_json([[str(file.relative_to(path)), digest_path(file)] for file in files])
    except OSError:
        return None
