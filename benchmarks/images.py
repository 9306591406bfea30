"""Generated images of Fashion-MNIST's size: a net's speed doesn't depend on what they show."""

import numpy as np
from numpy.typing import NDArray

IMAGE_SHAPE = (28, 28, 1)
NUM_CLASSES = 10


def draw_images(num_samples: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Returns random images, uint8 of shape (num_samples, 28, 28, 1), and labels of shape (num_samples,)."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (num_samples, *IMAGE_SHAPE), np.uint8)
    return images, generator.integers(0, NUM_CLASSES, num_samples)
