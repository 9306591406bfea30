"""Small jobs that several tests of training use."""

from collections.abc import Mapping
from pathlib import Path
from typing import IO

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.datasets import load_digits

from copied_study import ROOT
from cotejo.data.readers import LabelledImages
from cotejo.data.splits import Dataset
from cotejo.tracking.journal import Run
from cotejo.tracking.outbox.sender import Tracker
from cotejo.training.hardware import Hardware
from warm import WarmProcess


@pytest.fixture(scope="session")
def digits():
    """Scikit-learn's digits, 300 to train and 100 to validate: uint8 images of shape (8, 8, 1)."""
    bundled = load_digits()
    images = np.rint(bundled.images * (255 / 16)).astype(np.uint8)[..., np.newaxis]
    labels = bundled.target.astype(np.int64)
    return LabelledImages(images[:300], labels[:300]), LabelledImages(images[300:400], labels[300:400])


@pytest.fixture
def dataset():
    return Dataset("digits", [str(digit) for digit in range(10)], (8, 8, 1), "0" * 64)


@pytest.fixture
def run(tmp_path):
    """A run whose journal stays on this machine."""
    return Run(Tracker(tmp_path / "journal", lambda _: None), "train-lenet", None, {})


@pytest.fixture(scope="session")
def hardware():
    """Two threads that train a batch as a whole."""
    return Hardware("CPU", 2, 1, "float32", tf.distribute.get_strategy())


@pytest.fixture(scope="session")
def start_script(environment, tmp_path_factory):
    """Returns a function that starts Python code in a fork of a warm interpreter, with the tests' modules."""

    def start(
        code: str, *arguments: str, cwd: Path, env: Mapping[str, str] = environment, log: IO[str] | None = None
    ) -> WarmProcess:
        script = tmp_path_factory.mktemp("script") / "script.py"
        script.write_text(code)
        return WarmProcess([str(script), *arguments], cwd, {**env, "PYTHONPATH": str(ROOT / "tests")}, log)

    return start


@pytest.fixture(scope="session")
def run_script(start_script):
    """Returns a function that runs such code, which has to succeed, and returns what it prints: stdout, stderr."""

    def run(code: str, *arguments: str, cwd: Path) -> tuple[str, str]:
        process = start_script(code, *arguments, cwd=cwd)
        stdout, stderr = process.communicate(timeout=240)
        assert process.returncode == 0, stderr
        return stdout, stderr

    return run


@pytest.fixture(scope="session")
def build_dense():
    """Returns a function that builds a net of two dense layers, from the same weights each time.

    In front of them there is a convolution for each number of filters.
    """

    def build(l2=0.0, dropout_rate=0.0, filters=()):
        keras.utils.set_random_seed(5)
        regularizer = keras.regularizers.L2(l2)
        images = keras.Input((8, 8, 1), dtype="uint8", name="images")
        x = keras.layers.Rescaling(1 / 255)(images)
        for num in filters:
            x = keras.layers.Conv2D(num, 3, kernel_regularizer=regularizer)(x)
        x = keras.layers.Flatten()(x)
        x = keras.layers.Dense(24, activation="relu", kernel_regularizer=regularizer)(x)
        x = keras.layers.Dropout(dropout_rate)(x)
        outputs = keras.layers.Dense(10, activation="softmax", kernel_regularizer=regularizer, dtype="float32")(x)
        return keras.Model(images, outputs, name="dense")

    return build
