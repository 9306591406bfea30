"""A study of three stages that take a moment each, and DVC experiments with it: Git, DVC and what they keep are real.

How good a model is follows from its number of epochs, so that an experiment plants a difference.
"""

import os
import shutil
import textwrap
from pathlib import Path

from copied_study import Workplace, copy_study
from once import make_once

PIPELINE = """
stages:
  preprocess:
    cmd: python stages/preprocess.py
    deps: [stages/preprocess.py]
    params: [data, preprocess]
    outs: [data/processed]
  train-lenet:
    cmd: python stages/train.py lenet
    deps: [data/processed, stages/train.py]
    params: [base, lenet]
    outs: [models/lenet, reports/timings/train-lenet.json]
  train-resnet:
    cmd: python stages/train.py resnet
    deps: [data/processed, stages/train.py]
    params: [base, resnet]
    outs: [models/resnet, reports/timings/train-resnet.json]
  evaluate:
    cmd: python stages/evaluate.py
    deps: [data/processed, models/lenet, models/resnet, stages/evaluate.py]
    params: [base, evaluate]
    outs: [reports/predictions]
    metrics:
      - reports/metrics/lenet.json: {cache: false}
      - reports/metrics/resnet.json: {cache: false}
"""
READ = """
import json, sys
from pathlib import Path
import numpy as np
from ruamel.yaml import YAML
params = YAML(typ="safe", pure=True).load(Path("params.yaml"))
def write(path, content):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(json.dumps(content))
"""
STAGES = {
    "preprocess": """
        seed = params["preprocess"]["seed"]
        splits = {split: {"digest": f"{split}{seed}" + 60 * "0"} for split in ("train", "val", "test")}
        write("data/processed/dataset.json", {"name": "planted", "digest": 64 * str(seed),
                                             "class_names": list("0123456789"), "splits": splits})
    """,
    "train": """
        name = sys.argv[1]
        epochs, seeds = params[name]["epochs"], params["base"]["seeds"]
        write(f"models/{name}/quality.json", 0.7 + 0.01 * epochs)
        rows = [{"seed": seed, "train_time_s": 2.0 * epochs + seed} for seed in seeds]
        write(f"reports/timings/train-{name}.json",
              {"machine": "here", "device": "CPU", "threads": 2, "per_seed": rows})
    """,
    "evaluate": """
        y_true = np.arange(2000) % 10
        hardness = np.random.default_rng(0).random(2000)
        Path("reports/predictions").mkdir(parents=True)
        for number, name in enumerate(("lenet", "resnet")):
            quality = json.loads(Path(f"models/{name}/quality.json").read_text())
            seeds = params["base"]["seeds"]
            noise = np.stack([np.random.default_rng([number, seed]).normal(0, 0.02, 2000) for seed in seeds])
            predicted = np.where(hardness + noise < quality, y_true, (y_true + 1) % 10)
            accuracies = (predicted == y_true).mean(axis=1)
            accuracy = float(accuracies.mean())
            np.savez(f"reports/predictions/{name}.npz", seeds=np.array(seeds), y_true=y_true,
                     y_prob=np.eye(10, dtype="f4")[predicted])
            write(f"reports/metrics/{name}.json", {
                "test_accuracy": accuracy, "test_accuracy_low": accuracy - 0.018,
                "test_accuracy_high": accuracy + 0.017, "confidence": 0.95,
                "test_macro_f1": accuracy - 0.001, "parameters": 1000 + number,
                "per_seed": [{"seed": seed, "test_accuracy": float(value)}
                             for seed, value in zip(seeds, accuracies, strict=True)]})
    """,
}  # fmt: skip


#: What its user has done since.
HISTORY = """
git add --all
git commit --quiet --message 'the stages'
git tag bare
dvc repro
git add --all
git commit --quiet --message 'the results'
git switch --quiet --create slow_one
dvc exp run --set-param resnet.epochs=14
git add --all
git commit --quiet --message 'resnet, longer'
git switch --quiet main
dvc exp run --name long --set-param lenet.epochs=13
git checkout --quiet --force main
dvc exp run --name pair --set-param base.seeds=[0,1]
git checkout --quiet --force main
dvc exp run --name split --set-param preprocess.seed=7
git checkout --quiet --force main
dvc checkout --quiet --force
"""
#: Runs commands, DVC's in this process: to import it each time would take longer than all else.
RUN_ALL = """
import shlex, subprocess, sys
from dvc.cli import main
for line in sys.argv[1].strip().splitlines():
    program, *arguments = shlex.split(line)
    code = main(arguments) if program == "dvc" else subprocess.run([program, *arguments]).returncode
    if code:
        sys.exit(f"{line}: exit code {code}")
"""


def copy_revised_study(target: Path, environment: dict[str, str]) -> Workplace:
    """Copies the study of `make_revised_study`, which is made once."""
    made = make_once("revised-study", lambda folder: make_revised_study(folder / "study", environment))
    shutil.copytree(made / "study", target, symlinks=True)
    return open_study(target, environment)


def open_study(folder: Path, environment: dict[str, str]) -> Workplace:
    """Returns the place of a user whose Git has no settings: `dvc exp run` writes what `git commit` does."""
    return Workplace(folder, {**environment, "GIT_CONFIG_GLOBAL": os.devnull, "PYTHONPATH": str(folder / "src")})


def make_revised_study(folder: Path, environment: dict[str, str]) -> None:
    """Makes the study with one seed, and the experiments long (another lenet), pair (two seeds) and split (other data).

    The branch `slow_one` trains resnet longer; the first commit has no results. The workspace is that of `main`.
    """
    copy_study(folder)
    (folder / "dvc.yaml").write_text(PIPELINE)
    for script in (folder / "stages").glob("*.py"):
        script.unlink()
    for name, body in STAGES.items():
        (folder / "stages" / f"{name}.py").write_text(READ + textwrap.dedent(body))
    params = folder / "params.yaml"
    text = params.read_text()
    assert "seeds: [0, 1, 2]" in text
    params.write_text(text.replace("seeds: [0, 1, 2]", "seeds: [0]"))
    place = open_study(folder, environment)
    place.run("git", "branch", "--move", "main")
    place.run("git", "config", "user.name", "Test")
    place.run("git", "config", "user.email", "test@example.org")
    run_all(place, HISTORY)


def run_all(place: Workplace, commands: str) -> None:
    """Runs commands, one a line, DVC's in one process."""
    place.run("python", "-c", RUN_ALL, commands)
