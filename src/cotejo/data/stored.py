"""Arrays that stay on the disk: rows are read when they are asked for, and only they take memory."""

import os
import weakref
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


class StoredRows(np.memmap[Any, np.dtype[Any]]):
    """An array in a file; `rows[10:20]` and `rows[indices]` are read from it into an array of their own.

    Pages of a plain memory map count as the process's own once they have been touched: after an epoch, all of them.
    Whatever else is done with the array is done with the map, as NumPy does it.
    """

    #: Of the file; a view of the array has none and is an ordinary map.
    _descriptor: int | None = None

    def __getitem__(self, key: Any) -> Any:  # noqa: ANN401 - as NumPy's
        if self._descriptor is None:
            return super().__getitem__(key)
        if isinstance(key, slice) and key.step in (None, 1):
            first, end, _ = key.indices(len(self))
            return self._read(first, max(end - first, 0))
        if isinstance(key, np.ndarray) and key.ndim == 1 and key.dtype.kind in "iu":
            return self._gather(key.astype(np.int64))
        return super().__getitem__(key)

    def _gather(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        if len(rows) and not -len(self) <= rows.min() <= rows.max() < len(self):
            raise IndexError(f"expected rows of {len(self):,}. Received: {rows.min()} to {rows.max()}.")
        rows %= len(self)
        if len(rows) and (np.diff(rows) == 1).all():
            return self._read(int(rows[0]), len(rows))
        found = np.empty((len(rows), *self.shape[1:]), self.dtype)
        content, size = _view_bytes(found), self._row_bytes
        for start, row in zip(range(0, found.nbytes, size or 1), rows.tolist(), strict=False):
            piece = content[start : start + size]
            # nearly always the whole of it, in one call
            if os.preadv(self._descriptor or 0, (piece,), self.offset + row * size) != size:
                self._fill(piece, row)
        return found

    def _read(self, first: int, count: int) -> NDArray[Any]:
        found = np.empty((count, *self.shape[1:]), self.dtype)
        self._fill(_view_bytes(found), first)
        return found

    @property
    def _row_bytes(self) -> int:
        return self.nbytes // len(self) if len(self) else 0

    def _fill(self, content: memoryview, row: int) -> None:
        """Fills a piece of memory with the rows from one on."""
        position = self.offset + row * self._row_bytes
        while content:
            num_read = os.preadv(self._descriptor or 0, [content], position)
            if not num_read:
                raise OSError(f"{self.filename} has become shorter while it was read. Run `dvc checkout`, and again.")
            content, position = content[num_read:], position + num_read


def open_stored(path: Path) -> NDArray[Any]:
    """Opens a `.npy` file without reading its rows.

    Args:
        path: What `np.save` has written.

    Returns:
        The array, which can't be changed.

    Raises:
        OSError: The file can't be read.
        ValueError: It isn't such a file, is shorter than it says, or holds Python's objects.
    """
    mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    return store_rows(path, mapped.dtype, mapped.offset, mapped.shape) if mapped.flags.c_contiguous else mapped


def store_rows(path: Path, dtype: np.dtype[Any] | type, offset: int, shape: tuple[int, ...]) -> NDArray[Any]:
    """Opens rows that begin at an offset in a file, as `open_stored` does."""
    rows = StoredRows(path, dtype, "r", offset, shape)
    if hasattr(os, "preadv"):  # not on Windows, whose maps have to do
        rows._descriptor = os.open(path, os.O_RDONLY)
        weakref.finalize(rows, os.close, rows._descriptor)
    return rows


def _view_bytes(array: NDArray[Any]) -> memoryview:
    return array.reshape(-1).view(np.uint8).data
