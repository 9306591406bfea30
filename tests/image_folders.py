"""Folders of pictures for tests, written by Pillow."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cotejo.data.card import build_card
from cotejo.data.collection import collect_images
from cotejo.data.preparation import Prepared, prepare_images
from cotejo.operations import parse_operations
from cotejo.schema import Data, Preprocess

RESIZE = {
    "name": "resize", "height": 8, "width": 8, "interpolation": "area", "keep_aspect": True, "pad_value": 0,
}  # fmt: skip


def draw(number: int, *, side: int = 8, channels: int = 1) -> NDArray[np.uint8]:
    """Returns a picture that no other number gives, of shape (side, side) or (side, side, 3)."""
    shape = (side, side) if channels == 1 else (side, side, channels)
    return np.random.default_rng(number).integers(0, 256, shape, np.uint8)


def save(path: Path, pixels: NDArray[Any], **options: Any) -> Path:
    """Writes a picture, and the folders that it needs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def make_classes(folder: Path, names: tuple[str, ...] = ("cat", "dog"), count: int = 10, first: int = 0) -> Path:
    """Makes a folder per class, with so many grey PNG files of 8x8 pixels, no two alike."""
    for index, name in enumerate(names):
        for number in range(count):
            save(folder / name / f"{number:03}.png", draw(first + index * count + number))
    return folder


def make_splits(folder: Path, *splits: str, names: tuple[str, ...] = ("cat", "dog")) -> Path:
    """Makes the classes once in each split, no picture in two."""
    for index, split in enumerate(splits):
        make_classes(folder / split, names, first=1000 * index)
    return folder


def prepare(folder: Path, out: Path, workers: int = 2, **changes: Any) -> tuple[Prepared, Mapping[str, Any]]:
    """Prepares a folder, half of the training images for validation; returns what came of it and its card.

    Args:
        folder: The images.
        out: Where the splits go.
        workers: Threads.
        changes: Of the section `data`; `operations` and `seed` as well.
    """
    operations = parse_operations(changes.pop("operations", []), "the test")
    seed = changes.pop("seed", 0)
    preprocess = Preprocess(validation_fraction=0.5, test_fraction=0.4, seed=seed, operations=operations)
    policies = {"color": "auto", "duplicates": "drop", "on_bad_file": "fail", **changes}
    data = Data(name="directory", path=str(folder), **policies)
    out.mkdir(exist_ok=True)
    collection = collect_images(data, preprocess)
    prepared = prepare_images(collection, data, operations, out, workers)
    return prepared, build_card(collection, prepared, data, preprocess)
