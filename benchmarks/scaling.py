"""A search on more and more workers: real ones that train LeNet, and many that only sleep as long as trainings take.

With sleepers, everything but the arithmetic is real: processes, asking and telling, pruning, batches that wait for
their slowest trial, dask. So many of them fit into a small machine.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from images import draw_images

from cotejo.data.readers import LabelledImages
from cotejo.data.splits import TrainingData, load_dataset
from cotejo.execution.executor import Executor, open_executor
from cotejo.execution.messages import PreparedData
from cotejo.params import load_params
from cotejo.schema.searches import Search
from cotejo.tracking.journal import Run
from cotejo.tracking.outbox.sender import Tracker
from cotejo.tuning.outcome import Outcome
from cotejo.tuning.progress import open_board
from cotejo.tuning.pruning import Judge
from cotejo.tuning.search import Searcher
from cotejo.tuning.tasks import TrialTask, run_trial
from saved_splits import save_splits

#: How much longer an epoch takes with small batches, about as LeNet's does.
SLOWNESS = {32: 1.8, 64: 1.3, 128: 1.0, 256: 0.9}


def search(num_workers: int, num_trials: int, num_samples: int, epochs: int) -> dict[str, Any]:
    """Searches for LeNet on generated images, without pruning; the study is the same for any number of workers."""
    return _measure(num_workers, num_samples, run_trial, num_trials=num_trials, epochs=epochs, pruner="none")


def simulate(num_workers: int, parallel_trials: int, num_trials: int, epochs: int, epoch_s: float) -> dict[str, Any]:
    """Searches with trials that sleep.

    Args:
        num_workers: Processes.
        parallel_trials: Trials proposed at once.
        num_trials: Trials, a multiple of them.
        epochs: Of each trial, if it isn't pruned.
        epoch_s: Seconds of an epoch with batches of 128.
    """
    return _measure(
        num_workers, 100, _Sleep(epoch_s), num_trials=num_trials, epochs=epochs, parallel_trials=parallel_trials
    )


class _Sleep:
    """A trial that only sleeps; how long, and how good it is, follows from its values."""

    def __init__(self, epoch_s: float) -> None:
        self.epoch_s = epoch_s

    def __call__(self, task: TrialTask, _loaded: TrainingData, report: Callable[[Any], None]) -> Outcome:
        began_s, rows, state = time.time(), [], "COMPLETE"
        judge = Judge(task.search, task.max_epochs, task.number, task.known or [])
        quality = 0.9 - abs(task.values.get("learning_rate", 1e-3) - 3e-3) * 20
        for epoch in range(1, task.max_epochs + 1):
            time.sleep(self.epoch_s * SLOWNESS[task.values.get("batch_size", 128)])
            rows.append({"epoch": epoch, task.search.metric: quality * (1 - 0.5**epoch)})
            report(rows[-1])
            if epoch < task.max_epochs and judge.should_prune(epoch, rows[-1][task.search.metric]):
                state = "PRUNED"
                break
        value = rows[-1][task.search.metric] if state == "COMPLETE" else None
        return Outcome(state, value, rows, 1.0, dict(judge.read_marks()), "", "", (began_s, time.time()))


class _Redirected:
    """An executor that runs another function than it is told."""

    def __init__(self, executor: Executor, function: Callable[..., Outcome]) -> None:
        self.executor = executor
        self.function = function

    def run(
        self, _: object, tasks: Sequence[Any], setup: object, on_report: Callable[[int, Any], None]
    ) -> Iterator[tuple[int, Any]]:
        """Runs tasks; see Executor."""
        return self.executor.run(self.function, tasks, setup, on_report)


def _measure(num_workers: int, num_samples: int, function: Callable[..., Outcome], **changes: object) -> dict[str, Any]:
    """Returns the seconds of a search on workers that are ready, and how long its trials took in all."""
    params = load_params(["base", "lenet", "search", "runtime"])
    declared = params.search.model_dump() | {"model": "lenet", "sampler": "tpe", "parallel_trials": 4, "threads": 1}
    settings = Search.model_validate({**declared, "holdout": 0.0, "confirm_seeds": (), **changes}, strict=False)
    runtime = params.runtime.model_copy(update={"scheduler": "local", "workers": num_workers})
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        began_s = time.perf_counter()
        with (
            open_executor(runtime, settings.threads, num_workers, _prepare(folder / "data", num_samples)) as executor,
            open_board(settings, params.lenet.epochs) as board,
        ):
            run = Run(Tracker(folder / "journal", None), "search", None, {})
            searcher = Searcher(
                settings, params.lenet, params.base.precision, run, _Redirected(executor, function), folder / "search"
            )
            (folder / "search").mkdir()
            needs = "tensorflow" if function is run_trial else "optuna"
            list(executor.run(_get_ready, [needs] * num_workers, searcher.setup, lambda *_: None))
            ready_s = time.perf_counter()
            trials = searcher.search_best(board).study.get_trials(deepcopy=False)
            ended_s = time.perf_counter()
    busy_s = sum((trial.datetime_complete - trial.datetime_start).total_seconds() for trial in trials)
    return {
        "start_s": ready_s - began_s,
        "total_time_s": ended_s - ready_s,
        "busy_s": busy_s,
        "num_trials": len(trials),
    }


def _get_ready(module: str, _loaded: TrainingData, _report: Callable[[Any], None]) -> None:
    import_module(module)
    time.sleep(2)  # so that every worker gets one


def _prepare(folder: Path, num_samples: int) -> PreparedData:
    folder.mkdir()
    train, val = LabelledImages(*draw_images(num_samples)), LabelledImages(*draw_images(num_samples // 10))
    names = tuple(f"class {number}" for number in range(10))
    save_splits({"train": train, "val": val, "test": val}, folder, "generated", names, {})
    return PreparedData(str(folder), load_dataset(folder).digest)
