"""Fixtures that more than one folder of tests uses."""

import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import mlflow
import pytest
from hypothesis import settings

from copied_study import copy_study
from once import VARIABLE, make_once
from small_pipeline import Pipeline, make_pipeline

#: The markers of tests that `make test` leaves to `make test-all`.
GROUPS = ("browser", "server", "slow")

# other processes may keep this one waiting
settings.register_profile("cotejo", deadline=None)
settings.load_profile("cotejo")


def pytest_configure(config: pytest.Config) -> None:
    """Makes the folder that the workers share, before they start."""
    if VARIABLE not in os.environ:
        os.environ[VARIABLE] = tempfile.mkdtemp(prefix="cotejo-tests-")
        config.add_cleanup(lambda: shutil.rmtree(os.environ.pop(VARIABLE), ignore_errors=True))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the longest tests first, so that no worker waits at the end for another one's.

    First of all comes a test that makes the whole study. The others that read it come when it has been made: they
    would wait for it.
    """
    readers = [item for item in items if "finished" in getattr(item, "fixturenames", ())]

    def rank(item: pytest.Item) -> int:
        if item in readers:
            return 0 if item is readers[0] else 2
        return 1 if item.get_closest_marker("slow") else 3

    items.sort(key=rank)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints each group's tests and their seconds, which the workers share."""
    seconds: Counter[str] = Counter()
    tests: Counter[str] = Counter()
    for report in chain.from_iterable(terminalreporter.stats.values()):
        if isinstance(report, pytest.TestReport):
            group = next((marker for marker in GROUPS if marker in report.keywords), "others")
            seconds[group] += report.duration
            tests[group] += report.when == "call"
    for group in seconds:
        terminalreporter.write_line(f"{group}: {tests[group]} tests, {seconds[group]:.0f} s of work")


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
def made(environment: dict[str, str]) -> Pipeline:
    """The small pipeline after one `dvc repro`; only to be read, or copied."""

    def make(folder: Path) -> None:
        make_pipeline(folder / "study", environment).run_without_mlflow("dvc", "repro")

    return Pipeline(make_once("small-pipeline", make) / "study", environment)


@pytest.fixture
def pipeline(made: Pipeline, tmp_path: Path) -> Pipeline:
    """A copy of it to change."""
    return made.copy(tmp_path / "study")
