"""What MLflow shows after a run, and that a run never depends on MLflow."""

import json
import textwrap

import mlflow
import pytest

from copied_study import copy_database
from cotejo.tracking.journal import Run
from cotejo.tracking.mlflow.connection import Names
from cotejo.tracking.mlflow.delivery import Delivery
from cotejo.tracking.outbox.sender import Tracker
from waiting import Waiting, start_child
from warm import WarmProcess


@pytest.fixture
def delivery(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    copy_database(tmp_path)
    return Delivery(tmp_path, tmp_path, 1, Names("cotejo", "cotejo"))


@pytest.fixture
def tracker(tmp_path, delivery):
    return Waiting(tmp_path / "journal", delivery)


@pytest.fixture
def client(tmp_path):
    return mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")


SESSION = {"uid": "session", "name": "repro", "is_session": True}


def list_states(client):
    return {name: run.info.status for name, run in list_runs(client).items()}


def list_runs(client):
    experiment = client.get_experiment_by_name("cotejo")
    return {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}


def test_a_run_that_is_sent_from_another_folder_keeps_its_artifacts_beside_the_database(
    tracker, client, tmp_path, monkeypatch
):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")  # as DVC's own folders of `--temp` and queued experiments are
    Run(tracker, "train-lenet", SESSION, {}).finish("FINISHED")
    assert client.get_experiment_by_name("cotejo").artifact_location == (tmp_path / "mlruns").as_uri()


def test_a_seed_that_is_sent_before_the_stage_that_resumes_it_takes_none_of_its_tags(tmp_path, delivery, client):
    tracker = Tracker(tmp_path / "journal", lambda _: None)
    tags = {"dvc.stage": "train-lenet", "host": "laptop"}
    killed = Run(tracker, "train-lenet", {**SESSION, "uid": "first"}, tags)
    with pytest.raises(KeyboardInterrupt), start_child(killed, "seed 0") as seed:
        raise KeyboardInterrupt
    stage = Run(tracker, "train-lenet", {**SESSION, "uid": "second"}, tags)
    with start_child(stage, "seed 0", seed.uid):
        pass
    stage.finish("FINISHED")
    for run in (seed, killed, stage):
        delivery(run.path)
    experiment = client.get_experiment_by_name("cotejo").experiment_id
    shown = {run.data.tags["cotejo.uid"]: run for run in client.search_runs([experiment])}
    assert shown[seed.uid].data.tags["mlflow.parentRunId"] == shown[stage.uid].info.run_id
    assert tags.items() <= shown[stage.uid].data.tags.items()
    assert shown[stage.uid].data.tags["mlflow.parentRunId"] == shown["second"].info.run_id


def test_a_stage_is_shown_below_its_session_and_a_seed_below_its_stage(tracker, client):
    stage = Run(tracker, "train-lenet", {**SESSION, "name": "repro-1234567"}, {"dvc.stage": "train-lenet"})
    with start_child(stage, "train-lenet seed 0"):
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
    with start_child(stage, "seed 0"):
        pass
    assert list_states(client) == {"repro": "RUNNING", "train-lenet": "RUNNING", "seed 0": "FINISHED"}
    assert list_runs(client)["repro"].data.tags["host"] == "laptop"
    assert "dvc.stage" not in list_runs(client)["repro"].data.tags


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
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent("""
        import sys
        from pathlib import Path
        from cotejo.tracking.journal import Run
        from cotejo.tracking.outbox.sender import Tracker
        from cotejo.tracking.mlflow.connection import Names
        from cotejo.tracking.mlflow.delivery import Delivery
        root = Path(sys.argv[1])
        tracker = Tracker(root / "journal", Delivery(root, root, 5, Names("cotejo", "cotejo")))
        Run(tracker, sys.argv[2], {"uid": "session", "name": "parent", "is_session": True}, {}).finish("FINISHED")
        sys.exit(not tracker.close(60))
    """)
    )
    names = ["a", "b", "c", "d"]
    processes = [WarmProcess([str(script), str(tmp_path), name], tmp_path, environment) for name in names]
    assert [process.communicate()[1] for process in processes] == [""] * len(names)
    experiment = client.get_experiment_by_name("cotejo")
    runs = client.search_runs([experiment.experiment_id])
    assert sorted(run.info.run_name for run in runs) == [*names, "parent"]
    (parent,) = [run.info.run_id for run in runs if run.info.run_name == "parent"]
    assert [run.data.tags.get("mlflow.parentRunId") for run in runs].count(parent) == len(names)
    assert {run.info.status for run in runs} == {"FINISHED"}


def test_what_a_dead_server_missed_is_sent_when_it_is_back(tmp_path, delivery, client):
    def fail(journal):
        raise ConnectionError("down")

    run = Run(Waiting(tmp_path / "journal", fail), "stage", None, {})
    run.log_metrics({"loss": 1.0}, step=1)
    run.finish("FINISHED")
    Run(Waiting(tmp_path / "journal", fail), "still running", None, {}).flush()
    Waiting(tmp_path / "journal", delivery).send_left_over()
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


def test_a_resumed_run_is_the_same_run_and_runs_again_until_it_ends(stopped, tracker, client):
    assert list_states(client)["seed 0"] == "KILLED"
    before = list_runs(client)["seed 0"].info
    stage = Run(tracker, "train-lenet", {**SESSION, "uid": "next session", "name": "repro again"}, {})
    with start_child(stage, "seed 0", stopped) as child:
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

    offline = Waiting(tracker.folder, fail)
    Run(offline, "seed 0", None, {}, stopped)  # resumed, and then the power failed
    with (tracker.folder / f"{stopped}.jsonl").open("ab") as journal:
        journal.write(b'{"kind": "metrics", "time_ms": 17')
    names = ["a", "b", "c", "d"]  # before and behind it in the order of their files
    for name in names:
        Run(offline, name, None, {}).finish("FINISHED")
    capsys.readouterr()
    Waiting(tracker.folder, delivery).send_left_over()
    assert capsys.readouterr().err == ""
    assert {name: list_states(client)[name] for name in names} == dict.fromkeys(names, "FINISHED")


@pytest.fixture
def sent(tracker, tmp_path):
    """A finished run of every kind of record, all sent; its journal."""
    (tmp_path / "history.csv").write_text("epoch")
    (tmp_path / "model.keras").write_bytes(b"stands for a saved model: nothing here loads it")
    run = Run(tracker, "stage", SESSION, {"host": "laptop"})
    run.log_params({"epochs": 1}, is_summary=True)
    run.log_metrics({"loss": 1.0}, step=1)
    run.log_tags({"note": "whole"})
    run.log_dataset("digits", "a" * 64, tmp_path)
    run.log_artifact(tmp_path / "history.csv")
    run.log_model(tmp_path / "model.keras", (2, 2, 1), 4)
    run.finish("FINISHED")
    return run.path


#: MLflow's own example of a model warns when it is first imported, by what saves a model.
IMPORTS_MLFLOW_PYFUNC = pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType")


@IMPORTS_MLFLOW_PYFUNC
@pytest.mark.parametrize("left", ["", "{", '{"offset": 3, "run_id": "x"}', "[]", '{"offset": 99999, "run_id": "x"}'])
def test_a_progress_that_a_kill_spoilt_has_the_journal_sent_again_and_adds_nothing(sent, left, tracker, client, capsys):
    before = list_runs(client)
    size = json.loads(sent.with_suffix(".sent").read_text())["offset"]
    assert size == sent.stat().st_size
    sent.with_suffix(".sent").write_text(left)
    tracker.send_left_over()
    assert capsys.readouterr().err == ""
    assert json.loads(sent.with_suffix(".sent").read_text())["offset"] == size
    runs = list_runs(client)
    assert {name: run.info.run_id for name, run in runs.items()} == {
        name: run.info.run_id for name, run in before.items()
    }
    assert set(list_states(client).values()) == {"FINISHED"}
    run_id = runs["stage"].info.run_id
    assert len(client.get_metric_history(run_id, "loss")) == 1
    assert len(runs["stage"].inputs.dataset_inputs) == 1
    assert len(client.search_logged_models([runs["stage"].info.experiment_id])) == 1
    assert [file.path for file in client.list_artifacts(run_id)] == ["history.csv"]


def test_a_journal_that_can_not_be_sent_keeps_no_other_from_being_sent(tracker, client, capsys):
    def fail(journal):
        raise ConnectionError("down")

    offline = Waiting(tracker.folder, fail)
    names = ["a", "b", "c"]
    for name in names:
        Run(offline, name, None, {}).finish("FINISHED")
    bad = tracker.folder / "0.jsonl"
    bad.write_text('{"kind": "end", "state": "FINISHED"}\n')
    (tracker.folder / "1.jsonl").mkdir()
    capsys.readouterr()
    tracker.send_left_over()
    tracker.send_left_over()
    first, second = capsys.readouterr().err.splitlines()
    assert first == (
        f"warning: not all of {bad} can be sent to MLflow: its first record, which names its run, is lost; remove it. "
        "The run continues."
    )
    assert "1.jsonl can be sent to MLflow: [Errno 21] Is a directory" in second
    assert list_states(client) == dict.fromkeys(names, "FINISHED")


@pytest.mark.parametrize(
    "bad",
    [{"kind": "future"}, {"kind": "metrics"}, {"kind": "params", "values": {"epochs": "2"}, "is_summary": False}],
    ids=["kind", "keys", "value"],
)
def test_a_record_that_mlflow_refuses_is_left_out_and_the_rest_arrives(bad, tracker, client, capsys):
    run = Run(tracker, "stage", None, {})
    run.log_params({"epochs": 1})
    with run.path.open("a") as journal:
        journal.write(json.dumps({"time_ms": 1, **bad}) + "\n")
    run.log_metrics({"loss": 1.0}, step=1)
    run.flush()
    assert capsys.readouterr().err.count("left out 1 of its records") == 1
    run.finish("FINISHED")
    tracker.send_left_over()
    assert capsys.readouterr().err == ""
    shown = list_runs(client)["stage"]
    assert (shown.info.status, shown.data.params, shown.data.metrics) == ("FINISHED", {"epochs": "1"}, {"loss": 1.0})


def test_a_record_that_is_being_written_is_sent_when_it_is_whole(tracker, delivery, client):
    run = Run(tracker, "stage", None, {})
    run.flush()
    run.log_metrics({"loss": 1.0}, step=1)
    content = run.path.read_bytes()
    run.path.write_bytes(content[:-9])
    delivery(run.path)
    run.path.write_bytes(content)
    delivery(run.path)
    assert list_runs(client)["stage"].data.metrics == {"loss": 1.0}


@IMPORTS_MLFLOW_PYFUNC
def test_a_seed_that_was_stopped_twice_and_whose_models_were_sent_twice_is_finished(stopped, tracker, client, sent):
    stage = Run(tracker, "train-lenet", None, {})
    with pytest.raises(KeyboardInterrupt), start_child(stage, "seed 0", stopped):
        raise KeyboardInterrupt
    for _ in range(2):
        with start_child(stage, "seed 0", stopped) as child:
            pass
        child.log_artifact(sent.parents[1] / "history.csv")
        child.log_model(sent.parents[1] / "model.keras", (2, 2, 1), 4)
        child.flush()
    run = list_runs(client)["seed 0"]
    assert run.info.status == "FINISHED"
    models = client.search_logged_models([run.info.experiment_id])
    assert [model.source_run_id for model in models].count(run.info.run_id) == 1
