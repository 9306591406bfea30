"""What several tests need and takes long to make is made once, by whichever of pytest's workers needs it first."""

import os
import shutil
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

from filelock import FileLock

#: Names the folder that the workers of one run of pytest share.
VARIABLE = "COTEJO_TESTS_FOLDER"


def make_once(name: str, make: Callable[[Path], object]) -> Path:
    """Returns a folder that has been filled once in this run of pytest; only to be read, or copied.

    Args:
        name: Of the folder.
        make: Fills it; the folder is there, and empty.
    """
    folder = find_shared_folder() / name
    done = folder.with_name(f"{name}.done")
    with FileLock(folder.with_name(f"{name}.lock")):
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)  # what another worker failed to make
            folder.mkdir(parents=True)
            make(folder)
            done.touch()
    return folder


@cache
def find_shared_folder() -> Path:
    """Returns the folder that the workers share; outside pytest, one of this process."""
    return Path(os.environ.get(VARIABLE) or tempfile.mkdtemp(prefix="cotejo-"))
