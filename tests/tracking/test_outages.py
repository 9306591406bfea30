"""A stage whose MLflow can't be had: it neither stops nor waits, and nothing that it recorded is lost."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from functools import partial

import mlflow
import pytest
import requests

from command import run_cotejo
from edited_params import edit_params
from mlflow_faults import FAULTS, start_epochs, wait_for_end, write_epochs
from warm import WarmProcess

NUM_EPOCHS = 20
#: What MLflow is allowed at the end of a stage, and what a busy machine may take for the rest of the exit.
TIMEOUT_S, EXIT_S = 3, 8


@pytest.fixture
def configure(study):
    return partial(edit_params, study / "params.yaml", "runtime")


@pytest.fixture
def server(study, environment):
    """Starts a real server, on the same port and database each time."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    started = []

    def start():
        command = ["mlflow", "server", "--backend-store-uri", f"sqlite:///{study / 'mlflow.db'}", "--port", str(port),
                   "--artifacts-destination", str(study / "artifacts"), "--workers", "1"]  # fmt: skip
        quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        with (study / "server.log").open("a") as log:
            process = subprocess.Popen(
                command, cwd=study, env={**environment, **quiet}, stdout=log, stderr=log, start_new_session=True
            )
        started.append(process)
        address = f"http://127.0.0.1:{port}"
        while True:
            assert process.poll() is None, (study / "server.log").read_text()
            with contextlib.suppress(OSError):
                requests.get(f"{address}/health", timeout=5)
                return address, lambda: stop(process)
            time.sleep(0.2)

    def stop(process):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    yield start
    for process in started:
        stop(process)


@pytest.mark.slow  # a database that comes back within a run is tested below, four stages' server in test_team_server
def test_a_server_that_is_killed_in_the_middle_and_started_again_has_every_record_once(study, environment, server):
    address, kill = server()
    process = start_epochs(study, {**environment, "MLFLOW_TRACKING_URI": address}, 400, sleep_s=0.1)
    client = mlflow.MlflowClient(address)
    while not count_points(client):
        time.sleep(0.2)
    kill()
    assert process.stderr.readline().startswith(f"warning: not all records are in MLflow yet ({address}: ")
    assert process.poll() is None
    server()
    ended = wait_for_end(process)
    assert (ended.code, ended.stderr) == (0, "")
    run, history = read_history(study)
    assert run.info.status == "FINISHED"
    assert history == [(epoch, 1 / epoch) for epoch in range(1, 401)]


def count_points(client):
    experiment = client.get_experiment_by_name("cotejo")
    runs = client.search_runs([experiment.experiment_id]) if experiment else []
    return sum(len(client.get_metric_history(run.info.run_id, "loss")) for run in runs)


@pytest.fixture
def sync(study, environment):
    """Runs `cotejo sync` in this process."""

    def run(*arguments, **variables):
        return run_cotejo("sync", *arguments, cwd=study, env={**environment, **variables})

    return run


@pytest.fixture
def installed_sync(study, environment):
    """Runs `cotejo sync` in a process of its own."""

    def run(*arguments, **variables):
        return subprocess.run(
            ["cotejo", "sync", *arguments], cwd=study,
            env={**environment, "PYTHONPATH": str(study / "src"), **variables},
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    return run


def read_history(study, run_name="epochs"):
    client = mlflow.MlflowClient(f"sqlite:///{study / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("cotejo")
    (run,) = client.search_runs([experiment.experiment_id], f"attributes.run_name = '{run_name}'")
    history = client.get_metric_history(run.info.run_id, "loss")
    return run, [(point.step, point.value) for point in history]


def start_warm(study, environment, num_epochs, **options):
    return WarmProcess(write_epochs(study, num_epochs, **options), study, environment)


def end_epochs(study, environment, num_epochs, **options):
    """Runs a stage of simulated epochs: in a new interpreter where a package is hidden from it."""
    start = start_epochs if "PYTHONPATH" in environment else start_warm
    return wait_for_end(start(study, environment, num_epochs, **options))


CURVE = [(epoch, 1 / epoch) for epoch in range(1, NUM_EPOCHS + 1)]


@pytest.fixture
def database(study):
    """An MLflow database that holds the study's experiment and no run of ours."""
    from cotejo.tracking.mlflow.connection import Names
    from cotejo.tracking.mlflow.delivery import Delivery

    delivery = Delivery(study, study / ".cotejo", 5, Names("cotejo", "cotejo"))
    (study / ".cotejo").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        assert delivery.experiment_id


#: Of each kind one fault is tried by `make test`: a package, a server and a database that can't be had.
FAST = ("package absent", "no answer", "database locked")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in list(FAULTS)[1:]]
)
@pytest.mark.usefixtures("database")
def test_a_fault_costs_one_warning_and_the_declared_wait_and_all_is_delivered_afterwards(
    name, study, environment, configure, sync
):
    configure(tracking_timeout_s=TIMEOUT_S)
    with FAULTS[name](study) as variables:
        ended = end_epochs(study, {**environment, **variables}, NUM_EPOCHS, sleep_s=0.3 if "middle" in name else 0.02)
        assert ended.code == 0, ended.stderr
        assert ended.end_s < TIMEOUT_S + EXIT_S
        (warning,) = ended.stderr.splitlines()
        assert warning.startswith("warning: not all records are in MLflow yet (")
        assert warning.endswith("sent by a later stage, or by `cotejo sync`.")
        status = sync("--status")
        assert status.stdout.splitlines()[1].startswith("epochs  epochs")
        assert status.stdout.splitlines()[1].endswith("FINISHED")
    done = sync()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("sent ")
    assert done.stdout.endswith(" of 1 run; nothing left\n")
    run, history = read_history(study)
    assert run.info.status == "FINISHED"
    assert history == CURVE
    assert sync("--status").stdout == "nothing left\n"
    assert sync().stdout == "sent 0 records of 0 runs; nothing left\n"


@pytest.mark.parametrize("name", ["connection refused", "no answer"])
def test_sync_without_a_server_is_one_line_and_exit_code_2_and_loses_nothing(name, study, environment, configure, sync):
    configure(tracking_timeout_s=1)
    with FAULTS[name](study) as variables:
        end_epochs(study, {**environment, **variables}, NUM_EPOCHS)
        left = sync("--status").stdout
        done = sync(**variables)
        assert sync("--status").stdout == left
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert f"cotejo: expected MLflow to take records. Received: {variables['MLFLOW_TRACKING_URI']}: " in done.stderr
    assert f"{NUM_EPOCHS + 7} records of 1 run left" in done.stderr


def test_sync_with_nothing_left_and_no_server_is_one_line_without_the_password(
    study, environment, sync, installed_sync
):
    end_epochs(study, environment, 1)
    assert sync().stdout.startswith("sent 0 records of 0 runs; nothing left\n")
    done = installed_sync(MLFLOW_TRACKING_URI="http://ana:pa55w0rd@127.0.0.1:9")
    assert (done.returncode, done.stdout) == (2, "sent 0 records of 0 runs; nothing left\n")
    (line,) = done.stderr.splitlines()
    assert line.startswith(
        "cotejo: expected MLflow to say what the last session has run. Received: http://***@127.0.0.1:9: "
    )
    assert "pa55w0rd" not in line


def test_what_a_database_missed_is_sent_within_the_run_when_it_is_back(study, environment):
    (study / "mlflow.db").rename(study / "away.db")
    (study / "mlflow.db").mkdir()  # nothing that can be opened
    process = start_warm(study, environment, NUM_EPOCHS, sleep_s=0.5)
    assert process.stderr.readline().startswith("warning: not all records are in MLflow yet (mlflow.db: ")
    (study / "mlflow.db").rmdir()
    (study / "away.db").rename(study / "mlflow.db")
    ended = wait_for_end(process)
    assert (ended.code, ended.stderr) == (0, "")
    run, history = read_history(study)
    assert run.info.status == "FINISHED"
    assert history == CURVE


def test_with_tracking_off_mlflow_is_not_imported_and_no_journal_is_written(study, environment, configure):
    configure(tracking="off")
    (study / "mlflow.db").unlink()
    (study / "without-mlflow").mkdir()
    (study / "without-mlflow/mlflow.py").write_text("import sys; sys.exit('imported')")
    ended = end_epochs(study, {**environment, "PYTHONPATH": str(study / "without-mlflow")}, NUM_EPOCHS)
    assert (ended.code, ended.stderr) == (0, "")
    assert not (study / ".cotejo/journal").exists()
    assert not (study / "mlflow.db").exists()


def test_a_stage_imports_mlflow_only_to_send_with(study, environment):
    script = (
        "import runpy, sys\n"
        "for stage in ('download', 'preprocess', 'compare'):\n"
        "    runpy.run_path(f'stages/{stage}.py')\n"
        "    assert 'mlflow' not in sys.modules, stage"
    )
    subprocess.run([sys.executable, "-c", script],
                   cwd=study, env={**environment, "PYTHONPATH": str(study / "stages")}, check=True)  # fmt: skip


def test_status_neither_imports_mlflow_nor_asks_the_server(study, environment, installed_sync):
    with FAULTS["package absent"](study) as variables:
        end_epochs(study, {**environment, **variables}, NUM_EPOCHS)
        path = f"{study / 'src'}:{variables['PYTHONPATH']}"
        done = installed_sync("--status", PYTHONPATH=path, MLFLOW_TRACKING_URI="http://mlflow.invalid")
    assert (done.returncode, done.stderr) == (0, "")
    header, row = done.stdout.splitlines()
    assert header.split() == ["run", "stage", "records", "left", "state"]
    assert row.split() == ["epochs", "epochs", str(NUM_EPOCHS + 7), "FINISHED"]
