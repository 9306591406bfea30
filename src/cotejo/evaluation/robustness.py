"""How many corrupted images a model still gets right: here, or side by side in other processes."""

import hashlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import keras
import numpy as np
from numpy.typing import NDArray

from cotejo.data.readers import LabelledImages
from cotejo.data.splits import TrainingData, load_dataset, load_split
from cotejo.errors import DataError, ModelError
from cotejo.evaluation.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from cotejo.evaluation.metrics import compute_wilson_interval, draw_sample
from cotejo.evaluation.predict import predict_probabilities
from cotejo.execution.executor import Died, Executor, count_workers, open_executor
from cotejo.execution.words import Data, Setup
from cotejo.schema import Evaluate, Runtime
from cotejo.training.archive import load_model
from cotejo.training.hardware import configure_hardware

#: All sets of images that a model is scored on; the first are the images as they are.
CELLS = (("none", 0), *((corruption, severity) for corruption in CORRUPTIONS for severity in SEVERITIES))


class Carried(NamedTuple):
    """What a task reads, for a worker that can't read it from its disk."""

    archive: bytes
    sample: LabelledImages


class Task(NamedTuple):
    """A seed of a model on all corrupted images, as another process is given it.

    Attributes:
        name: The seed, in messages.
        path: The saved model.
        sha256: Of that file.
        data: The folder of the images, and their digest.
        indices: Which test images, shape (num_images,).
        batch_size: Images that are predicted at once.
        seed: Of what the corruptions draw.
        setup: What the process has to be configured for.
        carried: None where path and folder are read.
    """

    name: str
    path: str
    sha256: str
    data: Data
    indices: NDArray[np.int64]
    batch_size: int
    seed: int
    setup: Setup
    carried: Carried | None = None


def measure_robustness(
    folders: Mapping[str, Path],
    num_samples: int,
    settings: Evaluate,
    setup: Setup,
    data: Data,
    runtime: Runtime,
) -> dict[str, dict[str, Any]]:
    """Scores every seed of every model on test images that were corrupted in every way.

    The numbers are the same, to the byte, wherever they are computed: in this process, or in others, where a cluster is
    declared or this machine has room for more than one. This process must have been configured as `setup` says.

    Args:
        folders: By the model's name; hold `seed-<s>/model.keras`.
        num_samples: Number of test images.
        settings: The `evaluate` section.
        setup: Its seeds are scored.
        data: The images.
        runtime: The `runtime` section.

    Returns:
        By the model's name, what its metrics hold of it: `test_corrupted_accuracy`, the mean over all corruptions and
        severities, and `robustness`, a row (corruption, severity, accuracy, low, high) for each and one for the same
        images uncorrupted (none, 0). An accuracy is the mean over the seeds, with Wilson's interval.

    Raises:
        ModelError: A model is missing, damaged or can't be run.
        StageError: The cluster can't be reached.
    """
    sample_size = settings.corruption_samples or num_samples
    indices = draw_sample(num_samples, sample_size, settings.sample_seed)
    places = [(name, seed) for name in folders for seed in setup.base.seeds]
    tasks = [
        _describe(f"{name} seed {seed}", folders[name] / f"seed-{seed}" / "model.keras", data, indices, settings, setup)
        for name, seed in places
    ]
    run_all = _run_here if _has_one_place(runtime, setup, len(tasks)) else _run_elsewhere
    num_right = {}
    for place, counts in run_all(tasks, data, setup, runtime):
        num_right[places[place]] = counts
        _say(f"{tasks[place].name}: {counts[1:].mean() / len(indices):.4f} right of corrupted images")
    return {
        name: summarize(np.stack([num_right[name, seed] for seed in setup.base.seeds]), len(indices), settings.confidence)
        for name in folders
    }


def summarize(num_right: NDArray[np.int64], num_images: int, confidence: float) -> dict[str, Any]:
    """Turns right answers into what a model's metrics hold.

    Args:
        num_right: Shape (num_seeds, len(CELLS)).
        num_images: Images of each cell.
        confidence: Of the intervals.
    """
    rows = []
    for (corruption, severity), counts in zip(CELLS, num_right.T, strict=True):
        right = float(counts.mean())
        low, high = compute_wilson_interval(right, num_images, confidence)
        accuracy = right / num_images
        rows.append({"corruption": corruption, "severity": severity, "accuracy": accuracy, "low": low, "high": high})
    mean = float(np.mean([row["accuracy"] for row in rows if row["severity"]]))
    return {"test_corrupted_accuracy": mean, "robustness": rows}


def score_task(task: Task, _: TrainingData, report: Callable[[Any], None]) -> NDArray[np.int64] | None:
    """Scores a seed, on a worker.

    Returns:
        Right answers, shape (len(CELLS),); None if the worker has neither been sent what it is to read nor has it.
    """
    configure_hardware(task.setup.base, side_by_side=task.setup.side_by_side)
    if task.carried is None and not _is_readable(task):
        return None
    return _score(task)


def _score(task: Task) -> NDArray[np.int64]:
    keras.utils.clear_session()
    if task.carried is None:
        model = load_model(Path(task.path))
        test = load_split(Path(task.data.folder), "test")
        sample = LabelledImages(test.images[task.indices], test.labels[task.indices])
    else:
        with TemporaryDirectory() as own:
            (path := Path(own) / "model.keras").write_bytes(task.carried.archive)
            model = load_model(path)
        sample = task.carried.sample
    num_right = []
    for corruption, severity in CELLS:
        images = sample.images
        if severity:
            images = corrupt(images, corruption, severity, task.seed, task.indices)
        y_prob = predict_probabilities(model, images, task.batch_size)
        num_right.append((y_prob.argmax(axis=1) == sample.labels).sum())
    return np.array(num_right, dtype=np.int64)
