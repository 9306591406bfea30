"""A copy of the study for tests to work in, and the smallest parameters with which it goes all the way."""

import compileall
import shutil
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import mlflow
import pytest

from command import run_cotejo
from cotejo.tracking.mlflow.connection import Names
from cotejo.tracking.mlflow.delivery import Delivery
from once import make_once
from warm import WarmProcess

ROOT = Path(__file__).parents[1]
#: What a study's folder needs; tests never work in the repository itself.
STUDY_FILES = ("dvc.yaml", "params.yaml", "stages", "src", ".dvc/config", ".dvcignore", ".gitattributes", ".gitignore")

#: Bundled digits, few epochs, one seed.
TINY = {
    "base.seeds": "[0]",
    "data.name": "digits",
    "lenet.epochs": "3",
    "lenet.batch_size": "32",
    "resnet.architecture": "basic_cnn",
    "resnet.epochs": "1",
    "resnet.batch_size": "32",
    "resnet.input_size": "10",
    "transfer.weights": "random",
    "transfer.input_size": "32",
    "transfer.epochs": "2",
    "finetune.epochs": "1",
    "finetune.unfreeze": "6",
    "evaluate.corruption_samples": "100",
    "evaluate.latency_rounds": "20",
    "evaluate.grid_size": "4",
    "evaluate.gallery_size": "2",
    "search.num_trials": "2",
    "search.parallel_trials": "1",
    "search.pruner": "none",
    "search.epochs": "2",
    "search.confirm_seeds": "[]",
}
OVERRIDES = [part for key, value in TINY.items() for part in ("-S", f"{key}={value}")]


def copy_study(target: Path, tracking_timeout_s: int = 60, *, is_tracked: bool = True) -> Path:
    """Copies the study, without anything that it has made, into a Git repository of its own.

    Args:
        target: The folder.
        tracking_timeout_s: Longer than the study's: other tests may keep the processors busy.
        is_tracked: Whether MLflow has been used in it before: its database is there, which takes seconds to make.
    """
    template = make_once(f"committed-study-{tracking_timeout_s}", partial(_commit_study, tracking_timeout_s))
    shutil.copytree(template, target, symlinks=True)
    if is_tracked:
        copy_database(target)
    return target


def copy_database(target: Path) -> None:
    """Copies MLflow's database, as it is before the first run, into a folder."""
    shutil.copy(make_once("database", _make_database) / "mlflow.db", target)


def _commit_study(tracking_timeout_s: int, target: Path) -> None:
    for name in STUDY_FILES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target / name)
    params = target / "params.yaml"
    declared = params.read_text(encoding="utf-8")
    declared = declared.replace("tracking_timeout_s: 5 ", f"tracking_timeout_s: {tracking_timeout_s} ")
    params.write_text(
        declared.replace("experiment: null ", "experiment: cotejo ").replace("model: null ", "model: cotejo ")
    )
    git = ["git", "-C", str(target), "-c", "user.name=Test", "-c", "user.email=test@example.org"]
    for command in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message", "study"]):
        subprocess.run([*git, *command], check=True)
    compileall.compile_dir(target / "src", quiet=1)  # else the first process in each copy would


def _make_database(folder: Path) -> None:
    """Makes MLflow's tables, which takes seconds; there is no experiment in them but MLflow's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        assert Delivery(folder, folder, 60, Names("cotejo", "cotejo")).client.search_experiments()
        mlflow.set_tracking_uri(None)  # which is in the environment too


def prepare_study(target: Path, environment: dict[str, str], configure: Callable[[Path], None]) -> Path:
    """Copies the study and prepares its images; of the stages that did it nothing is on record.

    Args:
        target: The folder.
        environment: For the stages.
        configure: Writes the study's parameters.
    """
    copy_study(target)
    configure(target)
    for script in ("stages/download.py", "stages/preprocess.py"):
        process = WarmProcess([script], target, environment)
        printed = process.communicate()
        assert process.returncode == 0, printed
    for leftover in (".cotejo", "mlruns"):
        shutil.rmtree(target / leftover)
    copy_database(target)
    return target


class Workplace:
    """A folder, and the environment of who works in it."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.environment = environment

    def run(self, *command: str, expected: int = 0, **variables: str) -> str:
        """Runs a command, and returns what it printed; our own needs no process."""
        environment = {**self.environment, **variables}
        if command[0] == "cotejo":
            done = run_cotejo(*command[1:], cwd=self.folder, env=environment, is_merged=True)
        else:
            done = subprocess.run(
                command, cwd=self.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
        assert done.returncode == expected, done.stdout
        return done.stdout
