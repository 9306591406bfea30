"""Cotejo's search, until it has found what another one has: the stage's own parts, on workers of this machine."""

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread
from typing import Any, NamedTuple

import numpy as np
import psutil
from optuna.trial import FrozenTrial
from sklearn.model_selection import train_test_split

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from cotejo.data.fetching import Fetcher
from cotejo.data.readers import LabelledImages, read_published
from cotejo.data.sources import SOURCES
from cotejo.data.splits import load_dataset
from cotejo.execution.executor import open_executor
from cotejo.execution.messages import PreparedData
from cotejo.params import load_params, override_group
from cotejo.schema.searches import Search
from cotejo.schema.study import Base, Runtime
from cotejo.schema.trainings import Net
from cotejo.tracking.journal import Run
from cotejo.tracking.outbox.sender import Tracker
from cotejo.tuning.outcome import Outcome
from cotejo.tuning.search import Searcher, count_tasks
from saved_splits import save_splits

DATA = "fashion_mnist"
#: What is searched, of `search.space` in `params.yaml`.
SEARCHED = ("learning_rate", "batch_size", "activation", "pooling", "dropout_rate")
#: Seconds between two looks at the memory.
LOOK_S = 0.2


class Declared(NamedTuple):
    """The sections of a search."""

    search: Search
    present: Net
    base: Base
    runtime: Runtime


class ReachedError(Exception):
    """Ends a search that has found enough."""


def prepare(folder: str, num_train: int, num_val: int) -> dict[str, Any]:
    """Writes a part of Fashion-MNIST's training images as preprocess does; the test images aren't touched."""
    source = SOURCES[DATA]
    raw = Path(folder) / "raw"
    raw.mkdir(exist_ok=True)
    fetcher = Fetcher.from_environment(load_params(["runtime"]).runtime.download_timeout_s, Path(folder) / "downloads")
    for file in source.files:
        fetcher.fetch(file, raw)
    images, labels = read_published(source.file_format, raw, len(source.class_names)).train
    train, rest = train_test_split(np.arange(len(labels)), train_size=num_train, stratify=labels, random_state=0)
    val, _ = train_test_split(rest, train_size=num_val, stratify=labels[rest], random_state=0)
    chosen = {"train": np.sort(train), "val": np.sort(val), "test": val[:0]}
    splits = {split: LabelledImages(images[indices], labels[indices]) for split, indices in chosen.items()}
    save_splits(splits, Path(folder), DATA, source.class_names, {})
    return {"num_train": num_train, "num_val": num_val}


def declare(num_trials: int, epochs: int, seed: int, **changes: Any) -> Declared:  # noqa: ANN401 - as in params.yaml
    """Returns the sections of `params.yaml` with the benchmark's budget.

    Args:
        num_trials: The most trials.
        epochs: Of each trial.
        seed: Of the search.
        changes: Further values of the `search` section; `workers` is one of `runtime`.
    """
    params = load_params(["base", "lenet", "search", "runtime"])
    space = {key: params.search.space[key] for key in SEARCHED}
    runtime = params.runtime.model_copy(update={"workers": changes.pop("workers", params.runtime.workers)})
    search = params.search.model_copy(
        update={"num_trials": num_trials, "seed": seed, "space": space, "holdout": 0.0, "confirm_seeds": (), **changes}
    )
    # the opponent takes a trial's best epoch by accuracy
    best = {"epochs": epochs, "early_stopping.monitor": "val_accuracy", "early_stopping.mode": "max"}
    return Declared(search, override_group(params.lenet, best, "lenet"), params.base, runtime)


def search(
    folder: str, num_trials: int, epochs: int, seed: int, target: float, timeout_s: float, changes: Mapping[str, Any]
) -> dict[str, Any]:
    """Searches until a trial that has ended is as good as the target; the clock begins with the process.

    Args:
        folder: Prepared images.
        num_trials: The most trials.
        epochs: Of each trial that isn't stopped.
        seed: Of the search.
        target: The validation accuracy to reach.
        timeout_s: Seconds after which no further batch begins.
        changes: Further values of the `search` section, such as another pruner; none in the benchmark.

    Returns:
        The seconds in all, whether the target was reached, and the trials in the order in which they ended.
    """
    declared = declare(num_trials, epochs, seed, timeout_s=timeout_s, **changes)
    board = Board(target)
    data = PreparedData(folder, load_dataset(Path(folder)).digest)
    num_tasks = count_tasks(declared.search)
    with (
        TemporaryDirectory() as place,
        watch_memory() as memory,
        open_executor(declared.runtime, declared.search.threads, num_tasks, data) as executor,
    ):
        run = Run(Tracker(Path(place) / "journal", None), "search", None, {})
        searcher = Searcher(declared.search, declared.present, declared.base.precision, run, executor, Path(place))
        with suppress(ReachedError):
            searcher.search_best(board)
        total_time_s = measure_age()
    return {"total_time_s": total_time_s, "is_reached": board.is_reached, "memory_bytes": memory.peak_bytes,
            "trials": board.trials}  # fmt: skip


class Board:
    """Notes how trials end, in place of the terminal's; stops the search at the target."""

    def __init__(self, target: float) -> None:
        self.target = target
        self.trials: list[dict[str, Any]] = []
        self.is_reached = False

    def recall(self, known: Sequence[FrozenTrial]) -> None:
        """Shows nothing."""

    def begin(self, name: str, values: Mapping[str, Any]) -> None:
        """Shows nothing."""

    def show(self, name: str, row: Mapping[str, float]) -> None:
        """Shows nothing."""

    def end(self, name: str, outcome: Outcome) -> None:
        """Notes a trial."""
        began_s, ended_s = outcome.times_s
        self.trials.append({"number": int(name.split()[-1]), "state": outcome.state, "value": outcome.value,
                            "epochs": len(outcome.rows), "took_s": ended_s - began_s,
                            "ended_s": measure_age()})  # fmt: skip
        if outcome.value is not None and outcome.value >= self.target:
            self.is_reached = True
            raise ReachedError


def measure_age() -> float:
    """Returns the seconds since this process was started: its imports count."""
    return time.time() - psutil.Process().create_time()


class Memory:
    """The most memory that a process and all below it had at one time, in bytes."""

    def __init__(self) -> None:
        self.peak_bytes = 0
        self.has_ended = Event()

    def watch(self) -> None:
        """Looks again and again."""
        own = psutil.Process()
        while not self.has_ended.wait(LOOK_S):
            in_all = 0
            for process in (own, *own.children(recursive=True)):
                with suppress(psutil.Error):
                    in_all += process.memory_info().rss
            self.peak_bytes = max(self.peak_bytes, in_all)


@contextmanager
def watch_memory() -> Iterator[Memory]:
    """Watches the memory of this process and of those that it starts."""
    memory = Memory()
    thread = Thread(target=memory.watch, daemon=True)
    thread.start()
    try:
        yield memory
    finally:
        memory.has_ended.set()
        thread.join()
