"""Compares the predictions of an exported file with Keras's."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cotejo.serving.runtimes import Run

#: The largest difference of a probability that counts as the same model; sums in another order differ by some 1e-5.
TOLERANCE = 1e-3
#: The smallest share of the same answers that counts as the same model.
LEAST_AGREEMENT = 0.99
BATCH_SIZE = 100


class Parity(NamedTuple):
    """Difference between a file's predictions and Keras's.

    Attributes:
        num_images: The images that both were given.
        top1_agreement: Share of them with the same class.
        largest_difference: Largest difference of a probability; not finite where the file answers no probabilities.
    """

    num_images: int
    top1_agreement: float
    largest_difference: float

    @property
    def holds(self) -> bool:
        """Whether the file is the same model."""
        return self.largest_difference <= TOLERANCE and self.top1_agreement >= LEAST_AGREEMENT

    def __str__(self) -> str:
        return (
            f"top-1 agreement {self.top1_agreement:.2%}, largest difference of a probability "
            f"{self.largest_difference:.2g}, on {self.num_images:,} test images"
        )


def compute_parity(expected: NDArray[np.float32], received: NDArray[np.float32]) -> Parity:
    """Compares two models' probabilities of the same images.

    Args:
        expected: Keras's, of shape (num_images, num_classes).
        received: The file's, of the same shape.

    Returns:
        How far apart they are; infinitely, where the shapes differ or something isn't a number.
    """
    if expected.shape != received.shape or not np.isfinite(received).all():
        return Parity(len(expected), 0.0, float("inf"))
    same = expected.argmax(axis=1) == received.argmax(axis=1)
    return Parity(len(expected), float(same.mean()), float(np.abs(expected - received).max()))


def run_all(run: Run, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Predicts images batch by batch."""
    return np.concatenate([run(images[start : start + BATCH_SIZE]) for start in range(0, len(images), BATCH_SIZE)])
