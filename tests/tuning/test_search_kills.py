"""A search whose workers or whose driver are killed: the same files as one that nobody disturbed."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import mlflow
import psutil
import pytest
from ruamel.yaml import YAML

from copied_study import prepare_study
from edited_params import edit_params
from once import make_once
from warm import WarmProcess
from warm_workers import start_warm_driver

#: Every file of the search without a clock in it.
FILES = ("trials.csv", "best_params.yaml", "summary.json", "curves.csv")
#: With a weight decay of 10, the highest learning rates diverge; of the second batch, the pruner stops some. The
#: third is what a Gaussian process proposes, as in the study.
SEARCH = {
    "num_trials": 10, "epochs": 3, "sampler": "gp", "pruner": "successive_halving", "parallel_trials": 4, "seed": 0,
    "confirm_seeds": [7, 8],
    "space": {
        "learning_rate": {"type": "float", "low": 1e-4, "high": 10.0, "log": True},
        "batch_size": {"type": "choice", "choices": [64, 128]},
    },
}  # fmt: skip
#: A shorter one, without a Gaussian process and trainings that confirm, for the tests that aren't slow.
SHORT = {"num_trials": 6, "confirm_seeds": []}
STATES = {"COMPLETE": "FINISHED", "PRUNED": "KILLED", "FAIL": "FAILED"}


class Ended(NamedTuple):
    """How a process ended."""

    code: int
    said: str


#: A running search: a new interpreter, or one that was forked.
Driver = subprocess.Popen | WarmProcess


def configure(folder: Path, **changes: object) -> None:
    """Declares the search, and more, in a study's params.yaml."""
    path, yaml = folder / "params.yaml", YAML()
    tree = yaml.load(path)
    tree["data"]["name"] = "digits"
    tree["transfer"]["weights"] = "random"
    # of few layers: building TensorFlow's graph takes longer than the training
    tree["lenet"].update(architecture="basic_cnn", input_size=10, batch_size=64, learning_rate=2e-3)
    tree["lenet"]["optimizer"]["weight_decay"] = 10.0
    tree["search"].update({**SEARCH, **changes})
    yaml.dump(tree, path)


def set_workers(folder: Path, workers: int) -> None:
    edit_params(folder / "params.yaml", "runtime", workers=workers)


def start(folder: Path, environment: dict[str, str], *, is_warm: bool = True) -> Driver:
    """Starts the search, with what it says in a file, where a kill of the driver leaves it.

    Args:
        folder: The study's.
        environment: The driver's.
        is_warm: Whether driver, workers and trainers are forked, which saves ten seconds; else each of them is a new
            interpreter.
    """
    with (folder / "said.log").open("w") as log:
        if is_warm:
            return start_warm_driver(folder, environment, log, "stages/search.py", "lenet")
        return subprocess.Popen(
            [sys.executable, "stages/search.py", "lenet"], cwd=folder, env=environment, stdout=log, stderr=log
        )


def finish(process: Driver, folder: Path) -> Ended:
    code = process.wait(timeout=300)
    return Ended(code, (folder / "said.log").read_text())


def search_whole(folder: Path, environment: dict[str, str]) -> str:
    ended = finish(start(folder, environment), folder)
    assert ended.code == 0, ended.said
    return ended.said


def read_files(folder: Path) -> dict[str, bytes]:
    return {name: (folder / "reports/search" / name).read_bytes() for name in FILES}


def list_processes(driver: Driver, folder: Path) -> list[psutil.Process]:
    """Lists the processes of a search beside its driver: workers, trainers, and multiprocessing's own."""
    processes = []
    for process in psutil.process_iter():
        try:
            if process.pid != driver.pid and process.cwd() == str(folder):
                processes.append(process)
        except psutil.Error:  # it has gone
            continue
    return processes


def list_workers(driver: Driver, folder: Path) -> list[psutil.Process]:
    """Lists dask's workers with a process below them that trains: a death while dask starts them ends the search."""
    return [process for process in list_processes(driver, folder) if list_children(process)]


def list_children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children()
    except psutil.Error:
        return []


def wait_until(condition: Callable[[], object], process: Driver, folder: Path) -> None:
    """Waits until something is so, while the search is running."""
    while not condition():
        assert process.poll() is None, (folder / "said.log").read_text()
        time.sleep(0.02)


def list_checkpoints(folder: Path) -> list[Path]:
    return list(folder.glob(".cotejo/checkpoints/search-*/trial-*/epoch-*.ckpt"))


def count_ended(folder: Path) -> int:
    """Counts the trials that are written down."""
    return sum(path.read_text().count('"op_code":4') for path in folder.glob(".cotejo/checkpoints/search-*/study.log"))


def have_gone(processes: list[psutil.Process], within_s: float) -> bool:
    return not psutil.wait_procs(processes, timeout=within_s)[1]


@pytest.fixture(scope="module")
def prepared(environment):
    """A study with its data, in which nothing has been searched; only to be copied."""
    folder = make_once("searched-study", lambda folder: prepare_study(folder / "study", environment, configure))
    return folder / "study"


def make_whole(name: str, prepared: Path, environment: dict[str, str], **changes: object) -> Path:
    """Returns the study after a search by two workers that nobody has disturbed; only to be read."""

    def make(target: Path) -> None:
        folder = copy_study(prepared, target / "study", **changes)
        search_whole(folder, environment)
        trials = (folder / "reports/search/trials.csv").read_text()
        assert all(state in trials for state in STATES), f"the tests need each state: {trials}"

    return make_once(name, make) / "study"


def copy_study(prepared: Path, target: Path, **changes: object) -> Path:
    """Copies the study, to search in it with two workers."""
    shutil.copytree(prepared, target)
    subprocess.run(["git", "checkout", "--quiet", "params.yaml"], cwd=target, check=True)  # as it was declared
    configure(target, **changes)
    set_workers(target, 2)
    return target


@pytest.fixture(scope="module")
def whole(prepared, environment):
    """The study after an undisturbed search; only to be read."""
    return make_whole("whole-search", prepared, environment)


@pytest.fixture(scope="module")
def whole_short(prepared, environment):
    """The same of the short search."""
    return make_whole("whole-short-search", prepared, environment, **SHORT)


@pytest.fixture
def study(prepared, tmp_path):
    """A study to search in."""
    return copy_study(prepared, tmp_path / "study")


def find_trials(folder: Path) -> dict[str, list[mlflow.entities.Run]]:
    """Returns MLflow's runs of the trials by their names."""
    client = mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("cotejo")
    runs: dict[str, list[mlflow.entities.Run]] = {}
    for run in client.search_runs([experiment.experiment_id]):
        if run.info.run_name.startswith("trial "):
            runs.setdefault(run.info.run_name, []).append(run)
    return runs


def check_tracked(folder: Path) -> None:
    """Each trial has one run with its true state and each of its epochs once, below the run that ended the search."""
    client = mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    runs = find_trials(folder)
    rows = [line.split(",") for line in (folder / "reports/search/trials.csv").read_text().splitlines()[1:]]
    assert sorted(runs) == sorted(f"trial {number}" for number, *_ in rows)
    for number, state, value, epochs, *_ in rows:
        (run,) = runs[f"trial {number}"]
        assert run.info.status == STATES[state]
        assert run.data.tags["trial_state"] == state
        points = client.get_metric_history(run.info.run_id, "val_accuracy")
        assert [point.step for point in points] == list(range(1, int(epochs) + 1))
        if state == "COMPLETE":
            assert run.data.metrics["value"] == pytest.approx(float(value))
        assert ("error" in run.data.tags) == (state == "FAIL")
        parent = client.get_run(run.data.tags["mlflow.parentRunId"])
        assert (parent.data.tags["mlflow.runName"], parent.info.status) == ("search", "FINISHED")


def test_mlflow_has_a_run_of_each_trial_with_its_true_state(whole_short):
    check_tracked(whole_short)
    trials = find_trials(whole_short)
    failed = [runs[0] for runs in trials.values() if runs[0].data.tags["trial_state"] == "FAIL"]
    assert all("expected a finite training loss. Received: " in run.data.tags["error"] for run in failed)
    assert len({run.data.params["seed"] for (run,) in trials.values()}) == 6
    present = {("lenet.epochs", "3"), ("lenet.learning_rate", "0.002"), ("lenet.batch_size", "64")}
    assert trials["trial 0"][0].data.params.items() >= present
    assert {len(run.data.params) for (run,) in trials.values()} == {4}


@pytest.mark.slow
def test_one_worker_writes_the_same_bytes(study, whole, environment):
    set_workers(study, 1)
    search_whole(study, environment)
    assert read_files(study) == read_files(whole)
    check_tracked(study)


@pytest.mark.slow
def test_four_workers_of_which_one_is_killed_write_the_same_bytes(prepared, tmp_path, whole_short, environment):
    study = copy_study(prepared, tmp_path / "study", **SHORT)
    set_workers(study, 4)
    process = start(study, environment, is_warm=False)
    wait_until(lambda: list_checkpoints(study), process, study)
    random.Random(0).choice(list_workers(process, study)).kill()  # noqa: S311 - no secret
    ended = finish(process, study)
    assert ended.code == 0, ended.said
    assert read_files(study) == read_files(whole_short)
    check_tracked(study)


@pytest.mark.slow
def test_a_search_that_was_stopped_and_then_killed_leaves_no_process_and_changes_no_byte(
    prepared, tmp_path, whole_short, environment
):
    study = copy_study(prepared, tmp_path / "study", **SHORT)
    process = start(study, environment)
    wait_until(lambda: list_checkpoints(study), process, study)
    workers = list_processes(process, study)
    assert len(workers) >= 3, "two workers, and a trainer at least"
    process.send_signal(signal.SIGTERM)
    ended = finish(process, study)
    assert ended.code == 143, ended.said
    assert "Traceback" not in ended.said
    assert have_gone(workers, within_s=60)
    assert {run.info.status for runs in find_trials(study).values() for run in runs} <= set(STATES.values())

    dates = {path: path.stat().st_mtime_ns for path in list_checkpoints(study)}
    process = start(study, environment)
    wait_until(lambda: len(list_workers(process, study)) == 2, process, study)
    list_workers(process, study)[0].kill()
    wait_until(lambda: count_ended(study) >= 4, process, study)  # the first batch
    # an epoch that had ended isn't trained anew
    assert all(path.stat().st_mtime_ns == date for path, date in dates.items() if path.exists())
    workers = list_processes(process, study)
    assert len(workers) >= 3
    process.kill()
    process.wait()
    assert have_gone(workers, within_s=60)

    set_workers(study, 1)
    search_whole(study, environment)
    assert read_files(study) == read_files(whole_short)
    check_tracked(study)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_kills_at_random_moments_change_no_byte(prepared, whole, tmp_path, environment):
    """At least 20 kills of workers, drivers and both, at moments from a search's start to its end."""
    expected = read_files(whole)
    start_s = measure_start_s(copy_study(prepared, tmp_path / "started"), environment)
    moments = random.Random("search")  # noqa: S311 - moments, not secrets
    kills: Counter[str] = Counter()
    ends = 0
    while sum(kills.values()) < 21 or ends == 0:
        folder = copy_study(prepared, tmp_path / str(ends))
        process = start(folder, environment)
        while (code := wait_a_little(process, start_s * moments.uniform(0.2, 1.6))) != 0:
            assert code in (None, -signal.SIGKILL), (folder / "said.log").read_text()
            if code is None and sum(kills.values()) < 21:
                kills[kill_some(process, folder, moments)] += 1
            if process.poll() is not None:
                process = start(folder, environment)
        ends += 1
        assert read_files(folder) == expected
        check_tracked(folder)
    print(json.dumps({"kills": kills, "kills in all": sum(kills.values()), "searches ended": ends}))
    assert len(kills) == 3


def measure_start_s(folder: Path, environment: dict[str, str]) -> float:
    """Returns the seconds until a search has its first checkpoint."""
    began_s = time.monotonic()
    process = start(folder, environment)
    wait_until(lambda: list_checkpoints(folder), process, folder)
    start_s = time.monotonic() - began_s
    process.kill()
    process.wait()
    return start_s


def wait_a_little(process: Driver, seconds: float) -> int | None:
    try:
        return process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        return None


def kill_some(driver: Driver, folder: Path, moments: random.Random) -> str:
    """Kills a worker, the driver, or both; returns which."""
    workers = list_workers(driver, folder)
    which = moments.choice(["worker", "driver", "both"]) if workers else "driver"
    if which != "driver":
        moments.choice(workers).kill()
    if which != "worker":
        below = list_processes(driver, folder)
        os.kill(driver.pid, signal.SIGKILL)
        driver.wait()
        assert have_gone(below, within_s=60)
    return which
