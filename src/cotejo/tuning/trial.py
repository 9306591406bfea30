"""A trial, as a worker runs it: trains with the proposed values, and stops early where the pruner says so."""

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path

import numpy as np
import tensorflow as tf
from optuna import TrialPruned

from cotejo.data.splits import TrainingData
from cotejo.errors import ModelError, ParamsError
from cotejo.execution.messages import Setup
from cotejo.files import temporary_folder, try_lock
from cotejo.masking import say_first_line
from cotejo.models.arithmetic import count_operations
from cotejo.params import override_group
from cotejo.training.callbacks import Logs
from cotejo.training.checkpoint import Checkpoints, SavedEpoch
from cotejo.training.fit import fit
from cotejo.training.hardware import Hardware, building, configure_hardware
from cotejo.training.nets import prepare_net
from cotejo.tuning.holdout import draw_holdout, take_images
from cotejo.tuning.outcome import MEMORY, Outcome
from cotejo.tuning.pruning import Judge
from cotejo.tuning.scoring import score_images
from cotejo.tuning.tasks import TrialTask

#: A step back through the layers takes about twice the arithmetic of a step forward.
PASSES = 3
#: What a trial may fail with, in a word: a learning rate too high for this model is a result, not the search's end.
KINDS: dict[type[Exception], str] = {
    ParamsError: "values that don't go together",
    ModelError: "a training that can't continue",
    MemoryError: MEMORY,
    tf.errors.ResourceExhaustedError: MEMORY,
    tf.errors.OpError: "an operation that TensorFlow can't do",
}


def train_trial(task: TrialTask, loaded: TrainingData, report: Callable[[Logs], None]) -> Outcome:
    """Runs a trial, from its last checkpoint if it has one.

    It is fitted to the training images, and its epoch is chosen by the validation images that select. Only a training
    that confirms reads others, once it has ended.

    Args:
        task: What to train.
        loaded: The images.
        report: Called with each epoch's row; with all of them, where a trial is resumed.
    """
    began_s = time.time()
    rows: list[Logs] = []
    cost = 0.0
    value = None
    scores = None
    reason = ""
    kind = ""
    judge = Judge(task.search, task.max_epochs, task.number, task.known) if task.known is not None else None
    holdout = draw_holdout(loaded.val.labels, task.search.holdout, task.search.seed)
    seen = loaded._replace(val=take_images(loaded.val, holdout.selecting))
    try:
        settings = override_group(task.present, task.values, task.name)
        hardware = _configure(task.setup)
        with building(task.seed, hardware):
            job = prepare_net(settings, seen, hardware)(task.seed)
        cost = PASSES * len(job.train.labels) * count_operations(job.model)

        with _find_checkpoints(task) as checkpoints:

            def observe(row: Logs) -> None:
                rows.append(row)
                report(row)
                # the last epoch is judged for the sake of later trials: it has nothing left to save
                if judge and judge.should_prune(int(row["epoch"]), row[task.search.metric]) and checkpoints.goes_on:
                    raise TrialPruned

            for row in checkpoints.last.record["rows"] if checkpoints.last else ():
                observe(row)
            result = fit(job, settings, task.seed, task.name, observe, hardware, checkpoints)
        if task.confirms:
            images = take_images(loaded.val, holdout.confirming)
            scores = score_images(
                job.model, images, task.search.metric, settings.batch_size, hardware.max_bytes_in_graph
            )
            value = float(scores.mean(dtype=np.float64))
        else:
            value = float(result.history[task.search.metric].iloc[result.best_epoch - 1])
        state = "COMPLETE"
    except TrialPruned:
        state = "PRUNED"
    except tuple(KINDS) as error:
        state, reason = "FAIL", say_first_line(error)
        kind = next(kind for failure, kind in KINDS.items() if isinstance(error, failure))
    marks = judge.read_marks() if judge else {}
    return Outcome(state, value, rows, cost * len(rows), dict(marks), reason, kind, (began_s, time.time()), scores)


@cache
def _configure(setup: Setup) -> Hardware:
    """Configures TensorFlow, once in a process."""
    hardware = configure_hardware(setup)
    # before each trial Keras has garbage collected: TensorFlow's own objects needn't be looked at every time
    gc.collect()
    gc.freeze()
    return hardware


class _TrialCheckpoints(Checkpoints):
    """Checkpoints that know whether the training has come to its own end: its last epoch, or an early stop."""

    def __init__(self, folder: Path, name: str) -> None:
        super().__init__(folder, name)
        self.goes_on = self.last is None or not self.last.record["has_ended"]

    def save(self, saved: SavedEpoch) -> None:
        self.goes_on = not saved.record["has_ended"]
        super().save(saved)


@contextmanager
def _find_checkpoints(task: TrialTask) -> Iterator[_TrialCheckpoints]:
    """Yields the trial's checkpoints, in a folder of its own if another worker still uses them or they can't be used.

    A worker that was cut off trains on beside the one that has taken its place.
    """
    folder = Path(task.folder)
    with ExitStack() as stack:
        try:
            folder.mkdir(exist_ok=True)  # the folder above it is the driver's
            is_held = stack.enter_context(try_lock(folder / ".lock"))
        except OSError:
            is_held = False
        yield _TrialCheckpoints(folder if is_held else stack.enter_context(temporary_folder()), task.name)
