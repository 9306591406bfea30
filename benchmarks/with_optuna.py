"""What a user of Optuna and Keras writes without Cotejo: one trial after the other, each trained to its end."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import optuna
from keras import layers
from numpy.typing import NDArray
from search_race import declare, measure_age, watch_memory

from cotejo.data.splits import load_split
from cotejo.schema.searches import Dimension, FloatDimension

NUM_CLASSES = 10
POOLINGS = {"max": layers.MaxPooling2D, "average": layers.AveragePooling2D}


def search(folder: str, num_trials: int, epochs: int, seed: int) -> dict[str, Any]:
    """Runs a random search of LeNet; its clock begins with the process.

    Args:
        folder: Prepared images.
        num_trials: Trials, each of which is trained to its end.
        epochs: Of each trial.
        seed: Of the sampler.

    Returns:
        The seconds in all, the best validation accuracy of any epoch of any trial, and the trials.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = declare(num_trials, epochs, seed).search.space
    (x_train, y_train), (x_val, y_val) = (load_floats(folder, split) for split in ("train", "val"))
    trials: list[dict[str, Any]] = []

    def objective(trial: optuna.Trial) -> float:
        values = {key: suggest(trial, key, dimension) for key, dimension in space.items()}
        model = build_lenet(values["activation"], values["pooling"], values["dropout_rate"])
        model.compile(
            optimizer=keras.optimizers.Adam(values["learning_rate"]),
            loss="sparse_categorical_crossentropy",
            metrics=["accuracy"],
        )
        history = model.fit(
            x_train, y_train, batch_size=values["batch_size"], epochs=epochs, validation_data=(x_val, y_val), verbose=0
        ).history
        value = max(history["val_accuracy"])
        trials.append({"number": trial.number, "state": "COMPLETE", "value": value, "epochs": epochs,
                       "ended_s": measure_age()})  # fmt: skip
        return value

    with watch_memory() as memory:
        study = optuna.create_study(
            direction="maximize", sampler=optuna.samplers.RandomSampler(seed), pruner=optuna.pruners.NopPruner()
        )
        study.optimize(objective, n_trials=num_trials)
    return {
        "total_time_s": measure_age(),
        "best": study.best_value,
        "memory_bytes": memory.peak_bytes,
        "trials": trials,
    }


def load_floats(folder: str, split: str) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Returns images from 0 to 1, and labels."""
    images, labels = load_split(Path(folder), split)
    return images.astype("float32") / 255, labels


def suggest(trial: optuna.Trial, key: str, dimension: Dimension) -> Any:  # noqa: ANN401 - as the space declares it
    """Suggests a float or a choice."""
    if isinstance(dimension, FloatDimension):
        return trial.suggest_float(key, dimension.low, dimension.high, log=dimension.log)
    return trial.suggest_categorical(key, dimension.points)


def build_lenet(activation: str, pooling: str, dropout_rate: float) -> keras.Model:
    """Cotejo's lenet5 in Keras's own layers, from floats."""
    pool = POOLINGS[pooling]
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.ZeroPadding2D(2),
            layers.Conv2D(6, 5, activation=activation),
            pool(2),
            layers.Conv2D(16, 5, activation=activation),
            pool(2),
            layers.Flatten(),
            layers.Dense(120, activation=activation),
            layers.Dense(84, activation=activation),
            layers.Dropout(dropout_rate),
            layers.Dense(NUM_CLASSES, activation="softmax"),
        ]
    )
