"""Training: one model per seed, the epoch with the lowest validation loss kept."""

import json
import platform
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import pandas as pd
import psutil
import tensorflow as tf

from cotejo.data.readers import LabelledImages
from cotejo.params import Training
from cotejo.tracking.journal import Run
from cotejo.training.archive import save_model
from cotejo.training.callbacks import KeepBest, Logs, RecordEpochs, SeedEpochs, StopOnNonFinite

#: Training steps per call from Python into TensorFlow: fewer calls, the same bits.
STEPS_PER_EXECUTION = 16


#: Receives the epoch (from 1), its metrics by name, and its wall time in seconds.
OnEpoch = Callable[[int, Logs, float], None]


class Job(NamedTuple):
    """What is trained for one seed.

    Attributes:
        model: The model to save.
        trained: The part of it that is fitted, sharing its weights; the model itself, or the head over features.
        train: Inputs of `trained` and labels.
        val: Likewise, for choosing the best epoch.
    """

    model: keras.Model
    trained: keras.Model
    train: LabelledImages
    val: LabelledImages


class Fit(NamedTuple):
    """A finished training: a row per epoch, the epoch kept (from 1), and what a clock measured."""

    history: pd.DataFrame
    best_epoch: int
    train_time_s: float
    epoch_times_s: list[float]


class Trained(NamedTuple):
    """A trained seed: its run, its row of timings, and the shapes that the model takes and gives."""

    run: Run
    timing: dict[str, Any]
    input_shape: tuple[int, ...]
    num_classes: int


def configure_tensorflow(threads: int) -> None:
    """Makes TensorFlow's results a function of the seed and the number of threads; before any other use of it.

    Args:
        threads: Threads within an operation and between operations. The order in which partial sums are added,
            and so the last bits of a result, depends on it.
    """
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    tf.config.experimental.enable_op_determinism()
    tf.get_logger().setLevel("ERROR")  # a new model per seed and trial is meant to be traced anew
    for gpu in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(gpu, True)


def train_seeds(
    prepare: Callable[[int], Job], settings: Training, seeds: Sequence[int], folder: Path, run: Run
) -> list[Trained]:
    """Trains once per seed; writes `seed-<s>/model.keras` and `seed-<s>/history.csv`, and a tracked run for each.

    Args:
        prepare: Builds the job of a seed; called after every generator has been seeded with it.
        settings: The stage's section of `params.yaml`.
        seeds: One training each.
        folder: An existing folder.
        run: The stage's run; each seed gets a run below it.

    Raises:
        ModelError: The loss is no longer finite.
    """
    trained = []
    for seed in seeds:
        keras.utils.clear_session()  # layers are numbered from the start, so that a seed's model doesn't tell its turn
        keras.utils.set_random_seed(seed)
        job = prepare(seed)
        with run.start_child(f"{run.name} seed {seed}") as child:
            child.log_params({**settings.model_dump(), "seed": seed, "parameters": job.model.count_params()})

            def record(epoch: int, logs: Logs, took_s: float, child: Run = child) -> None:
                child.log_metrics(logs, step=epoch)
                child.flush()
                print(_say_epoch(child.name, epoch, settings.epochs, logs, took_s), file=sys.stderr, flush=True)

            result = fit(job, settings, seed, child.name, record)
            child.log_metrics({"best_epoch": result.best_epoch, "train_time_s": result.train_time_s})
        target = folder / f"seed-{seed}"
        target.mkdir()
        save_model(job.model, target / "model.keras")
        result.history.to_csv(target / "history.csv", index=False)
        timing = _summarize_timing(seed, result, len(job.train.labels))
        trained.append(Trained(child, timing, job.model.input_shape[1:], job.model.output_shape[-1]))
    return trained


def log_trained(trained: Sequence[Trained], folder: Path) -> None:
    """Sends the models and histories of all seeds to their runs, from the folder in which they stay."""
    for result in trained:
        target = folder / f"seed-{result.timing['seed']}"
        result.run.log_artifact(target / "history.csv")
        result.run.log_model(target / "model.keras", result.input_shape, result.num_classes)
        result.run.flush()


def save_timings(trained: Sequence[Trained], stage: str, threads: int, path: Path) -> None:
    """Writes what a clock measured, apart from the metrics, which are the same on every run."""
    machine = f"{find_cpu_name()}, {psutil.cpu_count()} cores"
    timings = {"stage": stage, "machine": machine, "device": describe_device(), "threads": threads}
    path.write_text(json.dumps({**timings, "per_seed": [result.timing for result in trained]}, indent=2) + "\n")


def fit(job: Job, settings: Training, seed: int, name: str, on_epoch: OnEpoch) -> Fit:
    """Fits a model and leaves it with the weights of its best epoch.

    Args:
        job: What to fit, on what.
        settings: Epochs, batch size, optimizer.
        seed: Orders the images and seeds the random layers, epoch by epoch.
        name: Names the training in an error.
        on_epoch: Called after each epoch; what it raises ends the training.

    Raises:
        ModelError: The loss is no longer finite.
    """
    rows: list[dict[str, float]] = []
    epoch_times_s: list[float] = []

    def record(epoch: int, logs: Logs, took_s: float) -> None:
        rows.append({"epoch": epoch, **logs})
        epoch_times_s.append(took_s)
        on_epoch(epoch, logs, took_s)

    # a second model over the same layers, so that the one we save carries no optimizer
    trained = keras.Model(job.trained.input, job.trained.output)
    trained.compile(
        optimizer=build_optimizer(settings),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
        steps_per_execution=STEPS_PER_EXECUTION,
        jit_compile=False,
    )
    with tf.device("CPU"):
        order = tf.Variable(tf.range(len(job.train.labels), dtype=tf.int64), trainable=False)
    best = KeepBest()
    callbacks = [SeedEpochs(seed, order), StopOnNonFinite(name), best, RecordEpochs(record)]
    began_s = time.perf_counter()
    trained.fit(
        serve(job.train, settings.batch_size, order),
        validation_data=serve(job.val, settings.batch_size),
        epochs=settings.epochs,
        callbacks=callbacks,
        shuffle=False,
        verbose=0,
    )
    return Fit(pd.DataFrame(rows), best.best_epoch, time.perf_counter() - began_s, epoch_times_s)


def build_optimizer(settings: Training) -> keras.optimizers.Optimizer:
    """Builds the declared optimizer, with Keras's defaults for what isn't declared."""
    return keras.optimizers.get(
        {"class_name": settings.optimizer.name, "config": {"learning_rate": settings.learning_rate}}
    )


def serve(split: LabelledImages, batch_size: int, order: tf.Variable | None = None) -> tf.data.Dataset:
    """Serves batches gathered in the graph, so that pixels stay bytes until the model reads them.

    Args:
        split: Inputs and labels, each held in memory once.
        batch_size: Images a batch; the last batch may be smaller.
        order: The order to serve them in, read anew in each epoch; None for the order that they are in.

    Returns:
        Batches of (inputs, labels).
    """
    num_samples = len(split.labels)
    num_batches = -(-num_samples // batch_size)
    with tf.device("CPU"):
        inputs, labels = tf.constant(split.images), tf.constant(split.labels)

    def gather(batch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        start, end = batch * batch_size, tf.minimum((batch + 1) * batch_size, num_samples)
        if order is None:
            return inputs[start:end], labels[start:end]
        chosen = order[start:end]
        return tf.gather(inputs, chosen), tf.gather(labels, chosen)

    return tf.data.Dataset.range(num_batches).map(gather).prefetch(2)


def find_cpu_name() -> str:
    """Names the processor, such as `AMD EPYC`, or its architecture where the system doesn't tell."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def describe_device() -> str:
    """Names what the training runs on, such as `CPU` or `2 GPUs`."""
    num_gpus = len(tf.config.list_physical_devices("GPU"))
    return {0: "CPU", 1: "GPU"}.get(num_gpus, f"{num_gpus} GPUs")


def _summarize_timing(seed: int, result: Fit, num_samples: int) -> dict[str, Any]:
    epoch_time_s = float(pd.Series(result.epoch_times_s).median())
    return {
        "seed": seed,
        "train_time_s": round(result.train_time_s, 3),
        "epoch_time_s": round(epoch_time_s, 3),
        "images_per_s": round(num_samples / epoch_time_s),
        "peak_memory_bytes": measure_peak_memory(),
    }


def measure_peak_memory() -> int:
    """Returns the largest resident memory that this process has had so far, in bytes."""
    memory = psutil.Process().memory_info()
    if peak_bytes := getattr(memory, "peak_wset", 0):  # Windows
        return int(peak_bytes)
    import resource  # not there on Windows

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _say_epoch(name: str, epoch: int, epochs: int, logs: Logs, took_s: float) -> str:
    values = "  ".join(f"{key} {value:.4f}" for key, value in logs.items() if key != "learning_rate")
    return f"{name}  epoch {epoch}/{epochs}  {values}  {took_s:.1f} s"
