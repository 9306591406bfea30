"""What the stage runner promises: one writer, whole outputs, true states, exit codes, no orphans."""

import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import mlflow
import psutil
import pytest

from copied_study import copy_study
from edited_params import switch_tracking_off
from once import make_once
from warm import WarmProcess

SCRIPT = """
    import sys, time
    from pathlib import Path
    import _source
    from cotejo.errors import DataError
    from cotejo.stage import Stage, run_stage

    def body(stage: Stage) -> None:
        {body}

    if __name__ == "__main__":
        run_stage(body, "trial", sections=("base",))
"""
SLEEP = 'print("started", flush=True); time.sleep(60)'


@pytest.fixture
def folder(study):
    return study


def write_script(folder: Path, body: str) -> None:
    text = textwrap.dedent(SCRIPT).format(body=body.replace("\n", "\n    "))
    (folder / "stages/trial.py").write_text(text)


@pytest.fixture
def start(folder, environment):
    """Starts a stage with the given body in the study's folder, in a new interpreter or a fork of a warm one."""
    started = []

    def start(body: str, *, is_warm: bool = True) -> subprocess.Popen | WarmProcess:
        write_script(folder, body)
        if is_warm:
            process = WarmProcess(["stages/trial.py"], folder, environment)
        else:
            process = subprocess.Popen(
                [sys.executable, "stages/trial.py"], cwd=folder, env=environment,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def find_run(folder: Path, name: str = "trial") -> mlflow.entities.Run:
    client = mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("cotejo")
    (run,) = client.search_runs([experiment.experiment_id], f"attributes.run_name = '{name}'")
    return run


def test_a_stage_that_succeeds_leaves_its_output_and_a_finished_run(start, folder):
    process = start('with stage.output("models/x") as f: (f / "a").write_text("1")', is_warm=False)
    _, stderr = process.communicate()
    assert (process.returncode, stderr) == (0, "")
    assert (folder / "models/x/a").read_text() == "1"
    run = find_run(folder)
    assert run.info.status == "FINISHED"
    assert run.data.params["base.seeds"] == "[0, 1, 2]"
    assert run.data.tags["dvc.stage"] == "trial"
    assert len(run.data.tags["mlflow.source.git.commit"]) == 40
    assert run.data.metrics["wall_time_s"] > 0


def test_a_fault_of_the_users_is_one_line_and_exit_code_2(start, folder):
    process = start('raise DataError("expected this. Received: that.")')
    _, stderr = process.communicate()
    assert process.returncode == 2
    assert stderr == "trial: expected this. Received: that.\n"
    run = find_run(folder)
    assert run.info.status == "FAILED"
    assert run.data.tags["error"] == "expected this. Received: that."


def test_a_fault_of_ours_shows_its_traceback(start, folder):
    process = start("1 / 0")
    _, stderr = process.communicate()
    assert process.returncode == 1
    assert "ZeroDivisionError" in stderr
    assert find_run(folder).info.status == "FAILED"


def test_an_output_that_fails_half_way_leaves_nothing_and_keeps_the_old(start, folder):
    switch_tracking_off(folder)
    (folder / "models/x").mkdir(parents=True)
    (folder / "models/x/old").write_text("old")
    process = start('with stage.output("models/x") as f: (f / "new").write_text("1"); raise DataError("no")')
    process.communicate()
    assert [path.name for path in (folder / "models").iterdir()] == ["x"]
    assert [path.name for path in (folder / "models/x").iterdir()] == ["old"]


def test_an_undeclared_section_is_refused(start, folder):
    switch_tracking_off(folder)
    process = start("stage.params.lenet")
    _, stderr = process.communicate()
    assert process.returncode == 2
    assert "Received: lenet." in stderr


@pytest.mark.parametrize(("sent", "code", "is_warm"), [(signal.SIGTERM, 143, False), (signal.SIGINT, 130, True)])
def test_a_signal_stops_the_stage_and_its_run_is_killed(start, folder, sent, code, is_warm):
    process = start(SLEEP, is_warm=is_warm)
    assert process.stdout.readline() == "started\n"
    process.send_signal(sent)
    _, stderr = process.communicate()
    assert process.returncode == code
    assert stderr == f"trial: stopped by {sent.name}\n"
    assert find_run(folder).info.status == "KILLED"


def test_a_second_process_of_the_same_stage_is_refused(start, folder):
    switch_tracking_off(folder)
    first = start(SLEEP, is_warm=False)
    assert first.stdout.readline() == "started\n"
    second = start(SLEEP, is_warm=False)
    _, stderr = second.communicate()
    assert second.returncode == 2
    assert f"another one is running as process {first.pid}" in stderr


def test_a_lock_of_a_killed_stage_is_free(start, folder):
    switch_tracking_off(folder)
    first = start(SLEEP)
    assert first.stdout.readline() == "started\n"
    first.kill()
    first.wait()
    second = start('print("started", flush=True)')
    assert second.communicate()[0] == "started\n"
    assert second.returncode == 0


def test_a_stage_dies_with_the_dvc_that_started_it(folder, environment):
    write_script(folder, SLEEP)
    (folder / "dvc.yaml").write_text("stages:\n  trial:\n    cmd: python stages/trial.py\n")
    command = ["dvc", "repro"]
    with subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True) as dvc:
        while dvc.stdout.readline() != "started\n":
            assert dvc.poll() is None
        (stage,) = [p for p in psutil.Process(dvc.pid).children(recursive=True) if "stages/trial.py" in p.cmdline()]
        dvc.kill()
    while stage.is_running() and stage.status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.1)
    assert find_run(folder).info.status == "KILLED"


def test_a_stage_runs_the_code_that_it_stands_beside(start, folder):
    switch_tracking_off(folder)
    process = start("import cotejo.stage; print(cotejo.stage.__file__)", is_warm=False)
    assert Path(process.communicate()[0].strip()).is_relative_to(folder / "src")


@pytest.mark.parametrize("content", ["", "lenet: [", "- 1\n", "base: {seeds: [0]}\n"])
def test_bad_params_stop_a_stage_before_anything_is_written(start, folder, content):
    (folder / "params.yaml").write_text(content)
    before = {path for path in folder.rglob("*") if ".cotejo" not in path.parts}
    process = start('with stage.output("models/x"): pass')
    _, stderr = process.communicate()
    assert process.returncode == 2
    assert stderr.startswith("trial: params.yaml")
    assert "Traceback" not in stderr
    after = {path for path in folder.rglob("*") if ".cotejo" not in path.parts and "__pycache__" not in path.parts}
    assert after - before == {folder / "stages/trial.py"}


CHECKPOINT = """with stage.checkpoint("data") as f:
    print(len(list(f.iterdir())), flush=True)
    (f / "epoch").write_text("1")
    {after}"""


def run_checkpoint(folder: Path, environment: dict[str, str], after: str = "") -> str:
    """Runs a stage that writes a checkpoint; returns how many files were there before, and what it printed."""
    write_script(folder, CHECKPOINT.format(after=after))
    stdout, stderr = WarmProcess(["stages/trial.py"], folder, environment).communicate()
    return stdout.strip() + stderr.partition("Traceback")[0]


@pytest.fixture
def checkpoint(folder, environment) -> Callable[..., str]:
    return lambda after="": run_checkpoint(folder, environment, after)


def list_checkpoints(folder: Path) -> dict[str, set[str]]:
    return {path.name: {file.name for file in path.iterdir()} for path in (folder / ".cotejo/checkpoints").iterdir()}


def test_a_checkpoint_outlives_its_stage_and_a_next_run_until_another_stage_starts(checkpoint, folder, environment):
    assert checkpoint() == "0"
    ((name, files),) = list_checkpoints(folder).items()
    assert files == {"epoch", "done"}
    assert checkpoint() == "1"
    assert list_checkpoints(folder) == {name: {"epoch", "done"}}
    unfinished = folder / ".cotejo/checkpoints/another-0123"
    half_removed = folder / ".cotejo/checkpoints/.removed-another-4567"
    for kept in (unfinished, half_removed):
        kept.mkdir()
        (kept / "epoch").write_text("1")
    other = folder / "stages/other.py"
    other.write_text(textwrap.dedent(SCRIPT).format(body="pass").replace('"trial"', '"other"'))
    assert WarmProcess(["stages/other.py"], folder, environment).communicate() == ("", "")
    assert list_checkpoints(folder) == {"another-0123": {"epoch"}}


def test_what_was_checkpointed_with_other_inputs_is_named_only_where_it_holds_something(checkpoint, folder):
    switch_tracking_off(folder)
    fail = 'raise DataError("no")'
    empty = folder / ".cotejo/checkpoints/trial-0123"
    empty.mkdir(parents=True)
    assert "starts from the beginning" not in checkpoint(fail)
    (unfinished,) = set(list_checkpoints(folder)) - {empty.name}
    params = folder / "params.yaml"
    declared = params.read_text()
    params.write_text(declared.replace("seeds: [0, 1, 2]", "seeds: [2]", 1))
    said = checkpoint()
    assert f"remove it when it isn't wanted: .cotejo/checkpoints/{unfinished}\n" in said
    (finished,) = set(list_checkpoints(folder)) - {empty.name, unfinished}
    params.write_text(declared.replace("seeds: [0, 1, 2]", "seeds: [3]", 1))
    said = checkpoint()
    assert unfinished in said
    assert finished not in said
    assert finished not in list_checkpoints(folder), "the study has continued with other inputs"


FAIL = 'import cotejo.data.splits, cotejo.report.style; raise DataError("no")'


@pytest.fixture
def interrupted(tmp_path, environment):
    """A study in which a stage has failed behind its checkpoint."""

    def fail(folder: Path) -> None:
        copy_study(folder / "study", is_tracked=False)
        switch_tracking_off(folder / "study")
        assert run_checkpoint(folder / "study", environment, FAIL).startswith("0")

    return Path(shutil.copytree(make_once("interrupted", fail) / "study", tmp_path / "interrupted", symlinks=True))


@pytest.mark.parametrize(
    ("path", "is_resumed"),
    [
        ("stages/trial.py", False),
        ("src/cotejo/schema/trainings.py", False),
        ("src/cotejo/data/splits.py", False),
        ("src/cotejo/data/readers.py", False),  # splits imports it
        ("src/cotejo/models/vgg.py", True),
        ("src/cotejo/report/style.py", True),
        ("src/cotejo/tracking/journal.py", True),
    ],
)
def test_a_checkpoint_is_resumed_only_with_the_code_that_made_it(interrupted, environment, path, is_resumed):
    body = FAIL
    if path == "stages/trial.py":
        body += "  # changed"
    else:
        source = interrupted / path
        source.write_text(source.read_text() + "\n# changed\n")
    assert run_checkpoint(interrupted, environment, body).startswith("1" if is_resumed else "0")


@pytest.mark.parametrize(
    "body",
    [
        'open("/dev/full", "w").write("1" * 100_000)',
        'raise OSError("300000 requested and 25584 written")',  # as numpy.save says it
        'import errno; raise OSError(errno.EDQUOT, "Disk quota exceeded", "models/x")',
        'try: open("/dev/full", "w").write("1" * 100_000)\nexcept OSError: raise ValueError("archive is closed")',
    ],
    ids=["disk", "numpy", "quota", "behind"],
)
def test_a_full_disk_is_one_line_and_exit_code_2(start, folder, body):
    process = start(body)
    _, stderr = process.communicate()
    assert process.returncode == 2
    reasons = {"EDQUOT": "Disk quota exceeded: models/x", "requested": "300000 requested and 25584 written"}
    reason = next((reasons[word] for word in reasons if word in body), "No space left on device")
    assert stderr == (
        f"trial: expected to write the stage's outputs. Received: {reason}. Free some space and run dvc again.\n"
    )
    assert find_run(folder).info.status == "FAILED"
