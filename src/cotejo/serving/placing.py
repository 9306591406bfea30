"""Moves exported files into place: an interrupted export leaves the old file or the new one."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from cotejo.files import temporary_folder

if TYPE_CHECKING:
    pass

#: Begins the names of the folders in which files are made; each holds a lock as long as its export runs.
WORK_PREFIX = ".cotejo-export-"
WORK_LOCK = "lock"


def find_existing(folder: Path) -> Path:
    """Returns the folder itself, or the nearest one above it that exists."""
    while not folder.exists():
        folder = folder.parent
    return folder


@contextmanager
def make_work_folder(place: Path) -> Iterator[Path]:
    """Yields a temporary folder from which a file can be moved to its place in one step.

    Folders that had to be made for it go again where nothing has come into them.

    Args:
        place: The folder that it is made in, on the file system of what is to be written.
    """
    made = [folder for folder in (place, *place.parents) if not folder.exists()]
    try:
        place.mkdir(parents=True, exist_ok=True)
        _remove_left_over(place)
        with temporary_folder(WORK_PREFIX, place) as folder, FileLock(folder / WORK_LOCK):
            yield folder
    finally:
        for empty in made:
            with suppress(OSError):
                empty.rmdir()


def _remove_left_over(place: Path) -> None:
    """Removes the temporary folders of exports that were killed: those whose lock nobody holds."""
    for lock in place.glob(f"{WORK_PREFIX}*/{WORK_LOCK}"):
        with suppress(Timeout, OSError), FileLock(lock, timeout=0):
            shutil.rmtree(lock.parent)


def move_into_place(file: Path, output: Path, report: Path, report_output: Path) -> None:
    """Moves file and report to their places; an older report goes first, so that it never stands beside a new file."""
    output.parent.mkdir(parents=True, exist_ok=True)
    report_output.unlink(missing_ok=True)
    try:
        if output.is_dir():  # a folder can't be replaced in one step
            output.rename(_name_replaced(output))
        file.replace(output)
        report.replace(report_output)
    finally:
        restore_replaced(output)


def restore_replaced(output: Path) -> None:
    """Restores a replaced SavedModel if no new one has come to its place, or else removes it."""
    replaced = _name_replaced(output)
    if replaced.is_dir() and output.exists():
        shutil.rmtree(replaced, ignore_errors=True)
    elif replaced.is_dir():
        replaced.rename(output)


def _name_replaced(output: Path) -> Path:
    return output.with_name(f".{output.name}.replaced")
