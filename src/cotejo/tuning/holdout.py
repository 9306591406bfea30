"""The validation images of a search, split in two: some choose the winner, the others confirm it."""

from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from cotejo.data.readers import LabelledImages
from cotejo.errors import DataError

Rows = NDArray[np.int64]

#: Drawn from beside `search.seed`, as no trial has this number: see `derive_seeds`.
NO_TRIAL = 2**32


class Holdout(NamedTuple):
    """Rows of the validation images, in ascending order.

    Attributes:
        selecting: What trials see: they choose the best epochs and the winner.
        held_out: What no trial sees; none where `search.holdout` is 0.
    """

    selecting: Rows
    held_out: Rows

    @property
    def confirming(self) -> Rows:
        """The images to confirm the winner on: the held-out ones, or those that chose it if none are held out."""
        return self.held_out if len(self.held_out) else self.selecting


def draw_holdout(labels: NDArray[np.int64], share: float, seed: int) -> Holdout:
    """Draws the validation images that are held out, stratified by class: a function of its arguments alone.

    Of each class the share is rounded to whole images, at least one on either side.

    Args:
        labels: Labels of all validation images, shape (num_samples,).
        share: Share to hold out, 0 up to, but not including, 1; 0 holds out none.
        seed: `search.seed`.

    Raises:
        DataError: A class has a single image, so that it can't be on both sides.
    """
    is_held_out = np.zeros(len(labels), dtype=bool)
    generator = np.random.default_rng((seed, NO_TRIAL))
    for label in np.unique(labels) if share else ():
        (rows,) = np.nonzero(labels == label)
        if len(rows) < 2:
            raise DataError(
                where="search.holdout",
                expected="two validation images of each class or more, to have one that chooses and one that confirms",
                received=f"one of class {label}",
                advice="Set search.holdout to 0 in params.yaml, or raise preprocess.validation_fraction",
            )
        count = min(max(round(share * len(rows)), 1), len(rows) - 1)
        is_held_out[generator.permutation(rows)[:count]] = True
    return Holdout(np.flatnonzero(~is_held_out), np.flatnonzero(is_held_out))


def take_images(whole: LabelledImages, rows: Rows) -> LabelledImages:
    """Returns some of the images; their pixels stay on the disk until they are asked for, where the whole's do."""
    if len(rows) == len(whole.labels):
        return whole
    return LabelledImages(cast(NDArray[np.uint8], _TakenRows(whole.images, rows)), whole.labels[rows])


class _TakenRows:
    """Some rows of an array, as far as a training reads one."""

    def __init__(self, whole: NDArray[Any], rows: Rows) -> None:
        self.whole = whole
        self.rows = rows
        self.dtype = whole.dtype
        self.shape = (len(rows), *whole.shape[1:])
        self.nbytes = int(np.prod(self.shape)) * whole.itemsize

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: Any) -> Any:  # noqa: ANN401 - a slice or rows, as of an array
        return self.whole[self.rows[key]]
