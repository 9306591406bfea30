"""A training that is killed is resumed where it was, and ends with the bytes of one that wasn't.

What nobody kills runs in new interpreters, and most of what is killed in forks of a warm one (see `warm.py`): their
bytes are compared.
"""

import contextlib
import hashlib
import io
import json
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import NamedTuple

import keras
import mlflow
import psutil
import pytest
from ruamel.yaml import YAML

from copied_study import prepare_study
from cotejo.models import resnet
from cotejo.training.archive import save_model
from damage import damage_byte, damage_half
from declared import declare
from edited_params import switch_tracking_off
from once import make_once
from warm import WarmProcess

MODELS = {"train-lenet": "lenet", "train-resnet": "resnet", "transfer-learn": "transfer", "finetune": "finetune"}
#: A net with batch normalisation, of which the backbone is made.
BACKBONE = "own.keras"
#: Random layers, callbacks with a state and an optimizer with one in each stage, on few images.
SETTINGS = {
    "data": {"name": "digits"},
    "preprocess": {"validation_fraction": 0.3, "test_fraction": 0.8},
    "base": {"seeds": [0, 1]},
    # of few layers: building TensorFlow's graph takes longer than the training
    "lenet": {
        "architecture": "basic_cnn", "input_size": 10, "batch_size": 64, "epochs": 12, "dropout_rate": 0.2,
        "optimizer": {"name": "sgd", "momentum": 0.9},
        "augmentation": {"translation": 0.1},
    },
    "resnet": {
        "input_size": 8, "batch_size": 128, "epochs": 12, "dropout_rate": 0.2,
        "schedule": {"name": "plateau", "interval_epochs": 1},
        "early_stopping": {"patience": 6},
        "augmentation": {"translation": 0.1, "rotation": 5.0, "erasing": 0.2},
    },
    "transfer": {
        "weights": f"model:{BACKBONE}", "weights_path": BACKBONE, "batch_size": 32, "epochs": 40, "dropout_rate": 0.5,
    },
    "finetune": {"unfreeze": 5, "batch_size": 128, "epochs": 8, "schedule": {"name": "cosine", "warmup_epochs": 2}},
}  # fmt: skip
STAGES = {
    "train-lenet": ["stages/train.py", "lenet"],
    "train-resnet": ["stages/train.py", "resnet"],
    "transfer-learn": ["stages/transfer_learn.py"],
    "finetune": ["stages/finetune.py"],
}
EPOCH = re.compile(r"epoch (\d+)/")


class Ended(NamedTuple):
    """How a process ended."""

    code: int
    stderr: str


def configure(folder: Path) -> None:
    params = folder / "params.yaml"
    yaml = YAML()
    tree = yaml.load(params)
    for section, values in SETTINGS.items():
        for key, value in values.items():
            tree[section][key].update(value) if isinstance(value, dict) else tree[section].update({key: value})
    yaml.dump(tree, params)
    keras.utils.set_random_seed(0)
    save_model(resnet.build_model(declare("resnet", input_size=8), (8, 8, 1), 10), folder / BACKBONE)


def start(folder: Path, environment: dict[str, str], stage: str) -> WarmProcess:
    return WarmProcess(STAGES[stage], folder, environment)


def start_interpreter(folder: Path, environment: dict[str, str], stage: str) -> subprocess.Popen:
    """Does what `start` does, with an interpreter of its own."""
    command = [sys.executable, *STAGES[stage]]
    return subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)


def finish(process: WarmProcess | subprocess.Popen) -> Ended:
    _, stderr = process.communicate(timeout=300)
    return Ended(process.returncode, stderr)


def wait_for_epoch(process: WarmProcess | subprocess.Popen, count: int = 1) -> str:
    """Reads stderr until so many epochs have been reported."""
    said = io.StringIO()
    for line in process.stderr:
        said.write(line)
        if EPOCH.search(line) and (count := count - 1) == 0:
            return said.getvalue()
    raise AssertionError(f"the process ended before: {said.getvalue()}")


def digest_outputs(folder: Path, stage: str) -> dict[str, str]:
    files = sorted((folder / "models" / MODELS[stage]).rglob("*.*"))
    assert len(files) == 4, "a model and a history for each of two seeds"
    digests = {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    assert len(set(digests.values())) == 4, "another seed is another training"
    return digests


@pytest.fixture(scope="module")
def prepared(environment):
    """A study with its data, in which nobody has trained."""

    def make(folder: Path) -> None:
        prepare_study(folder / "study", environment, configure)

    return make_once("kills-prepared", make) / "study"


@pytest.fixture(scope="module")
def whole(prepared, environment):
    """Returns a study in which a stage has run without a kill, in an interpreter of its own."""

    def make(stage: str, folder: Path) -> None:
        study = shutil.copytree(prepared, folder / "study")
        if stage == "finetune":
            copy_transfer(run("transfer-learn"), study)
        ended = finish(start_interpreter(study, environment, stage))
        assert ended.code == 0, ended.stderr

    def run(stage: str) -> Path:
        return make_once(f"kills-whole-{stage}", partial(make, stage)) / "study"

    return run


def copy_transfer(source: Path, target: Path) -> None:
    """Copies the models that finetune starts from."""
    shutil.copytree(source / "models/transfer", target / "models/transfer")


@pytest.fixture
def study(prepared, tmp_path):
    """A study with its data, to kill stages in."""
    return shutil.copytree(prepared, tmp_path / "study")


def find_runs(folder: Path, name: str) -> list[mlflow.entities.Run]:
    client = mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("cotejo")
    return client.search_runs([experiment.experiment_id], f"attributes.run_name = '{name}'")


def check_tracked(folder: Path, stage: str, said: str) -> None:
    """Each seed has one run with points, which has finished, and each of its epochs one point."""
    client = mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    for seed in (0, 1):
        runs = find_runs(folder, f"{stage} seed {seed}")  # however early it was killed
        (run,) = runs
        assert run.info.status == "FINISHED"
        steps = [point.step for point in client.get_metric_history(run.info.run_id, "val_loss")]
        num_epochs = len((folder / f"models/{MODELS[stage]}/seed-{seed}/history.csv").read_text().splitlines()) - 1
        assert steps == list(range(1, num_epochs + 1))
        # whoever has resumed it stands above it, not who was killed
        parent = client.get_run(run.data.tags["mlflow.parentRunId"])
        assert parent.info.status == "FINISHED", said


def test_a_killed_stage_says_where_it_resumes_and_ends_with_the_same_bytes(study, whole, environment):
    process = start(study, environment, "train-lenet")
    wait_for_epoch(process, 3)
    process.kill()
    process.communicate()
    last = read_epoch(list_checkpoints(study)[0])
    assert last >= 3
    ended = finish(start(study, environment, "train-lenet"))
    assert ended.code == 0, ended.stderr
    assert f"train-lenet seed 0 resumed from epoch {last + 1}: loaded the checkpoint of epoch {last}\n" in ended.stderr
    assert "train-lenet seed 0  epoch 3/" not in ended.stderr
    assert digest_outputs(study, "train-lenet") == digest_outputs(whole("train-lenet"), "train-lenet")
    (folder,) = (study / ".cotejo/checkpoints").iterdir()
    assert (folder / "done").exists(), "kept until another stage proves that DVC has the outputs"
    check_tracked(study, "train-lenet", ended.stderr)


@pytest.mark.slow  # tests/test_stage.py sends a stage both signals; a killed training is resumed above
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["SIGTERM", "SIGINT"])
def test_a_stopped_stage_has_its_last_epoch_and_a_killed_run_and_is_resumed(study, whole, environment, number, code):
    process = start(study, environment, "train-lenet")
    wait_for_epoch(process, 2)
    process.send_signal(number)
    ended = finish(process)
    assert ended.code == code
    assert "Traceback" not in ended.stderr
    for name in ("train-lenet", "train-lenet seed 0"):
        (run,) = find_runs(study, name)
        assert run.info.status == "KILLED"
    ended = finish(start(study, environment, "train-lenet"))
    assert "train-lenet seed 0 resumed from epoch" in ended.stderr
    assert digest_outputs(study, "train-lenet") == digest_outputs(whole("train-lenet"), "train-lenet")
    check_tracked(study, "train-lenet", ended.stderr)


def find_trainers(process: subprocess.Popen) -> list[psutil.Process]:
    below = psutil.Process(process.pid).children(recursive=True)
    return [child for child in below if any("trainer import main" in part for part in child.cmdline())]


def wait_for_both_seeds(process: subprocess.Popen) -> None:
    """Reads stderr until each of two seeds has reported an epoch; the later one has most of its epochs before it."""
    seen = set()
    for line in process.stderr:
        seen |= {line.split("  ")[0]} if EPOCH.search(line) else set()
        if seen == {"train-lenet seed 0", "train-lenet seed 1"}:
            return
    raise AssertionError(f"the process ended when it had reported epochs of {seen} only")


@pytest.mark.slow
def test_parallel_seeds_whose_trainers_are_killed_end_with_the_same_bytes(study, tmp_path, environment):
    params = study / "params.yaml"
    # so many that neither seed ends before the other one has begun
    params.write_text(params.read_text().replace("epochs: 12 ", "epochs: 60 ", 1))
    whole = shutil.copytree(study, tmp_path / "whole")
    ended = finish(start(whole, environment, "train-lenet"))
    assert ended.code == 0, ended.stderr
    params.write_text(params.read_text().replace("workers: 0 ", "workers: 2 "))
    process = start_interpreter(study, environment, "train-lenet")
    wait_for_both_seeds(process)
    for trainer in find_trainers(process):  # both: a seed may start so late that the other one has ended
        trainer.kill()
    ended = finish(process)
    assert ended.code == 0, ended.stderr
    assert re.search(r"train-lenet seed [01] resumed from epoch \d+: loaded the checkpoint", ended.stderr)
    assert digest_outputs(study, "train-lenet") == digest_outputs(whole, "train-lenet")
    check_tracked(study, "train-lenet", ended.stderr)


def interrupt(folder: Path, environment: dict[str, str], num_epochs: int) -> list[Path]:
    """Kills train-lenet after so many epochs; returns the checkpoints that it left, the last one first."""
    process = start(folder, environment, "train-lenet")
    wait_for_epoch(process, num_epochs)
    process.kill()
    process.communicate()
    return list_checkpoints(folder)


def list_checkpoints(folder: Path) -> list[Path]:
    """Lists the checkpoints of train-lenet's first seed, the last one first."""
    return sorted(folder.glob(".cotejo/checkpoints/train-lenet-*/seed-0/epoch-*.ckpt"), reverse=True)


def read_epoch(checkpoint: Path) -> int:
    return int(checkpoint.stem.removeprefix("epoch-"))


@pytest.mark.slow  # test_checkpoint.py damages a checkpoint that no process has written
@pytest.mark.parametrize("damage", [damage_half, damage_byte], ids=["half", "byte"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_serves(study, whole, environment, damage):
    switch_tracking_off(study)
    last, before = interrupt(study, environment, 3)
    damage(last)
    ended = finish(start(study, environment, "train-lenet"))
    assert f"{last.relative_to(study)} can't be resumed from" in ended.stderr
    assert f"loaded the checkpoint of epoch {read_epoch(before)}" in ended.stderr
    assert digest_outputs(study, "train-lenet") == digest_outputs(whole("train-lenet"), "train-lenet")


@pytest.mark.slow
def test_a_checkpoint_of_other_inputs_is_never_resumed_from(study, whole, environment):
    files = interrupt(study, environment, 2)
    other = files[0].parents[1]
    params = study / "params.yaml"
    declared = params.read_text()
    params.write_text(declared.replace("learning_rate: 1e-3", "learning_rate: 2e-3", 1))
    process = start(study, environment, "train-lenet")
    said = wait_for_epoch(process)
    process.kill()
    process.communicate()
    assert "train-lenet: starts from the beginning" in said
    assert str(other.relative_to(study)) in said
    assert "train-lenet seed 0  epoch 1/" in said
    # a copy under the right name is seen through as well
    (mine,) = {path for path in other.parent.glob("train-lenet-*") if path != other}
    for file in files:
        shutil.copy(file, mine / "seed-0" / "epoch-00007.ckpt")
    ended = finish(start(study, environment, "train-lenet"))
    assert "epoch-00007.ckpt can't be resumed from (it was made with other inputs)" in ended.stderr
    # and back with the first values, their own checkpoint serves
    params.write_text(declared)
    ended = finish(start(study, environment, "train-lenet"))
    assert "train-lenet seed 0 resumed from epoch" in ended.stderr
    assert digest_outputs(study, "train-lenet") == digest_outputs(whole("train-lenet"), "train-lenet")


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["train-resnet", "transfer-learn", "finetune"])
def test_kills_at_random_moments_change_no_byte(stage, prepared, whole, tmp_path, environment):
    """Seven kills a stage, at moments from its start to its end; one that ends in between is begun anew."""
    expected = digest_outputs(whole(stage), stage)

    def begin(number: int) -> Path:
        folder = shutil.copytree(prepared, tmp_path / str(number))
        if stage == "finetune":
            copy_transfer(whole("transfer-learn"), folder)
        return folder

    moments = random.Random(stage)  # noqa: S311 - moments, not secrets
    folder, kills, resumed, ends = begin(0), 0, 0, 0
    began_s = time.monotonic()
    wait_for_epoch(process := start(folder, environment, stage))
    first_epoch_s = time.monotonic() - began_s
    while True:
        if kills < 7:
            # mostly within training; sometimes while the process still starts
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=first_epoch_s * moments.uniform(0.1, 0.6))
            if process.poll() is None:
                process.kill()
                kills += 1
        ended = finish(process)
        resumed += "resumed from epoch" in ended.stderr or "had ended" in ended.stderr
        if ended.code == 0:
            assert digest_outputs(folder, stage) == expected
            check_tracked(folder, stage, ended.stderr)
            ends += 1
            if kills == 7:
                break
            folder = begin(ends)
        else:
            assert ended.code == -signal.SIGKILL, ended.stderr
        process = start(folder, environment, stage)
        if kills < 7:
            time.sleep(first_epoch_s * moments.uniform(0.5, 1.0))
    assert resumed > 0, "the test needs a kill after a checkpoint"
    print(json.dumps({"stage": stage, "kills": kills, "resumed": resumed, "ends": ends}))
