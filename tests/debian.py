"""Programs that a test needs and that are no Python packages: installed by Debian's own tool where we may."""

import os
import shutil
import subprocess

import pytest
from filelock import FileLock

from once import find_shared_folder, make_once


def install_package(package: str) -> None:
    """Installs a package, once for all of pytest's workers, if this is Debian and we are root; else does nothing."""
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        return
    # of two workers the second would be refused: apt-get has a lock of its own and doesn't wait for it
    with FileLock(find_shared_folder() / "apt-get.lock"):
        make_once(f"package-{package}", lambda _: _run_apt_get(package))


def _run_apt_get(package: str) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for arguments in (["update"], ["install", "--yes", "--no-install-recommends", package]):
        done = subprocess.run(
            ["apt-get", "--quiet", *arguments], env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            pytest.fail(f"{package} can't be installed: `apt-get {arguments[0]}` says {done.stderr[-1000:]}")
