"""Real `dask scheduler` and `dask worker` processes, also on hosts of their own: network namespaces with a bridge."""

import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

from distributed import Client

from servers import find_free_port
from warm import WarmProcess
from warm_workers import PRELOAD

DASK = str(Path(sys.executable).with_name("dask"))
START_TIMEOUT_S = 60


class Cluster:
    """A scheduler and its workers.

    Args:
        folder: For their logs and local folders.
        variables: What their environment has beside this process's.
        host: The scheduler's address.
        scheme: `tcp` or `tls`.
    """

    def __init__(self, folder, variables=None, host="127.0.0.1", scheme="tcp"):
        self.folder = folder
        self.environment = {
            **os.environ, **(variables or {}), "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        }  # fmt: skip
        self.port = find_free_port()
        self.host = host
        self.address = f"{scheme}://{host}:{self.port}"
        self.processes = {}

    def start_scheduler(self, *options, prefix=(), is_warm=False):
        self.start(
            "scheduler", *prefix, DASK, "scheduler", "--protocol", self.address.partition(":")[0], "--host", self.host,
            "--port", str(self.port), "--dashboard-address", "127.0.0.1:0", *options, is_warm=is_warm,
        )  # fmt: skip

    def start_worker(self, name, *options, prefix=(), is_warm=False):
        """Starts a worker; a warm one has no nanny, and forks its trainers."""
        local = self.folder / f"local-{name}"
        if is_warm:
            options = (*options, "--no-nanny", "--preload", PRELOAD)
        self.start(
            name, *prefix, DASK, "worker", self.address, "--nthreads", "1", "--name", name, "--local-directory",
            str(local), "--dashboard-address", "127.0.0.1:0", *options, is_warm=is_warm,
        )  # fmt: skip

    def start(self, name, *command, is_warm=False):
        """Starts a command; warm, it takes its settings of dask from no variable: dask has been imported before."""
        with (self.folder / f"{name}.log").open("ab") as log:
            if is_warm:
                self.processes[name] = WarmProcess(command, self.folder, self.environment, log)
                return
            self.processes[name] = subprocess.Popen(
                command, env=self.environment, cwd=self.folder, stdout=log, stderr=log, start_new_session=True
            )

    def kill(self, name):
        """Ends a process and all that it has started, at once."""
        process = self.processes.pop(name)
        if isinstance(process, WarmProcess):
            process.kill()  # its trainer ends with it
        else:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def stop(self):
        for name in reversed(list(self.processes)):
            self.kill(name)

    def wait_for_workers(self, count, security=None):
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            try:
                with Client(self.address, timeout=5, security=security, set_as_default=False) as client:
                    client.wait_for_workers(count, timeout=START_TIMEOUT_S)
                    return
            except OSError:
                time.sleep(0.2)
        raise TimeoutError(self.read_logs())

    def read_logs(self):
        return "\n".join(path.read_text() for path in self.folder.glob("*.log"))


@contextmanager
def open_cluster(folder, **options):
    folder.mkdir(parents=True, exist_ok=True)
    cluster = Cluster(folder, **options)
    try:
        yield cluster
    finally:
        cluster.stop()


@contextmanager
def open_network(*hosts):
    """Gives each host a network namespace, joined by a bridge in the first one's; returns how to run a command there.

    The first host has 10.203.0.1, the next 10.203.0.2, and so on; the first one's end of a host's cable has its name.
    """
    tag = f"cotejo{os.getpid()}"
    head = f"{tag}-{hosts[0]}"
    with ExitStack() as stack:
        for host in hosts:
            run_ip("netns", "add", f"{tag}-{host}")
            stack.callback(run_ip, "netns", "del", f"{tag}-{host}")
            run_ip("-n", f"{tag}-{host}", "link", "set", "lo", "up")
        run_ip("-n", head, "link", "add", "bridge", "type", "bridge")
        run_ip("-n", head, "addr", "add", "10.203.0.1/24", "dev", "bridge")
        run_ip("-n", head, "link", "set", "bridge", "up")
        for number, host in enumerate(hosts[1:], 2):
            name = f"{tag}-{host}"
            run_ip("-n", head, "link", "add", host, "type", "veth", "peer", "name", "eth0", "netns", name)
            run_ip("-n", head, "link", "set", host, "master", "bridge", "up")
            run_ip("-n", name, "addr", "add", f"10.203.0.{number}/24", "dev", "eth0")
            run_ip("-n", name, "link", "set", "eth0", "up")
        yield {host: ("ip", "netns", "exec", f"{tag}-{host}") for host in hosts}


def run_ip(*arguments):
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


def can_make_networks():
    """Whether this user may make network namespaces; root in most places, nobody in some containers."""
    try:
        with open_network("probe"):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False
