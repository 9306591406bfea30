"""Fixtures that more than one folder of tests uses."""

import os
import sys
from pathlib import Path

import pytest

from copied_study import copy_study


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """The environment of a user who has activated the virtual environment and set nothing else."""
    hidden = ("MLFLOW_", "DVC_", "COTEJO_", "KERAS_")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(hidden)}
    return {**kept, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A fresh copy of the study."""
    return copy_study(tmp_path / "study")
