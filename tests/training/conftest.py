"""Small jobs that several tests of training use."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from cotejo.data.readers import LabelledImages
from cotejo.data.splits import Dataset
from cotejo.tracking.journal import Run, Tracker


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
