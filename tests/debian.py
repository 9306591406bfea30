"""Programs that a test needs and that are no Python packages: installed by Debian's own tool where we may."""

import os
import shutil
import subprocess

import pytest


def install_package(package: str) -> None:
    """Installs a package if this is Debian and we are root; else does nothing."""
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        return
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for arguments in (["update"], ["install", "--yes", "--no-install-recommends", package]):
        done = subprocess.run(
            ["apt-get", "--quiet", *arguments], env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            pytest.fail(f"{package} can't be installed: `apt-get {arguments[0]}` says {done.stderr[-1000:]}")
