"""Runs trainings in other processes: of this machine, or of a cluster. What they compute doesn't depend on which.

A task is a function of its arguments, so whoever dies, its task is done anew elsewhere with the same result.
"""

import logging
import math
import pickle
import sys
import time
import uuid
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

import dask
import psutil
from dask.system import CPU_COUNT
from distributed import Client, Future
from distributed.scheduler import KilledWorker
from distributed.system import MEMORY_LIMIT
from distributed.versions import VersionMismatchWarning

from cotejo.errors import StageError
from cotejo.execution.clients import CONNECT_TIMEOUT_S, LOGGERS, connect, describe_gone, name_scheduler, start_workers
from cotejo.execution.messages import DATA_FILES, DIED, RAISED, REFUSED, RESULT, SEND_DATA, Order, PreparedData, Reply
from cotejo.execution.trainer import Function, describe_code
from cotejo.execution.worker import store_data, work
from cotejo.masking import say_first_line
from cotejo.schema.study import Runtime

#: Memory that a worker and its trainer take with a small data set; decides how many fit into a machine.
WORKER_BYTES = 3 * 2**29
#: Bytes of memory of the process that hands out the tasks, with dask's scheduler.
DRIVER_BYTES = 2**29
#: How often images are in memory while they are sent: as files, as dask packs them, and on the way.
SENDING_COPIES = 3
#: Deaths with a task after which it is given up: one is bad luck, the fifth is the task's memory.
MOST_DEATHS = 5
#: Seconds between two looks at whether the scheduler is still there.
PATIENCE_S = 1.0
#: Seconds between two looks at whether it has workers.
DROUGHT_S = 10.0
#: Seconds more until the next look, once it had none.
DROUGHT_AGAIN_S = 50.0


class Died(NamedTuple):
    """The outcome of a task that too many trainers or workers have died with."""

    reason: str


class _Task:
    """A task that isn't done: its place, what is sent of it, and how often somebody died with it."""

    def __init__(self, place: int, content: bytes) -> None:
        self.place = place
        self.content = content
        self.sent_s = 0.0
        self.has_begun = False
        self.deaths = 0
        self.last_death = "its worker has gone"


class Executor:
    """Runs tasks on dask's workers.

    Args:
        client: Connected to the scheduler.
        data: The images of all tasks.
        gpus_per_task: GPU slots that a task takes.
        memory_bytes: What a task's process may take, for its `Setup`; None for any.
    """

    def __init__(self, client: Client, data: PreparedData, gpus_per_task: int, memory_bytes: int | None = None) -> None:
        self.client = client
        self.data = data
        self.gpus_per_task = gpus_per_task
        self.memory_bytes = memory_bytes
        self.topic = f"cotejo-{uuid.uuid4().hex}"
        # what a token's sending says: nothing (it begins), bytes (how far it is), a future (it has ended)
        self._inbox: SimpleQueue[tuple[str, bytes | Future | None]] = SimpleQueue()
        self._sent: dict[str, _Task] = {}
        self._futures: dict[str, Future] = {}
        self._supplied_s: dict[str, float] = {}
        self._looked_s = time.monotonic()
        client.subscribe_topic(self.topic, lambda event: self._inbox.put(event[1]))

    @property
    def num_workers(self) -> int:
        """Number of tasks that can run in parallel at the moment; a cluster may get other workers."""
        workers = self.client.scheduler_info(n_workers=-1)["workers"].values()
        if not self.gpus_per_task:
            return sum(worker["nthreads"] for worker in workers)
        slots = (worker["resources"].get("GPU", 0) // self.gpus_per_task for worker in workers)
        return sum(min(int(slot), worker["nthreads"]) for slot, worker in zip(slots, workers, strict=True))

    def run(
        self, function: Function, tasks: Sequence[Any], setup: object, on_report: Callable[[int, Any], None]
    ) -> Iterator[tuple[int, Any]]:
        """Runs tasks in parallel and yields each one's place and result as they end.

        Args:
            function: Importable where the trainers are.
            tasks: Its first arguments.
            setup: What a trainer's process is configured for; one that was configured for something else is started
                anew.
            on_report: Called with a task's place and what it reports, in order; a task that is done anew reports anew.

        Raises:
            StageError: The scheduler has gone, or a worker has another Cotejo.
        """
        settled = pickle.dumps(setup)
        try:
            for place, argument in enumerate(tasks):
                self._send(_Task(place, pickle.dumps((function, argument))), settled)
            while self._sent:
                token, said = self._receive()
                if (task := self._sent.get(token)) is None:  # a sending that was given up
                    continue
                if isinstance(said, bytes):
                    on_report(task.place, pickle.loads(said))  # noqa: S301 - from whom we let run anything
                elif said is None:
                    # once more: dask has sent it to another worker, since the one that had it has gone
                    task.deaths += task.has_begun
                    task.has_begun = True
                else:
                    answer = self._read(said)
                    self._forget(token)
                    if answer.word == RESULT:
                        yield task.place, pickle.loads(answer.content)  # noqa: S301
                        continue
                    self._handle_reply(answer, task)
                    if task.deaths < MOST_DEATHS:
                        self._send(task, settled)
                if task.deaths >= MOST_DEATHS:
                    self._forget(token)
                    yield task.place, Died(f"{task.deaths} processes died with it, the last: {task.last_death}")
        finally:
            for token in list(self._sent):
                self._forget(token)

    def _send(self, task: _Task, setup: bytes) -> str:
        token = uuid.uuid4().hex
        task.has_begun, task.sent_s = False, time.monotonic()
        order = Order(token, task.content, setup, describe_code(), self.data, self.topic)
        resources = {"GPU": self.gpus_per_task} if self.gpus_per_task else None
        future = self.client.submit(work, order, key=f"cotejo-{token}", pure=False, resources=resources)
        self._sent[token], self._futures[token] = task, future
        future.add_done_callback(lambda done: self._inbox.put((token, done)))
        return token

    def _forget(self, token: str) -> None:
        """Stops a task, if it still runs, and ignores its messages."""
        self._sent.pop(token, None)
        if (future := self._futures.pop(token, None)) is None:
            return
        with suppress(Exception):  # nobody left to tell it to
            self.client.cancel([future], force=True)

    def _receive(self) -> tuple[str, bytes | Future | None]:
        while True:
            try:
                return self._inbox.get(timeout=PATIENCE_S)
            except Empty:
                if self.client.status not in ("running", "connecting"):
                    raise describe_gone(self.client) from None
                self._look_for_workers()

    def _look_for_workers(self) -> None:
        """Prints what it is waiting for, if no worker can take a task."""
        if time.monotonic() - self._looked_s < DROUGHT_S:
            return
        self._looked_s = time.monotonic()
        with suppress(OSError):  # the scheduler has gone; what is received next says so
            if not self.num_workers:
                slots = f" with --resources GPU={self.gpus_per_task}" if self.gpus_per_task else ""
                print(
                    f"waiting for workers{slots}: {name_scheduler(self.client)} has none", file=sys.stderr, flush=True
                )
                self._looked_s += DROUGHT_AGAIN_S

    def _read(self, future: Future) -> Reply:
        try:
            answer: Reply = future.result()
        except KilledWorker as error:
            return Reply(DIED, reason=f"the worker at {error.last_worker.address} has gone")
        except CancelledError:
            raise describe_gone(self.client) from None
        except Exception as error:  # noqa: BLE001 - dask on a worker can't even read what it is to do
            raise StageError(
                expected="the scheduler and every worker to have the same Cotejo",
                received=f"{type(error).__name__}: {say_first_line(error)} from {name_scheduler(self.client)} "
                "or a worker of it",
                advice="Install the same commit and requirements.lock on all of them",
            ) from None
        return answer

    def _handle_reply(self, answer: Reply, task: _Task) -> None:
        """Handles a reply without a result, so that the task can be sent again; raises what the task raised."""
        if answer.word == RAISED:
            raise pickle.loads(answer.content)  # noqa: S301
        if answer.word == REFUSED:
            raise StageError(
                expected="every worker to have the same Cotejo",
                received=f"{answer.reason} at {answer.address}, and {describe_code()} here",
                advice="Install the same commit and requirements.lock there",
            )
        if answer.word == SEND_DATA and task.sent_s > self._supplied_s.get(answer.address, -math.inf):
            if answer.address in self._supplied_s:
                raise StageError(
                    expected=f"the images in {self.data.folder} to stay as they are",
                    received="others than the stage began with",
                    advice="Run `dvc repro`",
                )
            self._send_data(answer.address)
        if answer.word == DIED:
            # where a worker goes, dask suspects the tasks that wait there as well
            task.deaths += task.has_begun
            task.last_death = answer.reason

    def _send_data(self, address: str) -> None:
        folder = Path(self.data.folder)
        size_bytes = sum((folder / name).stat().st_size for name in DATA_FILES)
        if self.memory_bytes is not None and SENDING_COPIES * size_bytes > self.memory_bytes:
            raise StageError(
                expected=f"images that can be sent to the worker at {address} within runtime.memory_limit",
                received=f"{size_bytes / 1000000.0:.0f} MB, in memory as often as {SENDING_COPIES} times",
                advice=f"Give it {folder} as a shared folder, or raise the limit in params.yaml",
            )
        files = {name: (folder / name).read_bytes() for name in DATA_FILES}
        found = self.client.run(store_data, files, self.data.digest, workers=[address], on_error="return")
        self._supplied_s[address] = time.monotonic()
        error = found.get(address)
        has_gone = isinstance(error, OSError) and not error.errno
        if isinstance(error, Exception) and not has_gone:
            raise StageError(
                expected=(
                    f"{sum(map(len, files.values())) / 1000000.0:.0f} MB of space for the images on the worker at "
                    f"{address}"
                ),
                received=error,
                advice=f"Free some, or give it {folder} as a shared folder",
            )


@contextmanager
def open_executor(runtime: Runtime, threads: int, num_tasks: int, data: PreparedData) -> Iterator[Executor]:
    """Connects to the declared cluster, or starts workers on this machine and stops them at the end.

    Args:
        runtime: The `runtime` section.
        threads: Of each trainer's TensorFlow.
        num_tasks: The most tasks that run in parallel.
        data: The images of all tasks.

    Raises:
        StageError: The scheduler can't be reached.
    """
    for name in LOGGERS:  # its words would come between ours; what matters comes back as an answer
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    settings = {
        "distributed.comm.timeouts.connect": f"{CONNECT_TIMEOUT_S}s",
        # these are read by the workers and the scheduler of this machine
        "distributed.scheduler.allowed-failures": 1000,  # we count ourselves, and more exactly
        "distributed.worker.profile.enabled": False,
    }
    with dask.config.set(settings), warnings.catch_warnings():
        # an older scheduler works as a rule; a worker that could change a result is refused
        warnings.simplefilter("ignore", VersionMismatchWarning)
        if runtime.scheduler == "local":
            count = count_workers(runtime, threads, num_tasks)
            memory_bytes = runtime.memory_limit and (runtime.memory_limit - DRIVER_BYTES) // count
            with start_workers(count) as client:
                yield Executor(client, data, 0, memory_bytes)
            return
        client = connect(runtime.scheduler)
        try:
            yield Executor(client, data, runtime.gpus_per_task, runtime.memory_limit)
        finally:
            client.close()


def count_workers(runtime: Runtime, threads: int, num_tasks: int) -> int:
    """Returns how many workers this machine is given: as declared, or as many as its cores and memory allow.

    It is never more than fit into the declared memory, and one in any case.
    """
    free = min(MEMORY_LIMIT, psutil.virtual_memory().available)
    allowed = runtime.workers or min(CPU_COUNT // threads, free // WORKER_BYTES)
    if runtime.memory_limit is not None:
        allowed = min(allowed, (runtime.memory_limit - DRIVER_BYTES) // WORKER_BYTES)
    return max(1, min(allowed, num_tasks))
