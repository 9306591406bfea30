"""Scores models on corrupted images: here, or in parallel processes."""

import hashlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
from numpy.typing import NDArray

from cotejo.data.readers import LabelledImages
from cotejo.data.splits import TrainingData, load_dataset, load_split
from cotejo.errors import DataError, ModelError
from cotejo.estimation.estimates import estimate_mean
from cotejo.evaluation.corruptions import CORRUPTIONS, NUM_CORRUPTED, SEVERITIES, corrupt
from cotejo.evaluation.metrics import draw_sample
from cotejo.evaluation.predict import predict_probabilities
from cotejo.evaluation.scores import score_correct, score_share
from cotejo.execution.executor import Died, Executor, count_workers, open_executor
from cotejo.execution.messages import PreparedData, Setup
from cotejo.files import digest_path, temporary_folder
from cotejo.schema.groups import ModelName
from cotejo.schema.study import Base, Evaluate, Runtime
from cotejo.training.archive import load_model
from cotejo.training.hardware import check_memory, configure_hardware

#: All sets of images that a model is scored on; the first are the images as they are.
CELLS = (("none", 0), *((corruption, severity) for corruption in CORRUPTIONS for severity in SEVERITIES))

#: Values of pixels that are corrupted at once: as floats, several copies of them are in memory.
VALUES_AT_ONCE = 2**23


class Carried(NamedTuple):
    """Files of a task, for a worker that can't read them from its disk."""

    archive: bytes
    sample: LabelledImages


class Robustness(NamedTuple):
    """One model on corrupted test images.

    Attributes:
        summary: What the model's metrics hold: `test_corrupted_accuracy`, the mean over all corruptions and severities
            and over the seeds, with its interval; and `robustness`, a row (corruption, severity, accuracy, low, high)
            for each and one for the same images uncorrupted (none, 0).
        accuracies: Mean over all corruptions and severities, one a seed.
        indices: Which test images were corrupted, shape (num_images,).
        counts: On how many of its `NUM_CORRUPTED` corruptions each of them was classified correctly, uint8 of shape
            (num_seeds, num_images).
    """

    summary: dict[str, Any]
    accuracies: list[float]
    indices: NDArray[np.int64]
    counts: NDArray[np.uint8]


class CorruptionTask(NamedTuple):
    """A seed of a model on all corrupted images, as another process is given it.

    Attributes:
        name: The seed, in messages.
        path: The saved model.
        sha256: SHA-256 of that file.
        data: The folder of the images, and their digest.
        indices: Which test images, shape (num_images,).
        batch_size: Images that are predicted at once.
        seed: Seed of the corruptions.
        setup: What the process has to be configured for.
        carried: None where path and folder are read.
    """

    name: str
    path: str
    sha256: str
    data: PreparedData
    indices: NDArray[np.int64]
    batch_size: int
    seed: int
    setup: Setup
    carried: Carried | None = None


def measure_robustness(
    folders: Mapping[ModelName, Path], images: Path, base: Base, settings: Evaluate, runtime: Runtime
) -> dict[ModelName, Robustness]:
    """Scores every seed of every model on test images that were corrupted in every way.

    The numbers are the same, to the byte, in this process, or in others where a cluster is declared or this machine
    has room for more than one, as long as all run on the same kind of machine: the last bits of a probability may
    differ on a GPU or another processor, and with them a close answer. This process must have been configured for
    `base`.

    Args:
        folders: By the model's name; hold `seed-<s>/model.keras`.
        images: The folder that preprocess wrote.
        base: The `base` section; its seeds are scored.
        settings: The `evaluate` section.
        runtime: The `runtime` section.

    Returns:
        By the model's name; intervals are for new images and new seeds.

    Raises:
        ModelError: A model is missing, damaged or can't be run.
        StageError: The cluster can't be reached.
    """
    data, setup = PreparedData.of(images, load_dataset(images).digest), Setup.of(base)
    num_samples = len(load_split(images, "test").labels)
    indices = draw_sample(num_samples, settings.corruption_samples or num_samples, settings.sample_seed)
    places = [(name, seed) for name in folders for seed in base.seeds]
    tasks = [
        _describe(f"{name} seed {seed}", folders[name] / f"seed-{seed}" / "model.keras", data, indices, settings, setup)
        for name, seed in places
    ]
    correct = {}
    for place, rows in _run(tasks, setup, data, runtime):
        correct[places[place]] = rows
        _say(f"{tasks[place].name}  accuracy {rows[1:].mean():.4f} on corrupted images")
    check_memory("evaluate", runtime.memory_limit, "evaluate.batch_size", _say)
    return {
        name: summarize(np.stack([correct[name, seed] for seed in base.seeds]), indices, settings.confidence)
        for name in folders
    }


def summarize(correct: NDArray[np.bool_], indices: NDArray[np.int64], confidence: float) -> Robustness:
    """Turns answers into what evaluate keeps of a model.

    Args:
        correct: Whether each answer is correct, shape (num_seeds, len(CELLS), num_images).
        indices: Which test images they are, shape (num_images,).
        confidence: Confidence of the intervals.
    """
    rows = []
    for cell, (corruption, severity) in enumerate(CELLS):
        of_cell = score_correct(correct[:, cell])
        low, high = estimate_mean(of_cell, confidence).compute_interval(confidence)
        row = {"corruption": corruption, "severity": severity, "accuracy": of_cell.value, "low": low, "high": high}
        rows.append(row)
    counts = correct[:, 1:].sum(axis=1, dtype=np.uint8)  # the first cell is the images as they are
    scores = score_share(counts, NUM_CORRUPTED)
    low, high = estimate_mean(scores, confidence).compute_interval(confidence)
    name = "test_corrupted_accuracy"
    summary = {name: scores.value, f"{name}_low": low, f"{name}_high": high, "robustness": rows}
    return Robustness(summary, scores.by_seed.tolist(), indices, counts)


def _describe(
    name: str, path: Path, data: PreparedData, indices: NDArray[np.int64], settings: Evaluate, setup: Setup
) -> CorruptionTask:
    digest = hashlib.sha256(_read(path)).hexdigest()
    return CorruptionTask(
        name, str(path.resolve()), digest, data, indices, settings.batch_size, settings.sample_seed, setup
    )


def _run(
    tasks: Sequence[CorruptionTask], setup: Setup, data: PreparedData, runtime: Runtime
) -> Iterator[tuple[int, NDArray[np.bool_]]]:
    """Yields each task's place and answers as they end."""
    threads = setup.threads
    if runtime.scheduler == "local" and count_workers(runtime, threads, len(tasks)) == 1:
        yield from ((place, _score(task)) for place, task in enumerate(tasks))
        return
    with open_executor(runtime, threads, len(tasks), data) as executor:
        missing = []
        for place, correct in _send(executor, dict(enumerate(tasks)), setup):
            if correct is None:
                missing.append(place)
            else:
                yield place, correct
        for place, correct in _send(executor, {place: _carry(tasks[place]) for place in missing}, setup):
            if correct is not None:  # what is carried is there
                yield place, correct


def _send(
    executor: Executor, tasks: Mapping[int, CorruptionTask], setup: Setup
) -> Iterator[tuple[int, NDArray[np.bool_] | None]]:
    places = list(tasks)
    for number, result in executor.run(score_task, list(tasks.values()), setup, lambda *_: None):
        place = places[number]
        if isinstance(result, Died):
            raise ModelError(
                where=tasks[place].name,
                expected="a worker to live through it",
                received=result.reason,
                advice="It may need more memory: set runtime.workers or evaluate.batch_size lower in params.yaml",
            )
        yield place, result


def score_task(task: CorruptionTask, _: TrainingData, report: Callable[[Any], None]) -> NDArray[np.bool_] | None:
    """Scores a seed, on a worker.

    Returns:
        Whether each answer is correct, shape (len(CELLS), num_images); None if the worker neither has what it is to
        read nor was sent it.
    """
    configure_hardware(task.setup)
    return _score(task) if task.carried or _is_readable(task) else None


def _score(task: CorruptionTask) -> NDArray[np.bool_]:
    model, (images, labels), rows = _open(task)
    correct = np.zeros((len(CELLS), len(rows)), dtype=np.bool_)
    # a batch at a time: not all of the sample need fit into memory
    for start in range(0, len(rows), task.batch_size):
        batch = slice(start, start + task.batch_size)
        clean, expected = images[rows[batch]], labels[rows[batch]]
        for cell, (corruption, severity) in enumerate(CELLS):
            changed = _corrupt(clean, corruption, severity, task, task.indices[batch]) if severity else clean
            y_prob = predict_probabilities(model, changed, task.batch_size)
            # an answer that is no number isn't correct
            correct[cell, batch] = (y_prob.argmax(axis=1) == expected) & np.isfinite(y_prob).all(axis=1)
    return correct


def _corrupt(
    images: NDArray[np.uint8], corruption: str, severity: int, task: CorruptionTask, indices: NDArray[np.int64]
) -> NDArray[np.uint8]:
    """Corrupts a few images after another; no image depends on others."""
    count = max(1, VALUES_AT_ONCE // images[0].size)
    pieces = [slice(start, start + count) for start in range(0, len(images), count)]
    return np.concatenate([corrupt(images[part], corruption, severity, task.seed, indices[part]) for part in pieces])


def _open(task: CorruptionTask) -> tuple[keras.Model, LabelledImages, NDArray[np.int64]]:
    """Returns the model, and images of which the rows, also given, are the sample."""
    if task.carried is None:
        return load_model(Path(task.path)), load_split(Path(task.data.folder), "test"), task.indices
    with temporary_folder() as own:
        (path := own / "model.keras").write_bytes(task.carried.archive)
        return load_model(path), task.carried.sample, np.arange(len(task.indices))


def _is_readable(task: CorruptionTask) -> bool:
    """Returns whether this machine has the driver's files, byte for byte."""
    folder = Path(task.data.folder)
    try:
        is_same = load_dataset(folder).digest == task.data.digest and digest_path(Path(task.path)) == task.sha256
        load_split(folder, "test")
    except (DataError, ModelError):
        return False
    return is_same


def _load_sample(task: CorruptionTask) -> LabelledImages:
    test = load_split(Path(task.data.folder), "test")
    return LabelledImages(test.images[task.indices], test.labels[task.indices])


def _carry(task: CorruptionTask) -> CorruptionTask:
    return task._replace(carried=Carried(_read(Path(task.path)), _load_sample(task)))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelError(
            where=path, expected="a model saved by this study", received=error.strerror, advice="Run `dvc repro`"
        ) from error


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)
