"""Arrays that stay on the disk: the rows that NumPy gives, and a file that changes."""

import gc
import os
import sys

import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cotejo.data.stored import StoredRows, open_stored, store_rows

COUNT = 40


@pytest.fixture(scope="module")
def array():
    return np.random.default_rng(0).integers(0, 256, (COUNT, 5, 4, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def stored(array, tmp_path_factory):
    path = tmp_path_factory.mktemp("stored") / "images.npy"
    np.save(path, array)
    return open_stored(path)


@given(
    first=st.none() | st.integers(-60, 60), end=st.none() | st.integers(-60, 60), step=st.sampled_from([None, 1, 2, -1])
)
@settings(max_examples=60, deadline=None)
def test_a_slice_has_the_rows_that_numpy_gives(array, stored, first, end, step):
    np.testing.assert_array_equal(stored[first:end:step], array[first:end:step], strict=True)


@given(rows=st.lists(st.integers(-COUNT, COUNT - 1), max_size=50), dtype=st.sampled_from([np.int64, np.int32, np.int8]))
@settings(max_examples=60, deadline=None)
def test_indices_have_the_rows_that_numpy_gives(array, stored, rows, dtype):
    chosen = np.array(rows, dtype=dtype)
    before = chosen.copy()
    np.testing.assert_array_equal(stored[chosen], array[chosen], strict=True)
    np.testing.assert_array_equal(chosen, before)


def test_whatever_else_is_done_with_it_gives_what_numpy_gives(array, stored):
    mask = np.arange(COUNT) % 3 == 0
    for use in (
        lambda a: a[3], lambda a: a[-1, 2], lambda a: a[2:9, 1:3, ..., 0], lambda a: a[mask], lambda a: a[[4, 1]],
        lambda a: a[np.array([[1, 2], [3, 3]])], lambda a: a.sum(axis=0), lambda a: a.reshape(COUNT, -1)[5:7],
        lambda a: a.T[1:2], lambda a: a[..., 1][7:9], lambda a: a.view(np.int8)[1:3], np.asarray,
        lambda a: a[np.array([], int)],
    ):  # fmt: skip
        np.testing.assert_array_equal(np.asarray(use(stored)), use(array))


@pytest.mark.parametrize("rows", [[COUNT], [0, -COUNT - 1]])
def test_a_row_that_is_not_there_is_refused(stored, rows):
    with pytest.raises(IndexError):
        stored[np.array(rows)]


def test_floats_behind_a_header_of_any_length_are_read(tmp_path):
    array = np.random.default_rng(1).normal(size=(7, 3)).astype(np.float32)
    (tmp_path / "rows").write_bytes(b"head" + array.tobytes())
    rows = store_rows(tmp_path / "rows", np.float32, 4, (7, 3))
    np.testing.assert_array_equal(rows[np.array([6, 0, 6])], array[[6, 0, 6]], strict=True)
    np.testing.assert_array_equal(rows[2:5], array[2:5], strict=True)


def test_an_array_in_the_order_of_fortran_is_read_too(tmp_path, array):
    np.save(tmp_path / "images.npy", np.asfortranarray(array))
    np.testing.assert_array_equal(open_stored(tmp_path / "images.npy")[3:5], array[3:5])


def test_it_can_not_be_changed_and_what_is_read_can(stored):
    with pytest.raises(ValueError, match="read-only"):
        stored[0] = 0
    rows = stored[1:3]
    rows[:] = 0
    assert not isinstance(rows, StoredRows)
    assert stored[1:3].any()


def test_a_file_that_becomes_shorter_while_it_is_read_is_an_error_and_no_crash(tmp_path, array):
    np.save(tmp_path / "images.npy", array)
    rows = open_stored(tmp_path / "images.npy")
    os.truncate(tmp_path / "images.npy", 1000)
    with pytest.raises(OSError, match="has become shorter"):
        rows[30:40]


@pytest.mark.skipif(sys.platform != "linux", reason="counts open files as Linux does")
def test_its_file_is_closed_with_it(tmp_path, array):
    np.save(tmp_path / "images.npy", array)
    before = psutil.Process().num_fds()
    rows = [open_stored(tmp_path / "images.npy") for _ in range(5)]
    assert rows[4][2:3].any()
    assert psutil.Process().num_fds() > before
    del rows
    gc.collect()
    assert psutil.Process().num_fds() <= before
