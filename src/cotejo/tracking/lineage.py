"""Which DVC experiment, stage, code and machine a run came from."""

import getpass
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from cotejo.errors import StageError

#: Packages whose version can change a result.
VERSIONED = ("cotejo", "keras", "tensorflow", "numpy", "scikit-learn", "optuna")

#: What decides a result, apart from parameters and data.
CODE = ("dvc.yaml", "requirements.lock", "src", "stages")


def find_root() -> Path:
    """Returns the repository's root; DVC names it also to an experiment in a folder of its own."""
    return Path(os.environ.get("DVC_ROOT", "")).resolve()


def find_driver() -> psutil.Process | None:
    """Returns the `dvc` process that started this stage, or None if a person started it.

    Raises:
        StageError: `dvc` has gone while this process was starting.
    """
    if "DVC_STAGE" not in os.environ:
        return None
    for process in psutil.Process().parents():
        try:
            if any("dvc" in Path(part).name for part in process.cmdline()):
                return process
        except psutil.Error:
            continue
    raise StageError("expected the dvc process that started this stage. Received: none, it has gone. Run dvc again.")


def find_session(driver: psutil.Process | None) -> dict[str, Any] | None:
    """Names the parent run of all stages that one `dvc repro` or one DVC experiment runs.

    Args:
        driver: The `dvc` process, or None.

    Returns:
        A unique name, the same in each stage, and a readable one; None for a stage started by hand.
    """
    if driver is None:
        return None
    name = os.environ.get("DVC_EXP_NAME") or f"repro-{(git_commit() or 'nogit')[:7]}"
    uid = f"{platform.node()}-{driver.pid}-{driver.create_time():.2f}"
    return {"uid": uid, "name": name, "is_session": True}


def describe_run(stage: str) -> dict[str, str]:
    """Returns the tags that say where a run came from."""
    commit = git_commit()
    tags = {
        "dvc.stage": stage,
        "dvc.exp_name": os.environ.get("DVC_EXP_NAME", ""),
        "dvc.exp_baseline_rev": os.environ.get("DVC_EXP_BASELINE_REV", ""),
        "mlflow.source.name": stage,
        "mlflow.source.git.commit": commit or "",
        "git.dirty": str(is_dirty()).lower() if commit else "",
        "mlflow.user": _find_user(),
        "host": platform.node(),
        "cpu_count": str(psutil.cpu_count()),
        "python": platform.python_version(),
        **list_versions(),
    }
    return {key: value for key, value in tags.items() if value}


def list_versions() -> dict[str, str]:
    """Returns the installed versions of the packages that can change a result."""
    return {package: metadata.version(package) for package in VERSIONED}


def _find_user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user needs no name
        return "unknown"


def git_commit() -> str | None:
    """Returns the commit that the working tree is based on, or None outside Git."""
    return _git("rev-parse", "HEAD")


def is_dirty() -> bool:
    """Tells whether the code differs from the commit; parameters are recorded by themselves, results follow."""
    return bool(_git("status", "--porcelain", "--", *CODE))


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
