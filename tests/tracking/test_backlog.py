"""Runs whose process is gone, and what is delivered afterwards: in order, once, whoever is killed while at it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import mlflow
import psutil
import pytest

from command import run_cotejo
from copied_study import ROOT, copy_database
from cotejo.tracking.journal import Run
from cotejo.tracking.outbox.backlog import close_gone, find_left
from cotejo.tracking.outbox.sender import Tracker
from edited_params import edit_params
from warm import WarmProcess


@pytest.fixture
def folder(tmp_path):
    return tmp_path / ".cotejo/journal"


@pytest.fixture
def live(tmp_path, environment):
    """Runs a script in a process of its own, in which `run` is called with a name and nothing is sent."""

    def live(body):
        script = """
            import os, signal
            from pathlib import Path
            from cotejo.tracking.journal import Run
            from cotejo.tracking.outbox.sender import Tracker
            def fail(journal):
                raise ConnectionError("down")
            tracker = Tracker(Path(".cotejo/journal"), fail)
            def run(name, uid=None, parent=None):
                return Run(tracker, name, parent, {"dvc.stage": name}, uid)
        """
        code = textwrap.dedent(script) + textwrap.dedent(body)
        subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=with_source(environment), check=False)

    return live


def with_source(environment):
    return {**environment, "PYTHONPATH": os.environ.get("PYTHONPATH", "")}


def read(folder, uid):
    return [json.loads(line) for line in (folder / f"{uid}.jsonl").read_text().splitlines()]


SYNC = [str(Path(sys.executable).with_name("cotejo")), "sync"]
KILL = "os.kill(os.getpid(), signal.SIGKILL)\n"


def test_a_run_whose_process_was_killed_is_closed_when_it_was_last_heard_of(live, folder):
    live("run('a', 'a').log_metrics({'loss': 1.0}, 1)\n" + KILL)
    before = read(folder, "a")
    assert close_gone(folder) == 1
    writer, (tags, end) = before[0]["writer"], read(folder, "a")[len(before) :]
    assert tags["values"] == {"interrupted": f"process {writer['pid']} on {writer['host']} is gone"}
    assert (end["kind"], end["state"], end["time_ms"]) == ("end", "KILLED", before[-1]["time_ms"])
    assert close_gone(folder) == 0


def test_a_run_whose_process_lives_or_is_on_another_machine_is_left_alone(folder, monkeypatch):
    run = Run(Tracker(folder, lambda _: None), "a", None, {}, "a")
    monkeypatch.setattr("platform.node", lambda: "elsewhere")
    Run(Tracker(folder, lambda _: None), "b", None, {}, "b")
    monkeypatch.undo()
    assert close_gone(folder) == 0
    run.finish("FINISHED")
    assert [record["kind"] for record in read(folder, "a")] == ["start", "end"]


def test_a_number_that_another_process_has_got_since_is_not_taken_for_the_old_one(folder):
    run = Run(Tracker(folder, lambda _: None), "a", None, {}, "a")
    records = read(folder, "a")
    records[0]["writer"]["began_s"] = psutil.Process().create_time() - 60
    run.path.write_text(json.dumps(records[0]) + "\n")
    assert close_gone(folder) == 1


def test_a_resumed_run_is_not_closed_and_its_params_are_logged_once(live, folder):
    live("run('a', 'a').log_params({'epochs': 2})\n" + KILL)
    assert close_gone(folder) == 1
    again = Run(Tracker(folder, lambda _: None), "a", None, {}, "a")
    again.log_params({"epochs": 3, "seed": 0})
    assert close_gone(folder) == 0
    kinds = [record["kind"] for record in read(folder, "a")]
    assert kinds == ["start", "params", "tags", "end", "resume", "params"]
    assert read(folder, "a")[-1]["values"] == {"seed": "0"}


@pytest.fixture
def place(tmp_path):
    """The folder, with parameters and a database."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    edit_params(tmp_path / "params.yaml", "tracking", experiment="cotejo")
    copy_database(tmp_path)
    return tmp_path


@pytest.fixture
def sync(place, environment):
    """Runs `cotejo sync` in the folder; returns what it printed on stdout and stderr."""

    def run():
        done = run_cotejo("sync", cwd=place, env=environment)
        return done.stdout, done.stderr

    return run


def read_points(tmp_path):
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("cotejo")
    runs = client.search_runs([experiment.experiment_id])
    return {
        run.info.run_name: [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, "loss")]
        for run in runs
    }


NUM_RUNS, NUM_POINTS = 4, 120
CURVE = [(step, 1 / step) for step in range(1, NUM_POINTS + 1)]
#: Summaries among them, so that not all points of a run are sent in one call.
RECORD = f"""
    for number in range({NUM_RUNS}):
        one = run(f"run {{number}}", parent={{"uid": "session", "name": "repro", "is_session": True}})
        for step in range(1, {NUM_POINTS} + 1):
            one.log_metrics({{"loss": 1 / step}}, step)
            if step % 10 == 0:
                one.log_metrics({{f"run {{number}}/best": 1 / step}}, step, is_summary=True)
        one.finish("FINISHED" if number else "FAILED")
"""


def read_progress(folder):
    """Reads how far each journal has been sent, which a sync writes down behind each call of MLflow."""
    return {path.name: path.read_bytes() for path in folder.glob("*.sent")}


def test_a_sync_that_is_killed_again_and_again_delivers_each_record_once(live, folder, place, environment):
    live(RECORD)
    kills = 0
    while kills < 4 and find_left(folder):
        sent = read_progress(folder)
        process = WarmProcess(SYNC, place, environment)
        # from when it has sent something, a little further each time
        while read_progress(folder) == sent and process.poll() is None:
            time.sleep(0.01)
        time.sleep(0.05 * kills)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.communicate()
    assert kills > 1, "the test needs kills in the middle"
    stdout, stderr = WarmProcess(SYNC, place, environment).communicate()
    assert (stdout.endswith("nothing left\n"), stderr) == (True, "")
    points = read_points(place)
    assert points.pop("repro") == []
    assert points == {f"run {number}": CURVE for number in range(NUM_RUNS)}


def test_two_syncs_at_once_deliver_each_record_once(live, folder, place, environment):
    live(RECORD)
    total = sum(item.num_records for item in find_left(folder))
    syncs = [WarmProcess(SYNC, place, environment) for _ in range(2)]
    said = [process.communicate() for process in syncs]
    assert [stderr for _, stderr in said] == ["", ""]
    assert sum(int(stdout.split()[1]) for stdout, _ in said) == total
    assert any(stdout.endswith("nothing left\n") for stdout, _ in said)
    points = read_points(place)
    assert {name: points[name] for name in points if name != "repro"} == {
        f"run {number}": CURVE for number in range(NUM_RUNS)
    }


def test_a_session_whose_stages_were_killed_or_failed_does_not_stay_running(live, sync, tmp_path):
    session = '{"uid": "session", "name": "repro", "is_session": True}'
    live(f"run('a', parent={session}).finish('FINISHED')\nrun('b', parent={session}).log_params({{'x': 1}})\n" + KILL)
    stdout, stderr = sync()
    assert (stdout, stderr) == ("sent 6 records of 2 runs; nothing left\n", "")
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    runs = client.search_runs([client.get_experiment_by_name("cotejo").experiment_id])
    states = {run.info.run_name: run.info.status for run in runs}
    assert states == {"a": "FINISHED", "b": "KILLED", "repro": "KILLED"}
    (killed,) = [run for run in runs if run.info.run_name == "b"]
    assert killed.data.tags["interrupted"].endswith(" is gone")


def test_a_file_that_was_written_anew_since_is_not_sent_as_that_runs(live, sync, tmp_path):
    live("Path('a.csv').write_text('1'); Path('b.csv').write_text('1'); one = run('a')\n"
         "one.log_artifact(Path('a.csv')); one.log_artifact(Path('b.csv')); one.finish('FINISHED')")  # fmt: skip
    (tmp_path / "a.csv").write_text("2")
    stdout, _ = sync()
    first, last = stdout.splitlines()
    assert first.endswith(f"left out 1 of its records: {tmp_path / 'a.csv'} has changed since, or is gone")
    assert last == "sent 3 records of 1 run; nothing left"
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("cotejo").experiment_id])
    assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["b.csv"]


def test_a_database_that_was_removed_gets_the_whole_of_what_is_resumed(live, place, environment):
    live("one = run('a', 'a'); one.log_metrics({'loss': 1.0}, 1); one.finish('KILLED')")
    WarmProcess(SYNC, place, environment).communicate()  # this process would keep the old database open
    (place / "mlflow.db").unlink()
    live("one = run('a', 'a'); one.log_metrics({'loss': 0.5}, 2); one.finish('FINISHED')")
    stdout, stderr = WarmProcess(SYNC, place, environment).communicate()
    assert (stdout.endswith("of 1 run; nothing left\n"), stderr) == (True, "")
    assert read_points(place) == {"a": [(1, 1.0), (2, 0.5)]}
