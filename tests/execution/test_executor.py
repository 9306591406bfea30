"""The executor on this machine: real workers, cheap tasks, and processes that die."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

import cheap_tasks
from cotejo.errors import StageError
from cotejo.execution import executor as module
from cotejo.execution.executor import Died, count_workers, open_executor
from cotejo.schema.study import Runtime
from warm_workers import fork_workers

TESTS = Path(cheap_tasks.__file__).parent
#: A driver of its own, to be stopped: sleeps for ten minutes on two workers, unless it is told to stop.
DRIVER = """
import signal, sys
from pathlib import Path
import cheap_tasks
from test_executor import declare_runtime
from cotejo.execution.executor import open_executor

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = Path(sys.argv[1])
    data = cheap_tasks.prepare_data(folder / "data")
    with open_executor(declare_runtime(*sys.argv[2:]), 1, 2, data) as executor:
        for _ in executor.run(cheap_tasks.sleep, [(600, sys.argv[1])] * 2, None, print):
            pass
"""


def declare_runtime(scheduler="local", workers=2, gpus_per_task=0, memory_limit=None):
    return Runtime(
        download_timeout_s=5, workers=workers, scheduler=scheduler, gpus_per_task=gpus_per_task,
        memory_limit=memory_limit, tracking="off", tracking_timeout_s=5,
    )  # fmt: skip


def run(executor, function, tasks, setup=None, on_report=lambda place, report: None):
    return dict(executor.run(function, tasks, setup, on_report))


def wait_until(is_so):
    while not (found := is_so()):
        time.sleep(0.05)
    return found


def list_processes(pid):
    return psutil.Process(pid).children(recursive=True)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return cheap_tasks.prepare_data(tmp_path_factory.mktemp("data") / "processed")


@pytest.fixture(scope="module")
def executor(data):
    with fork_workers(), open_executor(declare_runtime(), 1, 8, data) as opened:
        yield opened


@pytest.fixture(scope="module")
def executor_of_interpreters(data):
    with open_executor(declare_runtime(), 1, 8, data) as opened:
        yield opened


def test_results_have_their_places_and_reports_their_order(executor):
    reports = []
    found = run(executor, cheap_tasks.add, range(6), on_report=lambda place, report: reports.append((place, report)))
    total = sum(range(160))
    assert found == {place: total + place for place in range(6)}
    for place in range(6):
        assert [report["step"] for of, report in reports if of == place] == [0, 1, 2]


def test_both_workers_work(executor):
    assert executor.num_workers == 2
    assert len(set(run(executor, cheap_tasks.tell_process, range(6)).values())) == 2


def test_a_trainer_is_kept_for_the_next_batch_and_replaced_for_another_set_up(executor):
    first = set(run(executor, cheap_tasks.tell_process, range(4), setup="a").values())
    again = set(run(executor, cheap_tasks.tell_process, range(4), setup="a").values())
    other = set(run(executor, cheap_tasks.tell_process, range(4), setup="b").values())
    assert first == again
    assert not first & other
    assert not [pid for pid in first if psutil.pid_exists(pid)]


def test_a_trainer_that_has_grown_by_more_than_a_gibibyte_is_replaced(data):
    with fork_workers(), open_executor(declare_runtime(workers=1), 1, 1, data) as alone:
        sizes = [0, 2**29, 2**28, 2**29, 0]  # all are kept, so the fourth is one too many
        found = [run(alone, cheap_tasks.grow, [size])[0] for size in sizes]
    assert found[0] == found[1] == found[2] == found[3] != found[4]


def test_a_task_that_its_processes_die_with_is_done_anew(executor, tmp_path):
    assert run(executor, cheap_tasks.die, [(4, str(tmp_path))]) == {0: "lived"}


def test_a_task_that_five_processes_died_with_is_given_up_and_the_others_end(executor, tmp_path):
    found = run(executor, cheap_tasks.die, [(5, str(tmp_path)), (0, str(tmp_path))])
    assert found[0] == Died("5 processes died with it, the last: killed by SIGKILL")
    assert found[1] == "lived"


@pytest.mark.parametrize("victim", ["trainer", "worker"])
@pytest.mark.parametrize("kind", ["executor", pytest.param("executor_of_interpreters", marks=pytest.mark.slow)])
def test_whoever_is_killed_the_result_is_the_same(request, tmp_path, kind, victim):
    executor = request.getfixturevalue(kind)
    killed = []

    def kill(place, report):
        if not killed:
            name = wait_until(lambda: [path.name for path in tmp_path.iterdir()])[0]
            killed.append(dict(zip(("trainer", "worker"), map(int, name.split("-")), strict=False))[victim])
            os.kill(killed[0], signal.SIGKILL)

    assert run(executor, cheap_tasks.sleep, [(1.0, str(tmp_path)), (1.1, str(tmp_path))], on_report=kill) == {
        0: 1.0,
        1: 1.1,
    }
    assert not psutil.pid_exists(killed[0])
    assert len(list(tmp_path.iterdir())) >= 3


def test_a_fault_of_the_task_is_raised_with_the_workers_traceback(executor):
    with pytest.raises(ZeroDivisionError, match="the task's own") as error:
        run(executor, cheap_tasks.fail, [0])
    assert "cheap_tasks.py" in error.value.__notes__[0]


def test_another_source_is_refused_in_one_line(executor, monkeypatch):
    monkeypatch.setattr(module, "describe_code", lambda: "cotejo 9, source 123456")
    with pytest.raises(StageError, match="expected every worker to have the same Cotejo") as error:
        run(executor, cheap_tasks.add, [0])
    assert re.search(r"source [0-9a-f]{12} at tls://.*cotejo 9, source 123456 here\. Install", str(error.value))
    assert "\n" not in str(error.value)


def test_images_that_a_worker_cannot_find_are_sent_to_it_once(executor, data, tmp_path, monkeypatch):
    moved = cheap_tasks.prepare_data(tmp_path / "moved")
    monkeypatch.chdir(tmp_path)  # a folder that is there for this process only
    monkeypatch.setattr(executor, "data", moved._replace(folder="/proc/self/cwd/moved"))
    sent = []
    send = executor._send_data
    monkeypatch.setattr(executor, "_send_data", lambda address: (sent.append(address), send(address)))
    for _ in range(2):
        assert run(executor, cheap_tasks.add, range(4)) == {place: sum(range(160)) + place for place in range(4)}
    assert len(set(sent)) == len(sent)
    assert 1 <= len(sent) <= 2


def test_nothing_listens_beyond_loopback(executor):
    own = {process.pid for process in [psutil.Process(), *psutil.Process().children(recursive=True)]}
    addresses = {
        connection.laddr.ip
        for connection in psutil.net_connections("inet")
        if connection.pid in own and connection.status == psutil.CONN_LISTEN
    }
    assert addresses == {"127.0.0.1"}


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGKILL, marks=pytest.mark.slow)])
def test_a_driver_that_is_stopped_leaves_no_process(tmp_path, number):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [*sys.path, str(Path(__file__).parent)]))}
    script = tmp_path / "driver.py"
    script.write_text(DRIVER)
    with subprocess.Popen(
        [sys.executable, str(script), str(tmp_path)], env=environment, stderr=subprocess.PIPE, text=True,
        stdout=subprocess.DEVNULL,
    ) as driver:  # fmt: skip
        wait_until(lambda: len(list(tmp_path.glob("*-*"))) == 2)
        started = list_processes(driver.pid)
        assert len(started) >= 5  # two workers, two trainers, multiprocessing's tracker
        driver.send_signal(number)
        said = driver.communicate()[1]
        psutil.wait_procs(started)
    assert driver.returncode == (143 if number == signal.SIGTERM else -number)
    if number == signal.SIGTERM:  # Python's own has a word to say of what was killed
        assert said == ""


def test_a_machine_with_little_memory_gets_one_worker(monkeypatch):
    monkeypatch.setattr(module, "MEMORY_LIMIT", 2**30)
    assert count_workers(declare_runtime(workers=0), 1, 8) == 1
    assert count_workers(declare_runtime(workers=3), 1, 8) == 3
    assert count_workers(declare_runtime(workers=3), 1, 2) == 2


def test_a_declared_memory_limit_bounds_the_workers_also_where_more_are_declared():
    for limit, most in {1_500_000_000: 1, 3 * 10**9: 1, 4 * 10**9: 2, 8 * 10**9: 4, None: 6}.items():
        assert count_workers(declare_runtime(workers=6, memory_limit=limit), 1, 8) == most


def test_workers_share_the_memory_that_the_driver_leaves(data):
    limit = 4_000_000_000
    with fork_workers(), open_executor(declare_runtime(workers=2, memory_limit=limit), 1, 2, data) as shared:
        assert limit / 3 < shared.memory_bytes < limit / 2
    with fork_workers(), open_executor(declare_runtime(workers=2), 1, 2, data) as unlimited:
        assert unlimited.memory_bytes is None


def test_cores_decide_where_there_is_memory(monkeypatch):
    monkeypatch.setattr(module, "CPU_COUNT", 8)
    monkeypatch.setattr(module, "WORKER_BYTES", 1)
    assert count_workers(declare_runtime(workers=0), 1, 100) == 8
    assert count_workers(declare_runtime(workers=0), 2, 100) == 4
    assert count_workers(declare_runtime(workers=0), 16, 100) == 1
