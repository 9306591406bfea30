"""Fits a model and keeps its best epoch; a training that was killed is resumed from its last checkpoint."""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from numpy.typing import NDArray

from cotejo.data.readers import LabelledImages
from cotejo.data.splits import TrainingData
from cotejo.models.layers import check_trainable, uses_batch_statistics
from cotejo.schema.trainings import Training
from cotejo.training.augmentation import build_augmentation
from cotejo.training.callbacks import Logs, RecordEpochs, ReportEpochs, SeedEpochs, StopOnNonFinite
from cotejo.training.checkpoint import Checkpoints, SaveCheckpoints
from cotejo.training.hardware import Hardware
from cotejo.training.optimizers import build_loss, build_optimizer, build_plateau, weigh_classes
from cotejo.training.progress import show_progress
from cotejo.training.split_batch import Mirrored, SplitBatchModel

#: Training steps per call from Python into TensorFlow: fewer calls, the same bits.
STEPS_PER_EXECUTION = 32

#: Receives an epoch's row: its number (from 1) and the metrics by name.
OnEpoch = Callable[[Logs], None]


class Job(NamedTuple):
    """Training of one seed.

    Attributes:
        model: The model to save.
        trained: The part of it that is fitted, sharing its weights; the model itself, or the head over features.
        train: Inputs of `trained` and labels.
        val: Inputs of `trained` and labels, for choosing the best epoch.
    """

    model: keras.Model
    trained: keras.Model
    train: LabelledImages
    val: LabelledImages

    @classmethod
    def of(cls, model: keras.Model, train: LabelledImages, val: LabelledImages) -> "Job":
        """Returns the job of fitting a model as a whole."""
        return cls(model, model, train, val)


#: Builds the job of a seed; called after every generator has been seeded with it.
Prepare = Callable[[int], Job]
#: Returns what builds the jobs on these images, on this hardware; called once, before the first seed. It must be a
#: function that another process can import, or a partial of one.
Build = Callable[[TrainingData, Hardware], Prepare]


class Fit(NamedTuple):
    """A finished training.

    Attributes:
        history: A row per epoch; `kept` is true for the one whose weights were kept.
        best_epoch: The epoch (from 1) whose weights were kept.
        times: The seconds of each epoch, and those of them that were training.
    """

    history: pd.DataFrame
    best_epoch: int
    times: pd.DataFrame


def fit(
    job: Job,
    settings: Training,
    seed: int,
    name: str,
    on_epoch: OnEpoch,
    hardware: Hardware,
    checkpoints: Checkpoints | None = None,
) -> Fit:
    """Fits a model and leaves it with the weights of its best epoch.

    Args:
        job: What to fit, on what.
        settings: The training's section of `params.yaml`.
        seed: Orders the images and seeds the random layers, epoch by epoch.
        name: Names the training in an error and on the terminal.
        on_epoch: Called after each epoch; what it raises ends the training.
        hardware: What to train on.
        checkpoints: Where to save each epoch, and what to resume from; None for no checkpoints.

    Raises:
        ModelError: The loss is no longer finite, or the model can't be trained.
    """
    check_trainable(job.trained)
    last = checkpoints.last if checkpoints else None
    record: dict[str, Any] = {key: last.record[key] if last else [] for key in ("rows", "times")}
    with hardware.strategy.scope():
        trained = _compile(job, settings, hardware)
    with tf.device("CPU"):
        order = tf.Variable(tf.range(len(job.train.labels), dtype=tf.int64), trainable=False)

    early_stopping = _build_early_stopping(settings)
    stateful = [early_stopping, *filter(None, [build_plateau(settings)])]
    callbacks = [SeedEpochs(seed, order), StopOnNonFinite(name), RecordEpochs(record["rows"], record["times"])]
    callbacks += stateful
    if checkpoints is not None:
        callbacks.append(SaveCheckpoints(checkpoints, stateful, record))
    callbacks.append(ReportEpochs(record["rows"], on_epoch))

    first = last.epoch if last else 0
    has_ended = last is not None and last.record["has_ended"]
    num_classes = job.model.output_shape[-1]
    weights = weigh_classes(job.train.labels, num_classes) if settings.class_weights == "balanced" else None
    with show_progress(name, settings.epochs, record["rows"]) as progress:
        trained.fit(
            serve(job.train, settings.batch_size, hardware.max_bytes_in_graph, order),
            validation_data=serve(job.val, settings.batch_size, hardware.max_bytes_in_graph),
            initial_epoch=first,
            epochs=first if has_ended else settings.epochs,
            class_weight=weights,
            callbacks=[*callbacks, progress],
            shuffle=False,
            verbose=0,
        )
    history = pd.DataFrame(record["rows"])
    best_epoch = early_stopping.best_epoch + 1 if settings.early_stopping.restore_best else len(history)
    history["kept"] = history["epoch"] == best_epoch
    return Fit(history, best_epoch, pd.DataFrame(record["times"]))


def _compile(job: Job, settings: Training, hardware: Hardware) -> keras.Model:
    """Wraps what is trained into a second model over the same layers, so that the one we save has no optimizer."""
    images = job.trained.input
    output = job.trained.output
    augmentation = build_augmentation(settings.augmentation, job.trained.input_shape[1:])
    if augmentation is not None:
        images = keras.Input(job.trained.input_shape[1:], dtype=job.trained.input.dtype, name="images")
        output = job.trained(augmentation(images))
    is_mirrored = hardware.strategy.num_replicas_in_sync > 1
    if hardware.num_parts > 1 and not uses_batch_statistics(job.trained):
        trained = SplitBatchModel(images, output)
        trained.num_parts = hardware.num_parts
    else:
        trained = (Mirrored if is_mirrored else keras.Model)(images, output)
    trained.compile(
        optimizer=build_optimizer(settings, -(-len(job.train.labels) // settings.batch_size)),
        loss=build_loss(settings, job.model.output_shape[-1]),
        # the loss has label smoothing and penalties in it, which models may declare differently
        metrics=["accuracy", keras.metrics.SparseCategoricalCrossentropy(name="cross_entropy")],
        # a loop of distributed steps trips over TensorFlow's own graph optimizer
        steps_per_execution=1 if is_mirrored else STEPS_PER_EXECUTION,
        jit_compile=False,
    )
    trained.optimizer.build(trained.trainable_variables)
    if not is_mirrored:
        _build_metrics(trained)
    return trained


def _build_metrics(trained: keras.Model) -> None:
    """Builds the metrics' variables now: built in the first step, TensorFlow would trace it a second time."""
    trained.compute_metrics(None, np.zeros(1, np.int64), np.zeros((1, trained.output_shape[-1]), np.float32))
    trained.reset_metrics()


def _build_early_stopping(settings: Training) -> keras.callbacks.EarlyStopping:
    """Keras's own, which also keeps the best weights; with patience 0 it never stops."""
    declared = settings.early_stopping
    return keras.callbacks.EarlyStopping(
        monitor=declared.monitor,
        mode=declared.mode,
        min_delta=declared.min_delta,
        patience=declared.patience or settings.epochs,
        restore_best_weights=declared.restore_best,
    )


def serve(
    split: LabelledImages, batch_size: int, max_bytes_in_graph: int, order: tf.Variable | None = None
) -> tf.data.Dataset:
    """Serves batches gathered in the graph, so that pixels stay bytes until the model reads them.

    Args:
        split: Inputs and labels; held in memory once, or read from the disk where they are large.
        batch_size: Images a batch; the last batch may be smaller.
        max_bytes_in_graph: Inputs that are larger are read batch by batch, while the batch before is trained on.
        order: The order to serve them in, read anew in each epoch; None for the order that they are in.

    Returns:
        Batches of (inputs, labels).
    """
    num_samples = len(split.labels)
    num_batches = -(-num_samples // batch_size)
    gather = _gather_in_graph if split.images.nbytes <= max_bytes_in_graph else _gather_from_disk
    take = gather(split)

    def choose(batch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        start, end = batch * batch_size, tf.minimum((batch + 1) * batch_size, num_samples)
        return take(tf.range(start, end) if order is None else order[start:end])

    options = tf.data.Options()
    options.autotune.enabled = False  # its threads would take turns with those that train
    return tf.data.Dataset.range(num_batches).map(choose).prefetch(2).with_options(options)


def _gather_in_graph(split: LabelledImages) -> Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
    with tf.device("CPU"):
        inputs, labels = tf.constant(split.images[:]), tf.constant(split.labels)
    return lambda chosen: (tf.gather(inputs, chosen), tf.gather(labels, chosen))


def _gather_from_disk(split: LabelledImages) -> Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
    def read(chosen: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[np.int64]]:
        return split.images[chosen], split.labels[chosen]

    def take(chosen: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        inputs, labels = tf.numpy_function(read, [chosen], [split.images.dtype, split.labels.dtype])
        inputs.set_shape((None, *split.images.shape[1:]))
        labels.set_shape((None,))
        return inputs, labels

    return take
