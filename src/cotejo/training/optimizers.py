"""Builds the declared optimizer, learning rate schedule, loss and class weights."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops
from keras.optimizers import schedules
from numpy.typing import NDArray

from cotejo.schema.trainings import OptimizerName, Schedule, Training

OPTIMIZERS: dict[OptimizerName, type[keras.optimizers.Optimizer]] = {
    "adam": keras.optimizers.Adam,
    "adamw": keras.optimizers.AdamW,
    "sgd": keras.optimizers.SGD,
    "rmsprop": keras.optimizers.RMSprop,
    "nadam": keras.optimizers.Nadam,
}


def build_optimizer(settings: Training, steps_per_epoch: int) -> keras.optimizers.Optimizer:
    """Builds the declared optimizer, with Keras's defaults for what can't be declared.

    Args:
        settings: The training's section of `params.yaml`.
        steps_per_epoch: Batches in an epoch, a smaller last one counted.
    """
    declared = settings.optimizer
    options: dict[str, Any] = {}
    if declared.name in ("sgd", "rmsprop"):
        options["momentum"] = declared.momentum
    if declared.name == "sgd":
        options["nesterov"] = declared.nesterov
    if declared.weight_decay or declared.name == "adamw":  # AdamW takes 0 for none, the others None
        options["weight_decay"] = declared.weight_decay
    return OPTIMIZERS[declared.name](
        learning_rate=build_schedule(settings, steps_per_epoch),
        global_clipnorm=declared.clip_norm or None,
        **options,
    )


def build_schedule(settings: Training, steps_per_epoch: int) -> float | schedules.LearningRateSchedule:
    """Builds what gives the learning rate of each step.

    Args:
        settings: The training's section of `params.yaml`.
        steps_per_epoch: Batches in an epoch, a smaller last one counted.

    Returns:
        A function of the number of steps done; or a number, for a rate that is constant or that `build_plateau` lowers.

    References:
        I. Loshchilov and F. Hutter, SGDR: Stochastic Gradient Descent with Warm Restarts (ICLR 2017), equation 5,
        for the cosine; here without restarts.
    """
    declared = settings.schedule
    if declared.name == "cosine":
        return _build_cosine(declared, settings.learning_rate, settings.epochs, steps_per_epoch)
    if declared.name in ("exponential", "step"):
        interval_epochs = 1 if declared.name == "exponential" else declared.interval_epochs
        return schedules.ExponentialDecay(
            settings.learning_rate, interval_epochs * steps_per_epoch, declared.factor, staircase=True
        )
    return settings.learning_rate


def _build_cosine(
    declared: Schedule, learning_rate: float, epochs: int, steps_per_epoch: int
) -> schedules.LearningRateSchedule:
    """From 0 up to `learning_rate` in a straight line, then down along half a cosine until the last step is done."""
    has_warmup = declared.warmup_epochs > 0
    return schedules.CosineDecay(
        initial_learning_rate=0.0 if has_warmup else learning_rate,
        warmup_target=learning_rate if has_warmup else None,
        warmup_steps=declared.warmup_epochs * steps_per_epoch,
        decay_steps=(epochs - declared.warmup_epochs) * steps_per_epoch,
        alpha=declared.final_fraction,
    )


def build_plateau(settings: Training) -> keras.callbacks.ReduceLROnPlateau | None:
    """Builds the callback of the schedule `plateau`; None with any other schedule."""
    declared = settings.schedule
    if declared.name != "plateau":
        return None
    return keras.callbacks.ReduceLROnPlateau(
        monitor="val_loss", factor=declared.factor, patience=declared.interval_epochs, min_delta=0.0
    )


def build_loss(settings: Training, num_classes: int) -> keras.losses.Loss:
    """Builds the cross-entropy of integer labels, of shape (batch,), and probabilities, (batch, num_classes).

    Args:
        settings: The training's section of `params.yaml`; its `label_smoothing` is the share of each label that is
            spread evenly over all classes, the true one included.
        num_classes: Classes of the data set.

    References:
        C. Szegedy et al., Rethinking the Inception Architecture for Computer Vision (CVPR 2016), section 7.
    """
    if settings.label_smoothing:
        return SmoothedCrossentropy(num_classes, settings.label_smoothing)
    return keras.losses.SparseCategoricalCrossentropy()


class SmoothedCrossentropy(keras.losses.Loss):
    """Cross-entropy of integer labels with label smoothing, which Keras has for one-hot labels only.

    Args:
        num_classes: Columns of the probabilities.
        label_smoothing: Share of each label that is spread over all classes.
    """

    def __init__(self, num_classes: int, label_smoothing: float) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.label_smoothing = label_smoothing

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """Returns the loss of each sample, shape (batch,); Keras hands over labels as float32."""
        one_hot = ops.one_hot(ops.cast(y_true, "int32"), self.num_classes, dtype=y_pred.dtype)
        return keras.losses.categorical_crossentropy(one_hot, y_pred, label_smoothing=self.label_smoothing)


def weigh_classes(labels: NDArray[np.integer[Any]], num_classes: int) -> dict[int, float]:
    """Returns the weight with which each class counts as much as any other, however many images it has.

    Args:
        labels: Classes of the training images.
        num_classes: Classes of the data set.

    Returns:
        Weights by class, scikit-learn's `balanced`: images / (classes with images * images of the class). They average
        1 over the images. A class without images, whose weight is never used, has 0.
    """
    counts = np.bincount(labels, minlength=num_classes)
    num_present = np.count_nonzero(counts)
    return {number: len(labels) / (num_present * int(count)) if count else 0.0 for number, count in enumerate(counts)}
