"""Small jobs that several tests of training use."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.datasets import load_digits

from cotejo.data.readers import LabelledImages
from cotejo.data.splits import Dataset
from cotejo.tracking.journal import Run
from cotejo.tracking.sender import Tracker
from cotejo.training.hardware import Hardware


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
