"""Train, validation and test split: made once, saved as a few big files, read row by row."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from sklearn.model_selection import train_test_split

from cotejo.data.readers import LabelledImages, PublishedSplits
from cotejo.data.stored import open_stored
from cotejo.errors import DataError

SPLITS = ("train", "val", "test")


class Dataset(NamedTuple):
    """Description of a prepared data set, as in `dataset.json`.

    Attributes:
        name: The data set's name in `params.yaml`.
        class_names: One name per label.
        image_shape: (height, width, channels).
        digest: SHA-256 of images and labels.
        operations: The declared ones that the images have gone through.
        color: What the images were converted to before: grey | rgb; None for as they were published.
    """

    name: str
    class_names: list[str]
    image_shape: tuple[int, int, int]
    digest: str
    operations: tuple[dict[str, Any], ...] = ()
    color: str | None = None

    @property
    def num_classes(self) -> int:
        """The number of classes, also of those that a split lacks."""
        return len(self.class_names)


class TrainingData(NamedTuple):
    """The part of a prepared data set that a training may see."""

    dataset: Dataset
    train: LabelledImages
    val: LabelledImages


def split_published(
    published: PublishedSplits, validation_fraction: float, test_fraction: float, seed: int
) -> dict[str, LabelledImages]:
    """Splits a data set into train, val and test, stratified by class.

    The validation images come out of the training images; the test images are the published ones. Only where the
    authors made no test set is one taken out of the training images too. Each split keeps the published order.

    Args:
        published: The data set.
        validation_fraction: Share of the training images to hold out, between 0 and 1.
        test_fraction: Share of all images to hold out where there is no test set, between 0 and 1.
        seed: Seed of both splits.

    Raises:
        DataError: A class has too few images to be in every split.
    """
    train, test = published
    if test is None:
        train, test = _hold_out(train, test_fraction, seed)
    train, val = _hold_out(train, validation_fraction, seed)
    return {"train": train, "val": val, "test": test}


def load_dataset(folder: Path) -> Dataset:
    """Reads `dataset.json`.

    Raises:
        DataError: The folder wasn't written by preprocess.
    """
    try:
        description = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
        return Dataset(
            description["name"],
            description["class_names"],
            tuple(description["image_shape"]),
            description["digest"],
            tuple(description.get("operations", ())),
            description.get("color"),
        )
    except (OSError, ValueError, KeyError) as error:
        raise _not_prepared(folder, error) from error


def load_split(folder: Path, split: str) -> LabelledImages:
    """Opens one split; pixels are read from the disk when they are used, and don't stay in memory.

    Args:
        folder: The folder that preprocess wrote.
        split: `train`, `val` or `test`.

    Raises:
        DataError: The folder wasn't written by preprocess.
    """
    try:
        images = open_stored(folder / f"{split}_images.npy")
        return LabelledImages(images, np.load(folder / f"{split}_labels.npy", allow_pickle=False))
    except (OSError, EOFError, ValueError) as error:
        raise _not_prepared(folder, error) from error


def load_training_data(folder: Path) -> TrainingData:
    """Reads all that a training may see; raises `DataError` as `load_dataset` and `load_split` do."""
    return TrainingData(load_dataset(folder), load_split(folder, "train"), load_split(folder, "val"))


def _hold_out(whole: LabelledImages, fraction: float, seed: int) -> tuple[LabelledImages, LabelledImages]:
    try:
        kept, held_out = train_test_split(
            np.arange(len(whole.labels)), test_size=fraction, random_state=seed, stratify=whole.labels
        )
    except ValueError as error:
        raise DataError(
            expected=f"enough images of each class to hold out {fraction:g} of {len(whole.labels):,}",
            received=f"{error} Change preprocess.validation_fraction or preprocess.test_fraction in params.yaml",
        ) from error
    kept.sort()
    held_out.sort()
    return LabelledImages(whole.images[kept], whole.labels[kept]), LabelledImages(
        whole.images[held_out], whole.labels[held_out]
    )


def _not_prepared(folder: Path, error: Exception) -> DataError:
    return DataError(
        where=folder, expected="the splits that preprocess writes", received=error, advice="Run `dvc repro preprocess`"
    )
