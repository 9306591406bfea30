"""What the stage runner promises: one writer, whole outputs, true states, exit codes, no orphans."""

import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import mlflow
import psutil
import pytest

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


@pytest.fixture
def start(folder, environment):
    """Starts a stage with the given body in the study's folder."""
    started = []

    def start(body: str, *, via: list[str] | None = None) -> subprocess.Popen:
        script = folder / "stages" / "trial.py"
        script.write_text(textwrap.dedent(SCRIPT).format(body=body.replace("\n", "\n    ")))
        command = [*(via or []), sys.executable, "stages/trial.py"]
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
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
    process = start('with stage.output("models/x") as f: (f / "a").write_text("1")')
    _, stderr = process.communicate()
    assert (process.returncode, stderr) == (0, "")
    assert (folder / "models/x/a").read_text() == "1"
    run = find_run(folder)
    assert run.info.status == "FINISHED"
    assert run.data.params["base.seeds"] == "[0, 1]"
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
    (folder / "models/x").mkdir(parents=True)
    (folder / "models/x/old").write_text("old")
    process = start('with stage.output("models/x") as f: (f / "new").write_text("1"); raise DataError("no")')
    process.communicate()
    assert [path.name for path in (folder / "models").iterdir()] == ["x"]
    assert [path.name for path in (folder / "models/x").iterdir()] == ["old"]


def test_an_undeclared_section_is_refused(start):
    process = start("stage.params.lenet")
    _, stderr = process.communicate()
    assert process.returncode == 2
    assert "Received: lenet." in stderr


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_stops_the_stage_and_its_run_is_killed(start, folder, sent, code):
    process = start(SLEEP)
    assert process.stdout.readline() == "started\n"
    process.send_signal(sent)
    _, stderr = process.communicate()
    assert process.returncode == code
    assert stderr == f"trial: stopped by {sent.name}\n"
    assert find_run(folder).info.status == "KILLED"


def test_a_second_process_of_the_same_stage_is_refused(start, folder):
    first = start(SLEEP)
    assert first.stdout.readline() == "started\n"
    second = start(SLEEP)
    _, stderr = second.communicate()
    assert second.returncode == 2
    assert f"another one is running as process {first.pid}" in stderr


def test_a_lock_of_a_killed_stage_is_free(start):
    first = start(SLEEP)
    assert first.stdout.readline() == "started\n"
    first.kill()
    first.wait()
    second = start('print("started", flush=True)')
    assert second.communicate()[0] == "started\n"
    assert second.returncode == 0


def test_a_stage_dies_with_the_dvc_that_started_it(folder, environment):
    (folder / "stages/trial.py").write_text(textwrap.dedent(SCRIPT).format(body=SLEEP))
    (folder / "dvc.yaml").write_text("stages:\n  trial:\n    cmd: python stages/trial.py\n")
    command = ["dvc", "repro"]
    with subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True) as dvc:
        while dvc.stdout.readline() != "started\n":
            assert dvc.poll() is None
        (stage,) = [p for p in psutil.Process(dvc.pid).children(recursive=True) if "stages/trial.py" in p.cmdline()]
        dvc.kill()
    deadline_s = time.monotonic() + 20
    while stage.is_running() and stage.status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline_s:
        time.sleep(0.1)
    assert not stage.is_running() or stage.status() == psutil.STATUS_ZOMBIE
    assert find_run(folder).info.status == "KILLED"


def test_a_stage_runs_the_code_that_it_stands_beside(start, folder):
    process = start("import cotejo.stage; print(cotejo.stage.__file__)")
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
