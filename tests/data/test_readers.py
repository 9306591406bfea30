"""Published files to arrays: every form of damage is one DataError, never another exception."""

import gzip
import io
import struct
import tarfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from sklearn.datasets import load_digits

from cotejo.data.fetching import Fetcher
from cotejo.data.readers import read_idx, read_published
from cotejo.data.sources import SOURCES
from cotejo.errors import DataError

LABELS = np.array([0, 1, 0, 1], np.uint8)
IMAGES = np.arange(4 * 3 * 5, dtype=np.uint8).reshape(4, 3, 5)
IDX_NAMES = [f"{split}-{part}-ubyte.gz" for split in ("train", "t10k") for part in ("images-idx3", "labels-idx1")]


def encode_idx(array, type_code=8):
    header = struct.pack(f">HBB{array.ndim}I", 0, type_code, array.ndim, *array.shape)
    return header + array.tobytes()


def write_idx(folder, images=IMAGES, labels=LABELS):
    """Writes a data set in MNIST's layout; arrays, or the bytes of the .gz files."""
    for name in IDX_NAMES:
        content = images if "images" in name else labels
        packed = content if isinstance(content, bytes) else gzip.compress(encode_idx(content), 1)
        (folder / name).write_bytes(packed)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("idx")


@given(arrays(np.uint8, array_shapes(min_dims=1, max_dims=4, max_side=6)))
def test_idx_gives_back_what_was_written(folder, array):
    file = folder / "array.gz"
    file.write_bytes(gzip.compress(encode_idx(array), 1))
    received = read_idx(file)
    assert received.dtype == np.uint8
    np.testing.assert_array_equal(received, array)


def test_a_data_set_in_mnists_layout_has_a_channel_and_int64_labels(tmp_path):
    train, test = read_published("idx", write_idx(tmp_path), num_classes=2)
    for split in (train, test):
        assert (split.images.shape, split.images.dtype) == ((4, 3, 5, 1), np.uint8)
        assert split.labels.dtype == np.int64
        np.testing.assert_array_equal(split.images[..., 0], IMAGES)
        np.testing.assert_array_equal(split.labels, LABELS)


PACKED = gzip.compress(encode_idx(IMAGES), 1)


@given(st.integers(0, len(PACKED) - 1))
def test_a_truncated_idx_file_is_refused(folder, length):
    with pytest.raises(DataError, match=r"dvc repro download|expected an IDX file"):
        read_published("idx", write_idx(folder, images=PACKED[:length]), num_classes=2)


@given(st.integers(0, len(encode_idx(IMAGES)) - 1))
def test_idx_content_that_ends_early_is_refused(folder, length):
    with pytest.raises(DataError):
        read_published("idx", write_idx(folder, images=gzip.compress(encode_idx(IMAGES)[:length], 1)), num_classes=2)


@given(st.integers(10, len(PACKED) - 1), st.integers(1, 255))
def test_a_garbled_idx_file_is_refused_or_harmless(folder, position, change):
    garbled = bytearray(PACKED)
    garbled[position] ^= change
    try:
        train, _ = read_published("idx", write_idx(folder, images=bytes(garbled)), num_classes=2)
    except DataError:
        return
    np.testing.assert_array_equal(train.images[..., 0], IMAGES)


@given(st.binary(max_size=64), st.sampled_from(["images", "labels"]))
def test_arbitrary_idx_content_is_refused_or_read_as_images_with_labels(folder, content, part):
    header = encode_idx(IMAGES if part == "images" else LABELS)[: 4 + 4 * (3 if part == "images" else 1)]
    for candidate in (content, header[:4] + content):
        try:
            train, _ = read_published("idx", write_idx(folder, **{part: gzip.compress(candidate, 1)}), num_classes=2)
        except DataError:
            continue
        assert train.images.ndim == 4
        assert train.labels.shape == (len(train.images),)


@pytest.mark.parametrize(
    ("images", "labels", "said"),
    [
        (IMAGES.reshape(4, 15), LABELS, "shape"),
        (IMAGES, LABELS.reshape(4, 1), "shape"),
        (IMAGES, LABELS[0], "shape"),
        (IMAGES, LABELS[:3], "expected a label per image. Received: 4 images and 3 labels"),
        (IMAGES, LABELS + 1, r"expected labels 0 to 1. Received: \[1, 2\]"),
        (IMAGES, LABELS * 0, r"expected labels 0 to 1. Received: \[0\]"),
        (IMAGES[:0], LABELS[:0], r"expected labels 0 to 1. Received: \[\]"),
        (gzip.compress(encode_idx(IMAGES, type_code=9)), LABELS, "IDX file of unsigned bytes. Received: .*00000903"),
        (gzip.compress(encode_idx(IMAGES) + b"x"), LABELS, r"expected 60 values for shape \(4, 3, 5\). Received: 61"),
        (encode_idx(IMAGES), LABELS, "Not a gzipped file"),
    ],
    ids=["flat", "labels-2d", "labels-0d", "too-few", "from-one", "one-class", "none", "type", "too-long", "no-gzip"],
)
def test_an_idx_data_set_of_another_form_is_refused_with_what_was_found(tmp_path, images, labels, said):
    with pytest.raises(DataError, match=said):
        read_published("idx", write_idx(tmp_path, images, labels), num_classes=2)


def test_missing_files_are_named_with_what_to_do(tmp_path):
    for file_format, name in (("idx", IDX_NAMES[0]), ("npz", "mnist.npz"), ("cifar", "cifar-10-binary.tar.gz")):
        with pytest.raises(DataError, match=rf"{file_format} format.*{name}.*run `dvc repro download` again"):
            read_published(file_format, tmp_path, num_classes=2)


@pytest.fixture
def npz(tmp_path):
    def write(**changes):
        arrays = {"x_train": IMAGES, "y_train": LABELS, "x_test": IMAGES[:2], "y_test": LABELS[:2], **changes}
        np.savez(tmp_path / "mnist.npz", **arrays)
        return tmp_path

    return write


def test_mnists_npz_is_read(npz):
    train, test = read_published("npz", npz(), num_classes=2)
    np.testing.assert_array_equal(train.images[..., 0], IMAGES)
    np.testing.assert_array_equal(test.images[..., 0], IMAGES[:2])
    np.testing.assert_array_equal(test.labels, LABELS[:2])


@pytest.mark.parametrize(
    "changes",
    [{"x_train": np.array([None] * 4)}, {"x_train": IMAGES / 255}, {"y_test": LABELS[:1]}, {"x_test": IMAGES[0]}],
    ids=["pickled", "floats", "too-few-labels", "one-image"],
)
def test_an_npz_of_another_form_is_refused(npz, changes):
    with pytest.raises(DataError):
        read_published("npz", npz(**changes), num_classes=2)


@pytest.mark.parametrize("damage", [lambda c: c[:-30], lambda c: c[:200] + b"\xff" * 20 + c[220:], lambda _: b""])
def test_a_damaged_npz_is_refused(npz, damage):
    file = npz() / "mnist.npz"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(DataError, match="npz format"):
        read_published("npz", file.parent, num_classes=2)


CIFAR_NAMES = [*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"]


def write_cifar(folder, records, names=CIFAR_NAMES):
    with tarfile.open(folder / "cifar-10-binary.tar.gz", "w:gz") as archive:
        for name in names:
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(records)
            archive.addfile(member, io.BytesIO(records))
    return folder


def encode_cifar(labels, images):
    """The binary version: https://www.cs.toronto.edu/~kriz/cifar.html."""
    return b"".join(
        bytes([label]) + b"".join(image[:, :, channel].tobytes() for channel in range(3))
        for label, image in zip(labels, images, strict=True)
    )


def test_cifars_red_green_and_blue_planes_become_channels(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    train, test = read_published("cifar", write_cifar(tmp_path, encode_cifar([0, 1], images)), num_classes=2)
    np.testing.assert_array_equal(test.images, images)
    np.testing.assert_array_equal(test.labels, [0, 1])
    np.testing.assert_array_equal(train.images, np.tile(images, (5, 1, 1, 1)))


def test_a_cifar_archive_that_lacks_a_batch_or_a_byte_is_refused(tmp_path):
    records = encode_cifar([0, 1], np.zeros((2, 32, 32, 3), np.uint8))
    for content, names in ((records, CIFAR_NAMES[1:]), (records[:-1], CIFAR_NAMES)):
        with pytest.raises(DataError, match="cifar format"):
            read_published("cifar", write_cifar(tmp_path, content, names), num_classes=2)
    file = write_cifar(tmp_path, records) / "cifar-10-binary.tar.gz"
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(DataError, match="cifar format"):
        read_published("cifar", tmp_path, num_classes=2)


def test_the_digits_are_scikit_learns_with_white_at_255(tmp_path):
    Fetcher(1.0, tmp_path, None, tmp_path).fetch(SOURCES["digits"].files[0], tmp_path)
    digits, test = read_published("digits", tmp_path, num_classes=10)
    expected = load_digits()
    assert test is None, "the authors made no test set of it"
    np.testing.assert_allclose(digits.images[..., 0] * (16 / 255), expected.images, atol=0.04)
    np.testing.assert_array_equal(digits.labels, expected.target)
    assert (digits.images.dtype, digits.images.max()) == (np.uint8, 255)


@pytest.mark.parametrize("content", [b"1,2,3\n", b"one,two\n"], ids=["too-short", "text"])
def test_a_digits_file_of_another_form_is_refused(tmp_path, content):
    (tmp_path / "digits.csv.gz").write_bytes(gzip.compress(content))
    with pytest.raises(DataError, match="digits format"):
        read_published("digits", tmp_path, num_classes=10)
