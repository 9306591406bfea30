"""Python processes that begin with TensorFlow and MLflow imported, which costs a new interpreter six seconds.

They are forked from a server that has imported them once (multiprocessing's forkserver). Each is a process of its own,
with its own environment, folder and streams, that signals and kills reach as they reach any other. Nothing of Cotejo
has been imported in it: that comes from the study's folder. What reads the environment or Keras's settings while
TensorFlow is imported has done so; a test of that needs an interpreter of its own.
"""

import atexit
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import IO, Any

TESTS = Path(__file__).parent
# for the server, which imports what reads them; Cotejo sets the same, and isn't to be imported here
os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
CONTEXT = multiprocessing.get_context("forkserver")
#: What a stage imports that isn't Cotejo's and takes its time; MLflow imports the second line only to open a database.
CONTEXT.set_forkserver_preload([
    "tensorflow", "keras", "mlflow", "sklearn.metrics", "pandas", "optuna", "distributed", "ruamel.yaml", "filelock",
    "mlflow.store.tracking.sqlalchemy_workspace_store", "alembic.command", "alembic.migration",
])  # fmt: skip


class WarmProcess:
    """A running script, with those attributes of `subprocess.Popen` that the tests use.

    Args:
        command: A script and its arguments.
        cwd: The folder in which it runs.
        env: Its environment, all of it.
        log: Where to write what it prints; else its stdout and stderr can be read from `stdout` and `stderr`.
    """

    def __init__(self, command: Sequence[str], cwd: Path, env: Mapping[str, str], log: IO[str] | None = None) -> None:
        self.args = list(command)
        pipes = [] if log else [os.pipe(), os.pipe()]
        streams = [log.fileno()] * 2 if log else [writer for _, writer in pipes]
        self.stdout, self.stderr = [open(reader) for reader, _ in pipes] or [None, None]  # noqa: SIM115, PTH123
        sent = map(_Descriptor, streams)
        self._process = CONTEXT.Process(target=_run_script, args=(self.args, str(cwd), dict(env), *sent))
        self._process.start()
        for _, writer in pipes:
            os.close(writer)

    @property
    def pid(self) -> int:
        """Its number."""
        return int(self._process.pid or 0)

    @property
    def returncode(self) -> int | None:
        """Its exit code, or the negative number of the signal that ended it; None while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """Returns its exit code, None while it runs."""
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Waits for its end; returns its exit code."""
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(self.args, float(timeout or 0))
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str | None, ...]:
        """Waits for its end; returns what was still to be read of stdout and stderr, and closes them."""
        streams = [stream if stream and not stream.closed else None for stream in (self.stdout, self.stderr)]
        with ThreadPoolExecutor(2) as readers:
            reads = [readers.submit(stream.read) if stream else None for stream in streams]
            self.wait(timeout)
            texts = tuple(read.result() if read else None for read in reads)
        for stream in filter(None, streams):
            stream.close()
        return texts

    def send_signal(self, number: int) -> None:
        """Sends a signal, if it runs."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Ends it at once."""
        self.send_signal(signal.SIGKILL)


class _Descriptor:
    """A descriptor of a file, which the process gets as it is forked: a kill leaves none behind that is still open."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> tuple[Any, ...]:
        return _receive, (DupFd(self.number),)


def _receive(sent: Any) -> int:
    return int(sent.detach())


def _run_script(args: list[str], cwd: str, env: dict[str, str], stdout: int, stderr: int) -> None:
    """Does what `python SCRIPT ...` does, in a process that was forked."""
    for number, descriptor in enumerate((stdout, stderr), 1):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    added = filter(None, env.get("PYTHONPATH", "").split(os.pathsep))
    installed = [path for path in sys.path if path and not Path(path).is_relative_to(TESTS)]
    sys.path[:] = [str(Path(args[0]).absolute().parent), *added, *installed]
    sys.argv[:] = args
    try:
        runpy.run_path(args[0], run_name="__main__")
    finally:
        # multiprocessing leaves them out
        atexit._run_exitfuncs()
