"""Fixtures that more than one folder of tests uses."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
#: What a study's folder needs; tests work in copies, never in the repository itself.
STUDY_FILES = ("dvc.yaml", "params.yaml", "stages", "src", ".dvc/config", ".dvcignore", ".gitignore")

#: The smallest study that goes all the way: bundled digits, few epochs, one seed.
TINY = {
    "base.seeds": "[0]",
    "data.name": "digits",
    "lenet.epochs": "3",
    "lenet.batch_size": "32",
    "resnet.epochs": "1",
    "resnet.batch_size": "32",
    "resnet.input_size": "8",
    "transfer.weights": "random",
    "transfer.input_size": "32",
    "transfer.epochs": "2",
    "finetune.epochs": "1",
    "finetune.unfreeze": "6",
    "search.num_trials": "2",
    "search.space.epochs.low": "1",
    "search.space.epochs.high": "2",
}
OVERRIDES = [part for key, value in TINY.items() for part in ("-S", f"{key}={value}")]


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """The environment of a user who has activated the virtual environment and set nothing else."""
    hidden = ("MLFLOW_", "DVC_", "COTEJO_", "KERAS_")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(hidden)}
    return {**kept, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def copy_study(target: Path) -> Path:
    """Copies the study, without anything that it has made, into a Git repository of its own."""
    for name in STUDY_FILES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target / name)
    git = ["git", "-C", str(target), "-c", "user.name=Test", "-c", "user.email=test@example.org"]
    for command in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message", "study"]):
        subprocess.run([*git, *command], check=True)
    return target


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A fresh copy of the study."""
    return copy_study(tmp_path / "study")
