"""Readers of the formats in which data sets are published; nothing is ever unpickled."""

import gzip
import io
import math
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cotejo.errors import DataError

#: First bytes of an IDX file of unsigned bytes; its number of dimensions follows. http://yann.lecun.com/exdb/mnist
IDX_UNSIGNED_BYTES = b"\x00\x00\x08"

#: What a file may unpack to, five times the largest that we know: a few kilobytes can declare any size.
MAX_BYTES = 1 << 30


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
            where=folder,
            expected=f"a data set in the {file_format} format",
            received=error,
            advice="Delete the folder and run `dvc repro download` again",
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
        start = file.read(4)
        num_dimensions = start[3] if start[:3] == IDX_UNSIGNED_BYTES and len(start) == 4 else -1
        lengths = file.read(4 * max(num_dimensions, 0))
        if len(lengths) != 4 * num_dimensions:
            raise DataError(
                where=path, expected="an IDX file of unsigned bytes", received=f"first bytes {start.hex()!r}"
            )
        shape = tuple(int(length) for length in np.frombuffer(lengths, ">u4"))
        declared = math.prod(shape)
        _check_size(path, declared, f"shape {shape}")
        values = np.frombuffer(file.read(declared + 1), np.uint8)  # one more tells that there is more
    if values.size != declared:
        received = f"{values.size:,}" + (" or more" if values.size > declared else "")
        raise DataError(where=path, expected=f"{declared:,} values for shape {shape}", received=received)
    return values.reshape(shape)


def _read_mnist_layout(folder: Path) -> PublishedSplits:
    def read(prefix: str) -> LabelledImages:
        images = read_idx(folder / f"{prefix}-images-idx3-ubyte.gz")
        labels = read_idx(folder / f"{prefix}-labels-idx1-ubyte.gz")
        return LabelledImages(images[..., np.newaxis], labels.astype(np.int64))

    return PublishedSplits(read("train"), read("t10k"))


def _read_npz(folder: Path) -> PublishedSplits:
    path = folder / "mnist.npz"
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            with archive.open(member) as content:
                _check_npy(path, content)
    # numpy leaves a damaged archive open that it has opened itself
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        train, test = (
            LabelledImages(arrays[f"x_{split}"][..., np.newaxis], arrays[f"y_{split}"].astype(np.int64))
            for split in ("train", "test")
        )
    return PublishedSplits(train, test)


def _read_cifar(folder: Path) -> PublishedSplits:
    """Reads CIFAR-10's binary version: a label byte, then 32x32 red, green and blue bytes, per image."""
    names = [*(f"data_batch_{batch}" for batch in range(1, 6)), "test_batch"]
    contents = {}
    # as a stream: nothing is extracted to the disk, wherever a member says that it belongs
    with (
        _open_gzip(folder / "cifar-10-binary.tar.gz") as file,
        tarfile.open(fileobj=file, mode="r|") as archive,
    ):
        for member in archive:
            if member.isfile() and (content := archive.extractfile(member)):
                contents[member.name] = content.read()

    def read(*names: str) -> LabelledImages:
        content = b"".join(contents[f"cifar-10-batches-bin/{name}.bin"] for name in names)
        records = np.frombuffer(content, np.uint8).reshape(-1, 1 + 3 * 32 * 32)
        images = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)  # (num_samples, 32, 32, 3)
        return LabelledImages(np.ascontiguousarray(images), records[:, 0].astype(np.int64))

    return PublishedSplits(read(*names[:-1]), read(names[-1]))


def _read_digits(folder: Path) -> PublishedSplits:
    """Reads scikit-learn's digits: 64 pixels of 0 to 16, then the label, per line; 16 becomes 255."""
    with _open_gzip(folder / "digits.csv.gz") as file:
        table = np.loadtxt(file, delimiter=",", ndmin=2)
    images = np.rint(table[:, :-1] * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)
    return PublishedSplits(LabelledImages(images, table[:, -1].astype(np.int64)), None)


class _BoundedGzip(io.RawIOBase):
    """A gzipped file that is refused when it unpacks to more than `MAX_BYTES`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = gzip.open(path, "rb")  # noqa: SIM115 - closed with this object
        self.num_bytes = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:  # noqa: ANN401 - whatever can be written to
        size = self.file.readinto(buffer)
        self.num_bytes += size
        _check_size(self.path, self.num_bytes, "a file that unpacks to more")
        return size

    def close(self) -> None:
        self.file.close()
        super().close()


def _open_gzip(path: Path) -> io.BufferedReader:
    return io.BufferedReader(_BoundedGzip(path))


def _check_npy(path: Path, content: IO[bytes]) -> None:
    """Refuses an array whose header declares an absurd size, for which NumPy would make room first."""
    is_first = np.lib.format.read_magic(content) == (1, 0)
    read_header = np.lib.format.read_array_header_1_0 if is_first else np.lib.format.read_array_header_2_0
    shape, _, dtype = read_header(content)
    _check_size(path, math.prod(shape) * dtype.itemsize, f"shape {shape}")


def _check_size(path: Path, num_bytes: int, received: str) -> None:
    if num_bytes > MAX_BYTES:
        raise DataError(
            where=path,
            expected=f"at most {MAX_BYTES:,} bytes of data",
            received=received,
            advice="Delete the file and run `dvc repro download` again",
        )


def _check_labelled(split: LabelledImages, num_classes: int, folder: Path) -> None:
    if split.images.ndim != 4 or split.images.dtype != np.uint8 or split.labels.ndim != 1:
        raise DataError(
            where=folder,
            expected="uint8 images of shape (samples, height, width, channels) and labels of shape (samples,)",
            received=f"{split.images.dtype} of shape {split.images.shape} and {split.labels.shape}",
        )
    if len(split.images) != len(split.labels):
        raise DataError(
            where=folder,
            expected="a label per image",
            received=f"{len(split.images):,} images and {len(split.labels):,} labels",
        )
    found = np.unique(split.labels)
    if not np.array_equal(found, np.arange(num_classes)):
        raise DataError(where=folder, expected=f"labels 0 to {num_classes - 1}", received=found.tolist())
