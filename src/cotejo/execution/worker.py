"""Runs a dask worker's tasks in a trainer, a process of its own.

Each guarantee of a worker needs that process, since nothing of dask (2026) keeps it:

- The worker answers its scheduler whatever is trained: it imports no TensorFlow, which would hold the interpreter.
- A task that isn't wanted any more is stopped at once: dask can't interrupt a thread.
- TensorFlow is configured once in a process, and each session has its own threads and precision: a `WorkerPlugin` would
  configure the worker for all sessions that share it.
- Another version of Cotejo is refused before anything of the task is unpickled.
- What died with a task is known: where a nanny restarts a worker, dask suspects every task that waited there.
- Memory that has grown is given back between two tasks: a nanny would restart the worker, with the tasks of others.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from multiprocessing import Pipe
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import psutil
from distributed import Worker, get_worker
from distributed.core import Status

from cotejo.execution.messages import DATA_FILES, DIED, REFUSED, REPORT, SEND_DATA, UNWANTED, Order, PreparedData, Reply

#: What a trainer may grow by before it is started anew: each training leaves some 15 MB behind in TensorFlow.
MOST_GROWTH_BYTES = 2**30
#: Seconds between two looks at whether a task is still wanted.
LOOK_INTERVAL_S = 0.5
#: Seconds after which a trainer without work gives its memory back; longer than a driver thinks between two batches.
IDLE_S = 60.0
#: Seconds within which a trainer whose pipe has closed must be gone.
DEATH_S = 5.0
START = "import sys; from cotejo.execution.trainer import main; main(int(sys.argv[1]))"
#: As dask's nannies set them, so that a worker with a nanny and one without do the same.
THREADS = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


class _Unwanted(Exception):  # noqa: N818 - no error
    """The task was cancelled, or its scheduler has gone."""


class _Trainer:
    """A process that does tasks, one after the other."""

    def __init__(self, order: Order) -> None:
        self.key = (order.setup, order.code, order.data.digest)
        self.first_memory: int | None = None
        self.num_tasks = 0
        self.log = TemporaryFile()  # noqa: SIM115 - closed in stop()
        self.pipe, theirs = Pipe()
        environment = {**os.environ, **THREADS, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-c", START, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self.log,
                stderr=self.log,
                env=environment,
            )

    def has_grown(self) -> bool:
        """Returns whether it takes much more memory than after its first task."""
        try:
            memory = psutil.Process(self.process.pid).memory_full_info().uss
        except psutil.Error:
            return True
        self.first_memory = self.first_memory or memory
        return bool(memory - self.first_memory > MOST_GROWTH_BYTES)

    def stop(self) -> None:
        """Ends it at once; what it has checkpointed stays."""
        self.process.kill()
        self.process.wait()
        self.pipe.close()
        self.log.close()

    def explain_death(self) -> tuple[str, bool]:
        """Returns how it died, and whether somebody killed it."""
        try:
            code = self.process.wait(DEATH_S)
        except subprocess.TimeoutExpired:
            self.process.kill()  # it lives, and the pipe to it is broken
            code = self.process.wait()
        if code < 0:
            return f"killed by {signal.Signals(-code).name}", True
        self.log.seek(0)
        said = self.log.read().decode(errors="replace").strip().splitlines()
        return ": ".join([f"exit code {code}", *said[-1:]]), False


#: Trainers of this worker that have nothing to do; one that has is its thread's.
_idle: list[_Trainer] = []
_lock = threading.Lock()


def work(order: Order) -> Reply:
    """Runs a task."""
    worker = get_worker()
    key = worker.get_current_task()
    if (folder := _find_folder(order.data, worker)) is None:
        return Reply(SEND_DATA, address=worker.address)
    worker.log_event(order.topic, (order.token, None))
    try:
        trainer = _take_trainer(order)
    except OSError as error:  # no process, no space for its log
        return Reply(DIED, reason=f"no trainer can be started: {error}", address=worker.address)
    is_well = False
    try:
        if not (answer := _greet(trainer, order, worker, key)):
            answer = _train(trainer, order, folder, worker, key)
            is_well = not trainer.has_grown()
    except (EOFError, OSError):
        return Reply(DIED, reason=trainer.explain_death()[0], address=worker.address)
    except _Unwanted:
        return Reply(UNWANTED)
    finally:
        if is_well:
            _leave_idle(trainer)
        else:
            trainer.stop()
    return answer


def store_data(files: Mapping[str, bytes], digest: str, dask_worker: Worker) -> None:
    """Keeps images beside a worker that can't reach the driver's folder."""
    folder = _name_copy(digest, dask_worker)
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():  # dataset.json is the last one: with it they are complete
        (folder / name).write_bytes(content)


def _name_copy(digest: str, worker: Worker) -> Path:
    return Path(worker.local_directory) / f"cotejo-{digest[:16]}"


def _find_folder(data: PreparedData, worker: Worker) -> str | None:
    """Returns the folder with these very images on this machine."""
    for folder in (Path(data.folder), _name_copy(data.digest, worker)):
        try:
            described = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
            if described["digest"] == data.digest and all((folder / name).exists() for name in DATA_FILES):
                return str(folder)
        except (OSError, ValueError, LookupError, TypeError):
            continue
    return None


def _take_trainer(order: Order) -> _Trainer:
    """Returns an idle trainer with the same set-up and code; stops another one for each that is started anew."""
    with _lock:
        key = (order.setup, order.code, order.data.digest)
        fitting = [trainer for trainer in _idle if trainer.key == key]
        taken = next(iter(fitting or _idle), None)
        if taken is not None:
            _idle.remove(taken)
    if taken is None:
        return _Trainer(order)
    if taken in fitting and taken.process.poll() is None:
        return taken
    taken.stop()
    return _Trainer(order)


def _leave_idle(trainer: _Trainer) -> None:
    def stop() -> None:
        with _lock:
            if trainer not in _idle or trainer.num_tasks != num_tasks:  # it has been taken meanwhile
                return
            _idle.remove(trainer)
        trainer.stop()

    num_tasks = trainer.num_tasks
    with _lock:
        _idle.append(trainer)
    timer = threading.Timer(IDLE_S, stop)
    timer.daemon = True
    timer.start()


def _greet(trainer: _Trainer, order: Order, worker: Worker, key: str) -> Reply | None:
    """Hears what a trainer that has just been started is; returns an answer if the driver can't use it."""
    if trainer.num_tasks:
        return None
    try:
        code = _hear(trainer, worker, key)
    except EOFError:
        how, was_killed = trainer.explain_death()
        return Reply(DIED if was_killed else REFUSED, reason=how, address=worker.address)
    if code != order.code:
        return Reply(REFUSED, reason=code, address=worker.address)
    return None


def _train(trainer: _Trainer, order: Order, folder: str, worker: Worker, key: str) -> Reply:
    trainer.num_tasks += 1
    trainer.pipe.send((order.content, folder))
    while True:
        word, content = _hear(trainer, worker, key)
        if word != REPORT:
            return Reply(word, content)
        worker.log_event(order.topic, (order.token, content))


def _hear(trainer: _Trainer, worker: Worker, key: str) -> Any:  # noqa: ANN401 - whatever it says
    while not trainer.pipe.poll(LOOK_INTERVAL_S):
        state = worker.state.tasks.get(key)
        if state is None or state.state != "executing" or worker.status in (Status.closing, Status.closed):
            raise _Unwanted
    return trainer.pipe.recv()
