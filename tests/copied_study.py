"""A copy of the study for tests to work in, and the smallest parameters with which it goes all the way."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
#: What a study's folder needs; tests never work in the repository itself.
STUDY_FILES = ("dvc.yaml", "params.yaml", "stages", "src", ".dvc/config", ".dvcignore", ".gitignore")

#: Bundled digits, few epochs, one seed.
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
    "evaluate.corruption_samples": "100",
    "evaluate.latency_rounds": "20",
    "search.num_trials": "2",
    "search.epochs": "2",
    "search.confirm_seeds": "[]",
}
OVERRIDES = [part for key, value in TINY.items() for part in ("-S", f"{key}={value}")]


def copy_study(target: Path, tracking_timeout_s: int = 60) -> Path:
    """Copies the study, without anything that it has made, into a Git repository of its own.

    Args:
        target: The folder.
        tracking_timeout_s: Longer than the study's: other tests may keep the processors busy.
    """
    for name in STUDY_FILES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target / name)
    params = target / "params.yaml"
    declared = params.read_text(encoding="utf-8")
    params.write_text(declared.replace("tracking_timeout_s: 5 ", f"tracking_timeout_s: {tracking_timeout_s} "))
    git = ["git", "-C", str(target), "-c", "user.name=Test", "-c", "user.email=test@example.org"]
    for command in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message", "study"]):
        subprocess.run([*git, *command], check=True)
    return target


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
        subprocess.run([sys.executable, script], cwd=target, env=environment, check=True)
    for leftover in (".cotejo", "mlruns"):
        shutil.rmtree(target / leftover)
    (target / "mlflow.db").unlink()
    return target


class Workplace:
    """A folder, and the environment of who works in it."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.environment = environment

    def run(self, *command: str, expected: int = 0, **variables: str) -> str:
        """Runs a command, and returns what it printed."""
        done = subprocess.run(
            command, cwd=self.folder, env={**self.environment, **variables},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        assert done.returncode == expected, done.stdout
        return done.stdout
