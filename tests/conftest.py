"""Fixtures that more than one folder of tests uses."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
from hypothesis import settings

from copied_study import copy_study
from small_pipeline import Pipeline, make_pipeline

# other processes may keep this one waiting
settings.register_profile("cotejo", deadline=None)
settings.load_profile("cotejo")


@pytest.fixture(autouse=True)
def own_tracking_address() -> Iterator[None]:
    """Makes MLflow forget the address that a test has given it, which would hold for the whole process."""
    yield
    mlflow.set_tracking_uri(None)


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


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Pipeline:
    """The small pipeline after one `dvc repro`; only to be read, or copied."""
    pipeline = make_pipeline(tmp_path_factory.mktemp("small") / "study", environment)
    pipeline.run("dvc", "repro")
    return pipeline


@pytest.fixture
def pipeline(made: Pipeline, tmp_path: Path) -> Pipeline:
    """A copy of it to change."""
    return made.copy(tmp_path / "study")
