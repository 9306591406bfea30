"""Writes a split image by image: what is in memory doesn't grow with the set."""

import hashlib
from array import array
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import numpy as np

from cotejo.data.decoding import Pixels


class Written(NamedTuple):
    """A written split: its labels, and the SHA-256 of its pixels and labels, the pixels first."""

    labels: np.ndarray[tuple[int], np.dtype[np.int64]]
    digest: str


class SplitWriter:
    """Writes `<split>_images.npy` and `<split>_labels.npy` byte for byte as `numpy.save` would write them whole.

    Args:
        folder: An existing folder.
        split: `train`, `val` or `test`.
    """

    def __init__(self, folder: Path, split: str) -> None:
        self.folder, self.split = folder, split
        self.labels = array("q")
        self._shape: tuple[int, ...] = ()
        self._digest = hashlib.sha256()
        self._file = self._path("images").open("wb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def append(self, image: Pixels, label: int) -> None:
        """Writes an image, uint8 of shape (height, width, channels), the same for all."""
        if not self._shape:
            self._shape = image.shape
            self._write_header()
        content = np.ascontiguousarray(image).data
        self._digest.update(content)
        self._file.write(content)
        self.labels.append(label)

    def finish(self) -> Written:
        """Writes what was not known before the last image: their number, and the labels."""
        labels = np.array(self.labels, np.int64)
        self._file.seek(0)
        self._write_header()
        self._file.close()
        np.save(self._path("labels"), labels)
        self._digest.update(labels.tobytes())
        return Written(labels, self._digest.hexdigest())

    def _write_header(self) -> None:
        # NumPy leaves room for 21 digits of the first length, so that a header can be written over another
        shape = (len(self.labels), *self._shape)
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._file, header)

    def _path(self, part: str) -> Path:
        return self.folder / f"{self.split}_{part}.npy"
