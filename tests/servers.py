"""Real servers for tests: PostgreSQL and MLflow's own, on free ports of this machine's loopback."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
import requests

from debian import install_package

#: Seconds to wait for a server to answer; MLflow's first start on an empty database takes about ten.
START_TIMEOUT_S = 60


@dataclass(frozen=True)
class Postgres:
    """A running PostgreSQL."""

    port: int
    password: str

    @property
    def uri(self) -> str:
        """The address for SQLAlchemy, with the driver's name."""
        return f"postgresql+psycopg://mlflow:{self.password}@127.0.0.1:{self.port}/postgres"

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Returns the rows that PostgreSQL answers."""
        with psycopg.connect(self.uri.replace("+psycopg", ""), connect_timeout=20) as connection:
            return connection.execute(sql).fetchall()


@contextmanager
def start_postgres() -> Iterator[Postgres]:
    """Runs a PostgreSQL of its own data folder; as root it is installed if it is missing."""
    binaries = _find_postgres()
    # it refuses to run as root, and another user can't enter pytest's folders
    as_user = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
    folder = Path(tempfile.mkdtemp(prefix="cotejo-postgres-"))
    try:
        with _run_postgres(binaries, folder, as_user) as postgres:
            yield postgres
    finally:
        shutil.rmtree(folder)


@contextmanager
def _run_postgres(binaries: Path, folder: Path, as_user: dict[str, Any]) -> Iterator[Postgres]:
    postgres = Postgres(find_free_port(), secrets.token_hex(16))
    password, data, log = folder / "password", folder / "data", folder / "log"
    password.write_text(postgres.password)
    if as_user:
        for path in (folder, password):
            shutil.chown(path, as_user["user"], as_user["group"])
    initdb = [binaries / "initdb", "-D", data, "-U", "mlflow", "--auth=scram-sha-256", "--pwfile", password]
    subprocess.run(initdb, cwd=folder, check=True, capture_output=True, **as_user)
    command = [binaries / "postgres", "-D", data, "-p", str(postgres.port), "-k", folder, "-h", "127.0.0.1"]
    with _start(command, log, cwd=folder, **as_user) as process:
        _wait_for(lambda: bool(postgres.query("select 1")), process, log, psycopg.OperationalError)
        try:
            yield postgres
        finally:
            process.send_signal(signal.SIGINT)  # "fast": it waits for no client
            process.wait(30)


@dataclass
class MlflowServer:
    """MLflow's server, which can be killed and started again at the same address.

    Args:
        folder: Its working directory, with its log and, below `artifacts`, what is uploaded.
        store_uri: The database.
        environment: Its environment variables.
    """

    folder: Path
    store_uri: str
    environment: Mapping[str, str]

    def __post_init__(self) -> None:
        self.port = find_free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it and waits until it answers."""
        # the address of the database holds a password, which every user of the machine would see in `ps`
        quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        environment = {**self.environment, **quiet, "MLFLOW_BACKEND_STORE_URI": self.store_uri}
        command = [
            sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port),
            "--workers", "1", "--artifacts-destination", str(self.folder / "artifacts"),
        ]  # fmt: skip
        log = self.folder / "mlflow-server.log"
        self._process = _start(command, log, cwd=self.folder, env=environment, start_new_session=True)
        _wait_for(self._is_up, self._process, log, requests.RequestException)

    def kill(self) -> None:
        """Ends it and its workers with SIGKILL, in the middle of whatever they do."""
        if self._process:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def _is_up(self) -> bool:
        return requests.get(f"{self.uri}/health", timeout=2).ok


def find_free_port() -> int:
    """Returns a port of the loopback interface that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _start(command: list[Any], log: Path, **options: Any) -> subprocess.Popen[bytes]:
    with log.open("ab") as output:
        return subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, **options)


def _wait_for(
    answers: Callable[[], bool], process: subprocess.Popen[bytes], log: Path, not_yet: type[Exception]
) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if answers():
                return
        except not_yet:
            pass
        time.sleep(0.1)
    process.kill()
    pytest.fail(f"{process.args} doesn't answer. Its log:\n{log.read_text()[-3000:]}")


def _find_postgres() -> Path:
    """Returns the folder of PostgreSQL's programs."""
    if not _list_postgres():
        install_package("postgresql")
    if not (found := _list_postgres()):
        pytest.fail(
            "expected PostgreSQL's `initdb` and `postgres`, on PATH or below /usr/lib/postgresql. Received: neither. "
            "Install the package postgresql, or run this test as root on Debian: then it installs it."
        )
    return found[0]


def _list_postgres() -> list[Path]:
    on_path = shutil.which("initdb")
    # Debian keeps them off PATH, one folder per version
    programs = [Path(on_path)] if on_path else sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), reverse=True)
    return [program.parent for program in programs]
