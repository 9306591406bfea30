"""A dask worker's preload (see `warm_workers.py`): the worker forks its trainers, and starts no new interpreters.

A trainer thus has what the worker has imported, TensorFlow as well. It's the worker's child as ever, and it is stopped,
killed and explained as ever; only what `subprocess.Popen` does for a worker is done here.
"""

import gc
import os
import signal
import subprocess
import time
import traceback
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import IO, Any

from cotejo.execution import trainer, worker


class ForkedTrainer:
    """A running trainer, with those attributes of `subprocess.Popen` that a worker uses."""

    def __init__(
        self, args: Sequence[str], *, pass_fds: Sequence[int], stdout: IO[bytes], env: Mapping[str, str], **_: Any
    ) -> None:
        self.args = args
        self.returncode: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            _become_trainer(pass_fds[0], stdout.fileno(), env)

    def poll(self) -> int | None:
        """Returns its exit code, None while it runs."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def wait(self, timeout: float = 60.0) -> int:
        """Waits for its end; returns its exit code."""
        deadline = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(self.args, timeout)
            time.sleep(0.005)
        return code

    def kill(self) -> None:
        """Ends it at once."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)


def _become_trainer(pipe: int, log: int, env: Mapping[str, str]) -> None:
    """Does what `python -c START` does; never returns."""
    try:
        gc.freeze()  # objects of the worker would close descriptors that aren't theirs any more
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        for number, source in enumerate((os.open(os.devnull, os.O_RDONLY), log, log)):
            os.dup2(source, number)
        # the worker's connections are to end with it
        os.closerange(3, pipe)
        os.closerange(pipe + 1, os.sysconf("SC_OPEN_MAX"))
        os.environ.clear()
        os.environ.update(env)
        trainer.main(pipe)
    except BaseException:  # noqa: BLE001 - nothing of it is the worker's
        traceback.print_exc()
    finally:
        os._exit(1)


worker.subprocess = SimpleNamespace(
    Popen=ForkedTrainer, DEVNULL=subprocess.DEVNULL, TimeoutExpired=subprocess.TimeoutExpired
)
