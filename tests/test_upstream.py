"""The private parts of other libraries that we use are where they were, and do what we rely on."""

import os
import random
import sqlite3
from pathlib import Path

import keras
import mlflow
import numpy as np
import optuna
from optuna.storages.journal import JournalFileBackend

from cotejo.upstream import count_graphs, create_mlflow_tables, remove_study_lock, seeding_layers


def build_layer():
    layer = keras.layers.Dense(3)
    layer.build((None, 2))
    return layer.get_weights()[0]


def test_layers_are_seeded_whatever_other_threads_draw():
    weights = []
    for draws in (0, 5):
        random.seed(1)
        keras.utils.set_random_seed(7)
        with seeding_layers(7):
            for _ in range(draws):
                random.shuffle([1, 2, 3])  # as a thread may, from the global generator
            weights.append(build_layer())
    np.testing.assert_array_equal(*weights)
    with seeding_layers(8):
        assert not np.array_equal(build_layer(), weights[0])


def test_the_global_generator_is_as_before_after_the_block():
    state = random.getstate()
    with seeding_layers(7):
        build_layer()
    assert random.getstate() == state


def test_a_graph_is_counted_when_predict_builds_one():
    model = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(1)])
    counts = []
    for size in (4, 4, 6):
        model.predict_on_batch(np.zeros((size, 2), np.float32))
        counts.append(count_graphs(model))
    assert counts[0] == counts[1] == 1
    assert counts[2] == 2


def test_mlflow_opens_a_database_whose_tables_we_have_created(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    database = tmp_path / "mlflow.db"
    create_mlflow_tables(database)
    before = database.read_bytes()
    client = mlflow.MlflowClient(f"sqlite:///{database}")
    assert [experiment.name for experiment in client.search_experiments()] in ([], ["Default"])
    with sqlite3.connect(database) as connection:
        (version,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    assert version.encode() in before, "nothing had to be migrated"


def test_the_lock_that_is_removed_is_the_one_that_optuna_takes(tmp_path, monkeypatch):
    journal, taken, symlink = tmp_path / "study.log", [], os.symlink
    monkeypatch.setattr(os, "symlink", lambda source, lock: (taken.append(Path(lock)), symlink(source, lock)))
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(journal)))
    study = optuna.create_study(storage=storage)
    (lock,) = set(taken)
    symlink(journal, lock)  # as a killed process leaves it
    remove_study_lock(journal)
    assert not lock.is_symlink()
    study.add_trial(optuna.trial.create_trial(value=1.0))
    assert len(study.trials) == 1
