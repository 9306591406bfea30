"""Uses of private parts of other libraries, in one place: `tests/test_upstream.py` fails when one of them moves."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras


@contextmanager
def seeding_layers(seed: int) -> Iterator[None]:
    """Seeds the layers that are built meanwhile, whatever other threads draw.

    Keras 3.15 draws a layer's seed from Python's global generator, from which the threads that send records and hold
    workers draw as well. Keras discusses a generator of its own: https://github.com/keras-team/keras/pull/22709
    """
    from keras.src.random import seed_generator

    shared, seed_generator.python_random = seed_generator.python_random, random.Random(seed)  # noqa: S311 - no secret
    try:
        yield
    finally:
        seed_generator.python_random = shared


def count_graphs(model: "keras.Model") -> int:
    """Returns how many graphs a model's `predict` has built so far: a call that builds one isn't to be timed.

    TensorFlow 2.21 counts them by a method that it calls experimental and hasn't replaced:
    https://www.tensorflow.org/api_docs/python/tf/types/experimental/PolymorphicFunction
    """
    return int(model.predict_function.experimental_get_tracing_count())


def create_mlflow_tables(database: Path) -> None:
    """Creates the tables of MLflow in a new SQLite database.

    MLflow 3.17 creates them when a database is first opened, and can't open one again that a kill has left half made:
    https://github.com/mlflow/mlflow/issues/23721
    """
    from mlflow.store.db.utils import _initialize_tables
    from sqlalchemy import create_engine

    engine = create_engine(f"sqlite:///{database}")
    _initialize_tables(engine)
    engine.dispose()


def remove_study_lock(journal: Path) -> None:
    """Removes the lock that a killed process has left beside the journal of an Optuna study.

    Optuna 5.0 names it after the journal, and a next process would wait for it for half a minute:
    https://optuna.readthedocs.io/en/stable/reference/generated/optuna.storages.journal.JournalFileSymlinkLock.html
    """
    journal.with_name(f"{journal.name}.lock").unlink(missing_ok=True)
