"""A team's server, PostgreSQL behind MLflow's own: what four stages record at once arrives once, kill or no kill."""

import textwrap
import time

import mlflow
import pytest

from command import run_cotejo
from servers import MlflowServer, start_postgres
from warm import WarmProcess

pytestmark = pytest.mark.server

NAMES = ("search", "train-lenet", "train-resnet", "transfer-learn")
METRICS = ("train_loss", "val_accuracy", "val_loss")
EPOCHS = 500
#: Seconds between two epochs, of which some pass while the server is away.
EPOCH_S = 0.02
#: A stage that trains, as far as its tracking goes.
WRITER = textwrap.dedent("""
    import sys
    import time
    from pathlib import Path

    from cotejo.tracking.journal import Run
    from cotejo.tracking.outbox.sender import Tracker
    from cotejo.tracking.mlflow.connection import Names
    from cotejo.tracking.mlflow.delivery import Delivery

    name, epochs, epoch_s, root = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), Path.cwd()
    tracker = Tracker(root / ".cotejo" / "journal", Delivery(root, root / ".cotejo", 2, Names("cotejo", "cotejo")))
    run = Run(tracker, name, {"uid": "one dvc repro", "name": "repro", "is_session": True}, {"dvc.stage": name})
    run.log_params({"writer": name, "epochs": epochs})
    for epoch in range(1, epochs + 1):
        while epoch == epochs - 50 and not Path("server-is-back").exists():  # the last epochs have a server again
            time.sleep(0.1)
        ends_s = time.monotonic() + epoch_s
        run.log_epoch({"epoch": epoch, "train_loss": 2 / epoch, "val_loss": 1 / epoch, "val_accuracy": epoch / epochs})
        run.flush()
        time.sleep(max(0.0, ends_s - time.monotonic()))
    Path(f"{name}.csv").write_text("epoch")
    run.log_artifact(Path(f"{name}.csv"))
    run.finish("FINISHED")
""")


@pytest.fixture(scope="module")
def postgres():
    with start_postgres() as running:
        yield running


@pytest.fixture
def server(postgres, tmp_path, environment):
    running = MlflowServer(tmp_path, postgres.uri, environment)
    running.start()
    yield running
    running.kill()


@pytest.fixture
def writers(study, server, environment):
    """Four stages of one `dvc repro` that train at once."""
    (study / "writer.py").write_text(WRITER)
    variables = {**environment, "MLFLOW_TRACKING_URI": server.uri}
    processes = [WarmProcess(["writer.py", name, str(EPOCHS), str(EPOCH_S)], study, variables) for name in NAMES]
    yield processes
    for process in processes:
        process.kill()
        process.communicate()


def are_training(writers):
    return all(writer.poll() is None for writer in writers)


def wait_for_metrics(postgres, number, writers):
    while postgres.query("select count(*) from metrics") < [(number,)]:
        assert are_training(writers), "a stage ended before the server was killed"
        time.sleep(0.1)


def sync(study, server, environment):
    done = run_cotejo("sync", cwd=study, env={**environment, "MLFLOW_TRACKING_URI": server.uri})
    assert (done.returncode, done.stderr) == (0, "")
    assert "nothing left" in done.stdout


def check_that_postgres_has_every_record_once(postgres):
    runs = sorted(postgres.query("select name, status from runs"))
    assert runs == [(name, "FINISHED") for name in ("repro", *NAMES)]
    metrics = postgres.query("""
        select name, key, count(*), count(distinct step), min(step), max(step)
        from metrics join runs using (run_uuid) group by name, key
    """)
    assert sorted(metrics) == [(name, key, EPOCHS, EPOCHS, 1, EPOCHS) for name in NAMES for key in METRICS]
    params = postgres.query("select name, key, value from params join runs using (run_uuid)")
    assert sorted(params) == [row for name in NAMES for row in ((name, "epochs", str(EPOCHS)), (name, "writer", name))]
    parents = postgres.query("""
        select child.name, parent.name from tags join runs child using (run_uuid)
        join runs parent on tags.key = 'mlflow.parentRunId' and tags.value = parent.run_uuid
    """)
    assert sorted(parents) == [(name, "repro") for name in NAMES]


def check_that_mlflow_shows_the_curves_and_the_files(server):
    client = mlflow.MlflowClient(server.uri)
    experiment = client.get_experiment_by_name("cotejo")
    runs = {run.info.run_name: run.info.run_id for run in client.search_runs([experiment.experiment_id])}
    assert set(runs) == {"repro", *NAMES}
    for name in NAMES:
        history = client.get_metric_history(runs[name], "val_loss")
        assert [(point.step, point.value) for point in history] == [(n, 1 / n) for n in range(1, EPOCHS + 1)]
        assert [file.path for file in client.list_artifacts(runs[name])] == [f"{name}.csv"]


def test_four_stages_lose_and_double_nothing_when_the_server_is_killed(postgres, server, writers, study, environment):
    wait_for_metrics(postgres, len(NAMES) * EPOCHS * len(METRICS) // 2, writers)
    server.kill()
    assert are_training(writers)
    server.start()
    assert are_training(writers)
    (study / "server-is-back").touch()
    for writer in writers:
        said = writer.communicate()[1]
        assert (writer.returncode, said.count("\n") <= 1) == (0, True), said

    for _ in range(2):  # the second finds nothing to do, and adds nothing
        sync(study, server, environment)
        check_that_postgres_has_every_record_once(postgres)
    check_that_mlflow_shows_the_curves_and_the_files(server)
