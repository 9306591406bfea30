"""The executor on a cluster: real `dask scheduler` and `dask worker` processes, with TLS, GPU slots and cut cables."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest
from ruamel.yaml import YAML
from test_executor import DRIVER, declare_runtime, run, wait_until

import cheap_tasks
from copied_study import copy_study
from cotejo.errors import StageError
from cotejo.execution.executor import open_executor
from dask_cluster import can_make_networks, open_cluster, open_network, run_ip
from servers import find_free_port
from warm import WarmProcess
from warm_workers import start_warm_driver

#: The shortest time that dask takes for noticing a cut cable; its own value is 30 s.
QUICK = {"DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": "11s"}
#: The study's outputs without a clock in them.
EXACT = ("trials.csv", "curves.csv", "best_params.yaml", "summary.json")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return cheap_tasks.prepare_data(tmp_path_factory.mktemp("data") / "processed")


@contextmanager
def connect(address, data, gpus_per_task=0):
    with open_executor(declare_runtime(address, gpus_per_task=gpus_per_task), 1, 8, data) as executor:
        yield executor


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with open_cluster(tmp_path_factory.mktemp("cluster")) as opened:
        opened.start_scheduler(is_warm=True)
        opened.start_worker("one")
        opened.start_worker("two", is_warm=True)
        opened.wait_for_workers(2)
        yield opened


def test_a_cluster_gives_the_same_results_with_and_without_a_nanny(cluster, data):
    with connect(cluster.address, data) as executor:
        assert executor.num_workers == 2
        total = sum(range(160))
        assert run(executor, cheap_tasks.add, range(6)) == {place: total + place for place in range(6)}
        assert len(set(run(executor, cheap_tasks.tell_process, range(6)).values())) == 2


def test_two_sessions_with_different_set_ups_share_workers(cluster, data):
    found = {}

    def work(name):
        with connect(cluster.address, data) as executor:
            found[name] = run(executor, cheap_tasks.tell_process, range(4), setup=name)

    threads = [threading.Thread(target=work, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert sorted(found) == ["a", "b"]
    assert not set(found["a"].values()) & set(found["b"].values())


def test_images_are_sent_to_workers_that_have_no_such_folder(cluster, tmp_path, monkeypatch):
    data = cheap_tasks.prepare_data(tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    with connect(cluster.address, data._replace(folder="/proc/self/cwd/moved")) as executor:
        assert run(executor, cheap_tasks.add, range(4)) == {place: sum(range(160)) + place for place in range(4)}
    copies = list(cluster.folder.glob(f"local-*/**/cotejo-{data.digest[:16]}/dataset.json"))
    assert 1 <= len(copies) <= 2


@pytest.mark.parametrize("number", [pytest.param(signal.SIGTERM, marks=pytest.mark.slow), signal.SIGKILL])
def test_a_stopped_driver_has_its_tasks_stopped_and_the_workers_stay(cluster, data, tmp_path, number):
    script = tmp_path / "driver.py"
    script.write_text(DRIVER)
    driver = WarmProcess([str(script), str(tmp_path), cluster.address], tmp_path, cluster.environment)
    notes = wait_until(lambda: [path.name for path in tmp_path.glob("*-*")][1:] and list(tmp_path.glob("*-*")))
    trainers = [int(path.name.split("-")[0]) for path in notes]
    driver.send_signal(number)
    said = driver.communicate()[1]
    assert said == ""
    wait_until(lambda: not [pid for pid in trainers if os.path.exists(f"/proc/{pid}")])  # noqa: PTH110
    with connect(cluster.address, data) as executor:
        assert run(executor, cheap_tasks.add, [0]) == {0: sum(range(160))}


@pytest.fixture
def short_wait(monkeypatch):
    """How long nobody has to answer, until it's said that nobody does."""
    monkeypatch.setattr("cotejo.execution.clients.CONNECT_TIMEOUT_S", 2)


def test_a_scheduler_that_is_not_there_is_said_in_one_line(data, short_wait):
    address = f"tcp://127.0.0.1:{find_free_port()}"
    expected = f"expected a dask scheduler at runtime.scheduler.*{address}"
    with pytest.raises(StageError, match=expected) as error, connect(address, data):
        pass
    assert "\n" not in str(error.value)


def test_a_scheduler_that_goes_away_is_said_in_one_line(data, tmp_path):
    with open_cluster(tmp_path) as cluster:
        cluster.start_scheduler(is_warm=True)
        cluster.start_worker("one", is_warm=True)
        cluster.wait_for_workers(1)
        with (
            connect(cluster.address, data) as executor,
            pytest.raises(StageError, match="expected the scheduler to stay") as error,
        ):
            run(executor, cheap_tasks.sleep, [(60, str(tmp_path))], on_report=lambda *_: cluster.kill("scheduler"))
    assert "\n" not in str(error.value)


def test_a_cluster_without_workers_says_that_it_waits_and_continues_when_one_comes(data, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("cotejo.execution.executor.DROUGHT_S", 1.0)
    with open_cluster(tmp_path) as cluster:
        cluster.start_scheduler(is_warm=True)
        threading.Timer(4, cluster.start_worker, ["late", "--resources", "GPU=1"], {"is_warm": True}).start()
        with connect(cluster.address, data, gpus_per_task=1) as executor:
            assert run(executor, cheap_tasks.add, [0]) == {0: sum(range(160))}
    said = f"waiting for workers with --resources GPU=1: {cluster.address} has none\n"
    assert capsys.readouterr().err == said


def test_a_task_takes_gpu_slots(data, tmp_path):
    with open_cluster(tmp_path) as cluster:
        cluster.start_scheduler(is_warm=True)
        cluster.start_worker("with", "--resources", "GPU=1", is_warm=True)
        cluster.start_worker("without", is_warm=True)
        cluster.wait_for_workers(2)
        with connect(cluster.address, data, gpus_per_task=1) as executor:
            assert executor.num_workers == 1
            assert len(set(run(executor, cheap_tasks.tell_process, range(4)).values())) == 1


@pytest.fixture
def certificates(tmp_path):
    """A certificate that is its own authority, by openssl, as docs/cluster.md says."""
    certificate, key = tmp_path / "cluster.crt", tmp_path / "cluster.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=cotejo",
         "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    roles = ("SCHEDULER", "WORKER", "CLIENT")
    pairs = {"CERT": certificate, "KEY": key}
    return {
        "DASK_DISTRIBUTED__COMM__TLS__CA_FILE": str(certificate),
        "DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION": "true",
        **{f"DASK_DISTRIBUTED__COMM__TLS__{role}__{name}": str(path) for role in roles for name, path in pairs.items()},
    }


@pytest.mark.slow
def test_tls_takes_its_certificates_from_dasks_configuration(certificates, data, tmp_path, short_wait):
    script = tmp_path / "driver.py"
    script.write_text(DRIVER.replace("(600,", "(0,"))
    with open_cluster(tmp_path / "cluster", variables=certificates, scheme="tls") as cluster:
        cluster.start_scheduler()
        cluster.start_worker("one")
        command = [sys.executable, str(script), str(tmp_path), cluster.address]
        done = subprocess.run(command, env=cluster.environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        with pytest.raises(StageError, match="expected a dask scheduler"), connect(cluster.address, data):
            pass  # without certificates nobody is let in


def declare_scheduler(folder, scheduler):
    params = folder / "params.yaml"
    params.write_text(params.read_text().replace("scheduler: local ", f"scheduler: {scheduler} "))


def search(folder, environment, scheduler):
    """Runs the search stage in a study's folder, as a warm driver; returns what it has written."""
    declare_scheduler(folder, scheduler)
    with (folder / "said.log").open("w") as log:
        process = start_warm_driver(folder, environment, log, "stages/search.py", "lenet")
    assert process.wait(timeout=500) == 0, (folder / "said.log").read_text()
    return read_exact(folder)


def read_exact(folder):
    return {name: (folder / "reports/search" / name).read_bytes() for name in EXACT}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, environment):
    """A study on bundled digits that is ready to be searched, and what its search on this machine alone finds."""
    folder = copy_study(tmp_path_factory.mktemp("studies") / "local")
    params, yaml = folder / "params.yaml", YAML()
    declared = yaml.load(params)
    declared["data"]["name"] = "digits"
    declared["transfer"]["weights"] = "random"
    declared["search"].update(num_trials=6, parallel_trials=3, confirm_seeds=[5, 6])
    # of few layers: building TensorFlow's graph takes longer than the training
    declared["lenet"].update(epochs=4, architecture="basic_cnn", input_size=10)
    declared["runtime"].update(tracking="off", workers=1)
    yaml.dump(declared, params)
    variables = {**environment, "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    for stage in ("download", "preprocess"):
        process = WarmProcess([f"stages/{stage}.py"], folder, variables)
        printed = process.communicate()
        assert process.returncode == 0, printed
    subprocess.run(["cp", "-r", folder, f"{folder}-ready"], check=True)
    return folder.with_name("local-ready"), variables, search(folder, variables, "local")


def copy_ready(ready, target):
    subprocess.run(["cp", "-r", ready, target], check=True)
    return target


@pytest.mark.slow
def test_a_cluster_of_two_workers_finds_the_same_study(prepared, cluster, tmp_path):
    ready, environment, expected = prepared
    assert search(copy_ready(ready, tmp_path / "study"), environment, cluster.address) == expected


@pytest.mark.slow
def test_a_host_that_is_cut_off_in_the_middle_changes_nothing(prepared, tmp_path):
    if not can_make_networks():
        pytest.skip("network namespaces are refused here; the kills of workers in test_executor.py remain")
    ready, environment, expected = prepared
    folder = copy_ready(ready, tmp_path / "study")
    (tmp_path / "cluster").mkdir()
    with (
        open_network("head", "left", "right") as on,
        open_cluster(tmp_path / "cluster", variables=QUICK, host="10.203.0.1") as cluster,
    ):
        cluster.start_scheduler(prefix=on["head"])
        for host in ("left", "right"):
            cluster.start_worker(host, prefix=on[host])
        declare_scheduler(folder, cluster.address)
        command = [*on["head"], sys.executable, "stages/search.py", "lenet"]
        driver = subprocess.Popen(command, cwd=folder, env={**environment, **QUICK}, stderr=subprocess.PIPE, text=True)
        checkpoints = folder / ".cotejo/checkpoints"
        wait_until(lambda: driver.poll() or len(list(checkpoints.glob("search-*/trial-*/*"))) >= 2)
        assert driver.poll() is None, driver.communicate()[1] + cluster.read_logs()
        head = on["head"][-1]
        run_ip("-n", head, "link", "set", "right", "down")
        time.sleep(25)
        run_ip("-n", head, "link", "set", "right", "up")
        said = driver.communicate(timeout=500)[1]
        assert driver.returncode == 0, said
        assert "Remove worker addr: tcp://10.203.0.3" in cluster.read_logs()
    assert read_exact(folder) == expected
