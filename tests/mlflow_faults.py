"""Ways in which MLflow can't be had, as real servers and files: for tests and benchmarks/outages.py."""

import contextlib
import http.server
import json
import socket
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:  # it prepares to import TensorFlow, which benchmarks/outages.py needn't
    from warm import WarmProcess

#: A study's root -> the environment variables of a process that meets the fault there.
Fault = Callable[[Path], AbstractContextManager[dict[str, str]]]


@contextmanager
def none(root: Path) -> Iterator[dict[str, str]]:
    """A SQLite database that works."""
    yield {}


@contextmanager
def absent(root: Path) -> Iterator[dict[str, str]]:
    """The package isn't there."""
    folder = root / "without-mlflow"
    folder.mkdir()
    (folder / "mlflow.py").write_text("raise ModuleNotFoundError(\"No module named 'mlflow'\")\n")
    yield {"PYTHONPATH": str(folder)}


@contextmanager
def refusing(root: Path) -> Iterator[dict[str, str]]:
    """Nothing listens where the server should be."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    yield {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{port}"}


@contextmanager
def hanging(root: Path) -> Iterator[dict[str, str]]:
    """The server accepts connections and never answers."""
    held: list[socket.socket] = []

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                held.append(server.accept()[0])

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=accept, daemon=True).start()
        yield {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{server.getsockname()[1]}"}
        server.shutdown(socket.SHUT_RDWR)
    for connection in held:
        connection.close()


@contextmanager
def failing(root: Path) -> Iterator[dict[str, str]]:
    """The server answers every request with 500."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(500)

        do_POST = do_GET  # noqa: N815 - the library's name

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{server.server_port}"}
        server.shutdown()


@contextmanager
def locked(root: Path, after_s: float = 0.0) -> Iterator[dict[str, str]]:
    """Another program holds the database's lock, from the beginning or after some seconds."""
    over = threading.Event()

    def hold() -> None:
        time.sleep(after_s)
        with contextlib.closing(sqlite3.connect(root / "mlflow.db", timeout=60)) as database:
            database.execute("BEGIN EXCLUSIVE")
            over.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    time.sleep(0.2 if not after_s else 0)
    yield {}
    over.set()
    holder.join()


@contextmanager
def lost(root: Path) -> Iterator[dict[str, str]]:
    """The database works at first, and is locked in the middle of the run."""
    with locked(root, after_s=5.0) as environment:
        yield environment


@contextmanager
def read_only(root: Path) -> Iterator[dict[str, str]]:
    """The database may be read and not written to."""
    yield {"MLFLOW_TRACKING_URI": f"sqlite:///file:{root / 'mlflow.db'}?mode=ro&uri=true"}


#: What happens to MLflow, in the words of the table; the first is no fault.
FAULTS: dict[str, Fault] = {
    "none": none,
    "package absent": absent,
    "connection refused": refusing,
    "no answer": hanging,
    "answers 500": failing,
    "database locked": locked,
    "database read-only": read_only,
    "gone in the middle": lost,
}

#: Rows of the matrices: a product takes milliseconds without Python, as some steps of a training do.
SIZE = 768
#: A stage of which each epoch multiplies matrices, or sleeps, for a while.
STAGE = """
    import json, sys, time
    import numpy as np
    import _source
    from cotejo.stage import Stage, run_stage

    SIZE, NUM_EPOCHS, SLEEP_S, NUM_PRODUCTS = json.loads(sys.argv[1])

    def body(stage: Stage) -> None:
        matrix = np.ones((SIZE, SIZE)) / SIZE
        began_s = time.perf_counter()
        for epoch in range(1, NUM_EPOCHS + 1):
            time.sleep(SLEEP_S)
            for _ in range(NUM_PRODUCTS):
                matrix = matrix @ matrix
            stage.run.log_metrics({"loss": 1 / epoch}, step=epoch)
            stage.run.flush()
        ended_s = time.perf_counter()
        print(json.dumps([ended_s - began_s, time.time()]), flush=True)

    if __name__ == "__main__":
        run_stage(body, "epochs", sections=("base",))
"""


class Ended(NamedTuple):
    """How a stage ended: its exit code, what it said, the seconds of its epochs and those from the last to its exit."""

    code: int
    stderr: str
    epochs_s: float
    end_s: float


def start_epochs(
    study: Path, environment: dict[str, str], num_epochs: int, *, sleep_s: float = 0.0, num_products: int = 0
) -> subprocess.Popen[str]:
    """Starts a stage of simulated epochs in a copy of the study."""
    return subprocess.Popen(
        [sys.executable, *write_epochs(study, num_epochs, sleep_s=sleep_s, num_products=num_products)],
        cwd=study, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def write_epochs(study: Path, num_epochs: int, *, sleep_s: float = 0.0, num_products: int = 0) -> list[str]:
    """Writes the script of a stage of simulated epochs; returns it and its arguments."""
    script = study / "stages/epochs.py"
    script.write_text(textwrap.dedent(STAGE))
    return [str(script), json.dumps([SIZE, num_epochs, sleep_s, num_products])]


def wait_for_end(process: "subprocess.Popen[str] | WarmProcess") -> Ended:
    """Waits for a stage of simulated epochs."""
    stdout, stderr = process.communicate()
    exited_s = time.time()
    if not stdout:
        raise RuntimeError(stderr)
    epochs_s, last_s = json.loads(stdout)
    return Ended(process.returncode, stderr, epochs_s, exited_s - last_s)
