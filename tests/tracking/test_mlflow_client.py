"""What MLflow shows after a run, and that a run never depends on MLflow."""

import json
import socket
import subprocess
import sys
import textwrap
import threading
import time

import mlflow
import pytest

from cotejo.tracking.journal import Run, Tracker
from cotejo.tracking.mlflow_client import Delivery


@pytest.fixture
def delivery(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return Delivery(tmp_path, tmp_path, timeout_s=1)


@pytest.fixture
def tracker(tmp_path, delivery):
    return Tracker(tmp_path / "journal", delivery)


@pytest.fixture
def client(tmp_path):
    return mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")


SESSION = {"uid": "session", "name": "repro", "is_session": True}


def list_states(client):
    return {name: run.info.status for name, run in list_runs(client).items()}


def list_runs(client):
    experiment = client.get_experiment_by_name("cotejo")
    return {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}


def test_a_stage_is_shown_below_its_session_and_a_seed_below_its_stage(tracker, client):
    stage = Run(tracker, "train-lenet", {**SESSION, "name": "repro-1234567"}, {"dvc.stage": "train-lenet"})
    with stage.start_child("train-lenet seed 0"):
        pass
    stage.finish("FINISHED")
    runs = list_runs(client)
    parents = {name: run.data.tags.get("mlflow.parentRunId") for name, run in runs.items()}
    assert parents == {
        "repro-1234567": None,
        "train-lenet": runs["repro-1234567"].info.run_id,
        "train-lenet seed 0": runs["train-lenet"].info.run_id,
    }
    assert {run.info.status for run in runs.values()} == {"FINISHED"}


def test_a_finished_seed_leaves_its_stage_running(tracker, client):
    stage = Run(tracker, "train-lenet", SESSION, {"dvc.stage": "train-lenet", "host": "laptop"})
    stage.flush()
    with stage.start_child("seed 0"):
        pass
    assert list_states(client) == {"repro": "RUNNING", "train-lenet": "RUNNING", "seed 0": "FINISHED"}
    assert list_runs(client)["repro"].data.tags["host"] == "laptop"
    assert "dvc.stage" not in list_runs(client)["repro"].data.tags


def test_a_pruned_trial_is_finished_and_a_failed_one_has_failed(tracker, client):
    stage = Run(tracker, "search", SESSION, {})
    stage.flush()
    for error in (StopIteration, ValueError):
        with pytest.raises(error), stage.start_child(error.__name__, not_failures=(StopIteration,)):
            raise error
    states = list_states(client)
    assert (states["StopIteration"], states["ValueError"], states["search"]) == ("FINISHED", "FAILED", "RUNNING")


def test_a_session_with_a_failed_stage_has_failed_whatever_comes_after(tracker, client):
    for name, state in (("train-lenet", "FAILED"), ("train-resnet", "FINISHED")):
        Run(tracker, name, SESSION, {}).finish(state)
    assert list_states(client) == {"repro": "FAILED", "train-lenet": "FAILED", "train-resnet": "FINISHED"}


def test_two_stages_of_one_session_share_their_parent(tracker, client):
    for name in ("download", "preprocess"):
        Run(tracker, name, SESSION, {}).finish("FINISHED")
    assert set(list_runs(client)) == {"repro", "download", "preprocess"}


def test_curves_params_and_artifacts_arrive(tracker, client, tmp_path):
    run = Run(tracker, "stage", SESSION, {})
    run.log_params({"lenet.epochs": 2})
    for epoch in (1, 2):
        run.log_metrics({"val_loss": 1 / epoch}, step=epoch)
        run.flush()
    run.log_metrics({"lenet/test_accuracy": 0.9}, is_summary=True)
    (tmp_path / "figure.png").write_bytes(b"png")
    run.log_artifact(tmp_path / "figure.png", "figures")
    run.log_dataset("digits", "a" * 64, tmp_path)
    run.finish("FINISHED")
    runs = list_runs(client)
    shown = runs["stage"]
    assert shown.data.params == {"lenet.epochs": "2"}
    history = client.get_metric_history(shown.info.run_id, "val_loss")
    assert [(point.step, point.value) for point in history] == [(1, 1.0), (2, 0.5)]
    assert [file.path for file in client.list_artifacts(shown.info.run_id, "figures")] == ["figures/figure.png"]
    (dataset,) = shown.inputs.dataset_inputs
    assert {tag.key: tag.value for tag in dataset.tags}["sha256"] == "a" * 64
    assert runs["repro"].data.metrics == {"lenet/test_accuracy": 0.9}


def test_sending_a_journal_again_adds_nothing(tracker, delivery, client):
    run = Run(tracker, "stage", None, {})
    run.log_metrics({"loss": 1.0}, step=1)
    run.finish("FINISHED")
    delivery(run.path)
    history = client.get_metric_history(list_runs(client)["stage"].info.run_id, "loss")
    assert len(history) == 1


def test_processes_that_start_together_on_no_database_all_arrive(tmp_path, environment, client):
    script = textwrap.dedent("""
        import sys
        from pathlib import Path
        from cotejo.tracking.journal import Run, Tracker
        from cotejo.tracking.mlflow_client import Delivery
        root = Path(sys.argv[1])
        tracker = Tracker(root / "journal", Delivery(root, root, 5))
        Run(tracker, sys.argv[2], {"uid": "session", "name": "parent"}, {}).finish("FINISHED")
    """)
    names = ["a", "b", "c", "d"]
    processes = [
        subprocess.Popen([sys.executable, "-c", script, str(tmp_path), name], env=environment, stderr=subprocess.PIPE)
        for name in names
    ]
    assert [process.communicate()[1] for process in processes] == [b""] * len(names)
    assert set(list_runs(client)) == {"parent", *names}


@pytest.fixture
def silent_server():
    """A server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        held = []
        threading.Thread(target=lambda: [held.append(server.accept()) for _ in range(8)], daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        for connection, _ in held:
            connection.close()


@pytest.fixture
def refusing_server():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    return f"http://127.0.0.1:{port}"


@pytest.mark.parametrize("kind", ["refusing_server", "silent_server"])
def test_a_dead_server_costs_one_warning_and_a_few_seconds(kind, request, tmp_path, environment):
    script = textwrap.dedent("""
        import sys
        from pathlib import Path
        from cotejo.tracking.journal import Run, Tracker
        from cotejo.tracking.mlflow_client import Delivery
        root = Path(sys.argv[1])
        run = Run(Tracker(root / "journal", Delivery(root, root, 1)), "stage", None, {})
        for step in range(100):
            run.log_metrics({"loss": 1.0}, step)
            run.flush()
        run.finish("FINISHED")
    """)
    began_s = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        env={**environment, "MLFLOW_TRACKING_URI": request.getfixturevalue(kind)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert time.monotonic() - began_s < 30
    assert done.stderr.count("warning: MLflow took no record") == 1
    (journal,) = (tmp_path / "journal").glob("*.jsonl")
    kinds = [json.loads(line)["kind"] for line in journal.read_text().splitlines()]
    assert kinds == ["start", *["metrics"] * 100, "end"]


def test_what_a_dead_server_missed_is_sent_when_it_is_back(tmp_path, delivery, client):
    def fail(journal):
        raise ConnectionError("down")

    run = Run(Tracker(tmp_path / "journal", fail), "stage", None, {})
    run.log_metrics({"loss": 1.0}, step=1)
    run.finish("FINISHED")
    Run(Tracker(tmp_path / "journal", fail), "still running", None, {}).flush()
    Tracker(tmp_path / "journal", delivery).send_left_over()
    assert set(list_runs(client)) == {"stage"}
    assert list_runs(client)["stage"].info.status == "FINISHED"
    assert list_runs(client)["stage"].data.metrics == {"loss": 1.0}


@pytest.fixture
def stopped(tracker):
    """A seed that was stopped after two epochs: its run's unique name."""
    child = Run(tracker, "seed 0", {"uid": "stage", "name": "train-lenet"}, {})
    for epoch in (1, 2):
        child.log_metrics({"val_loss": 1 / epoch}, step=epoch)
        child.flush()
    child.finish("KILLED")
    return child.uid


def test_a_run_that_goes_on_is_the_same_run_and_runs_again_until_it_ends(stopped, tracker, client):
    assert list_states(client)["seed 0"] == "KILLED"
    before = list_runs(client)["seed 0"].info
    stage = Run(tracker, "train-lenet", {**SESSION, "uid": "next session", "name": "repro again"}, {})
    with stage.start_child("seed 0", stopped) as child:
        child.log_metrics({"val_loss": 0.3}, step=3)
        child.flush()
        assert list_states(client)["seed 0"] == "RUNNING"

    experiment = client.get_experiment_by_name("cotejo")
    (seed,) = client.search_runs([experiment.experiment_id], "attributes.run_name = 'seed 0'")
    assert (seed.info.run_id, seed.info.start_time) == (before.run_id, before.start_time)
    assert seed.info.status == "FINISHED"
    assert seed.info.end_time > before.end_time
    history = client.get_metric_history(seed.info.run_id, "val_loss")
    assert [(point.step, point.value) for point in history] == [(1, 1.0), (2, 0.5), (3, 0.3)]


def test_a_run_whose_journal_is_lost_is_found_by_its_unique_name(stopped, tracker, client):
    for file in tracker.folder.iterdir():
        file.unlink()
    Run(tracker, "seed 0", None, {}, stopped).finish("FINISHED")
    assert list_states(client)["seed 0"] == "FINISHED"


def test_a_record_that_a_power_failure_tore_keeps_no_other_run_from_being_sent(
    stopped, tracker, delivery, client, capsys
):
    def fail(journal):
        raise ConnectionError("down")

    offline = Tracker(tracker.folder, fail)
    Run(offline, "seed 0", None, {}, stopped)  # gone on with, and then the power failed
    with (tracker.folder / f"{stopped}.jsonl").open("ab") as journal:
        journal.write(b'{"kind": "metrics", "time_ms": 17')
    names = ["a", "b", "c", "d"]  # before and behind it in the order of their files
    for name in names:
        Run(offline, name, None, {}).finish("FINISHED")
    capsys.readouterr()
    Tracker(tracker.folder, delivery).send_left_over()
    assert capsys.readouterr().err == ""
    assert {name: list_states(client)[name] for name in names} == dict.fromkeys(names, "FINISHED")
