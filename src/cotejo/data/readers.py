"""Readers of the formats in which data sets are published; nothing is ever unpickled."""

import gzip
import math
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cotejo.errors import DataError

#: Magic number of an IDX file of unsigned bytes, less its number of dimensions. http://yann.lecun.com/exdb/mnist
IDX_UNSIGNED_BYTES = 0x0800


class LabelledImages(NamedTuple):
    """Images, uint8 of shape (num_samples, height, width, channels), and labels, int64 of shape (num_samples,)."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]


class PublishedSplits(NamedTuple):
    """A data set as published; `test` is None if its authors made no test set."""

    train: LabelledImages
    test: LabelledImages | None


def read_published(file_format: str, folder: Path, num_classes: int) -> PublishedSplits:
    """Reads a data set from the files that its authors publish.

    Args:
        file_format: `idx`, `npz`, `cifar` or `digits`.
        folder: Where the files are, under their official names.
        num_classes: Labels must be 0 to num_classes - 1.

    Raises:
        DataError: A file is missing or of another form.
    """
    readers = {"idx": _read_mnist_layout, "npz": _read_npz, "cifar": _read_cifar, "digits": _read_digits}
    try:
        splits = readers[file_format](folder)
    except (OSError, EOFError, KeyError, ValueError, zlib.error, tarfile.TarError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{folder}: expected a data set in the {file_format} format. Received: {error}. "
            "Delete the folder and run `dvc repro download` again."
        ) from error
    for split in splits:
        if split is not None:
            _check_labelled(split, num_classes, folder)
    return splits


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Reads a gzipped IDX file of unsigned bytes.

    Args:
        path: The file.

    Returns:
        uint8 array of the shape that the file declares.

    Raises:
        DataError: The magic number or the size isn't that of such a file.

    References:
        http://yann.lecun.com/exdb/mnist, "The IDX file format"
    """
    with gzip.open(path, "rb") as file:
        content = file.read()
    header = np.frombuffer(content, ">u4", count=1 + content[3] if len(content) > 3 else 0)
    if header.size == 0 or header[0] != IDX_UNSIGNED_BYTES + content[3]:
        raise DataError(f"{path}: expected an IDX file of unsigned bytes. Received: first bytes {content[:4].hex()!r}.")
    shape = tuple(int(length) for length in header[1:])
    values = np.frombuffer(content, np.uint8, offset=header.nbytes)
    if values.size != math.prod(shape):
        raise DataError(f"{path}: expected {math.prod(shape):,} values for shape {shape}. Received: {values.size:,}.")
    return values.reshape(shape)


def _read_mnist_layout(folder: Path) -> PublishedSplits:
    def read(prefix: str) -> LabelledImages:
        images = read_idx(folder / f"{prefix}-images-idx3-ubyte.gz")
        labels = read_idx(folder / f"{prefix}-labels-idx1-ubyte.gz")
        return LabelledImages(images[..., np.newaxis], labels.astype(np.int64))

    return PublishedSplits(read("train"), read("t10k"))


def _read_npz(folder: Path) -> PublishedSplits:
    # numpy leaves a damaged archive open that it has opened itself
    with (folder / "mnist.npz").open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        train, test = (
            LabelledImages(arrays[f"x_{split}"][..., np.newaxis], arrays[f"y_{split}"].astype(np.int64))
            for split in ("train", "test")
        )
    return PublishedSplits(train, test)


def _read_cifar(folder: Path) -> PublishedSplits:
    """Reads CIFAR-10's binary version: a label byte, then 32x32 red, green and blue bytes, per image."""
    with tarfile.open(folder / "cifar-10-binary.tar.gz") as archive:

        def read(*names: str) -> LabelledImages:
            members = [archive.extractfile(f"cifar-10-batches-bin/{name}.bin") for name in names]
            content = b"".join(member.read() for member in members if member)
            records = np.frombuffer(content, np.uint8).reshape(-1, 1 + 3 * 32 * 32)
            images = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)  # (num_samples, 32, 32, 3)
            return LabelledImages(np.ascontiguousarray(images), records[:, 0].astype(np.int64))

        return PublishedSplits(read(*(f"data_batch_{batch}" for batch in range(1, 6))), read("test_batch"))


def _read_digits(folder: Path) -> PublishedSplits:
    """Reads scikit-learn's digits: 64 pixels of 0 to 16, then the label, per line; 16 becomes 255."""
    table = np.loadtxt(folder / "digits.csv.gz", delimiter=",", ndmin=2)
    images = np.rint(table[:, :-1] * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)
    return PublishedSplits(LabelledImages(images, table[:, -1].astype(np.int64)), None)


def _check_labelled(split: LabelledImages, num_classes: int, folder: Path) -> None:
    if split.images.ndim != 4 or split.images.dtype != np.uint8 or split.labels.ndim != 1:
        raise DataError(
            f"{folder}: expected uint8 images of shape (samples, height, width, channels) and labels of shape "
            f"(samples,). Received: {split.images.dtype} of shape {split.images.shape} and {split.labels.shape}."
        )
    if len(split.images) != len(split.labels):
        raise DataError(
            f"{folder}: expected a label per image. Received: {len(split.images):,} images and "
            f"{len(split.labels):,} labels."
        )
    found = np.unique(split.labels)
    if not np.array_equal(found, np.arange(num_classes)):
        raise DataError(f"{folder}: expected labels 0 to {num_classes - 1}. Received: {found.tolist()}.")
